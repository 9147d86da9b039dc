//! Kinds of core: which cores of a hybrid processor are of one kind, by the facts of hwloc or the
//! kernel. Pure.

use std::collections::BTreeMap;

use crate::types::ids::HostCpu;

/// Cores that a source describes with equal facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// CPUs of the cores.
    pub cpus: Vec<HostCpu>,
    /// Number of cores.
    pub cores: usize,
    /// Design of the core as the source names it (`CoreType=IntelAtom`); empty: not told.
    pub design: String,
    /// Capacity as Linux counts it, 1024 for the fastest core of an arm64 host.
    pub capacity: Option<u64>,
    /// Base frequency in MHz.
    pub base: Option<u64>,
    /// Maximum frequency in MHz.
    pub maximum: Option<u64>,
}

impl Group {
    /// Returns whether both groups are of one kind.
    ///
    /// Capacities within 10 % are one kind. Frequencies make two kinds only if base and maximum
    /// are both more than 10 % apart and each group has several cores (cores of one design built
    /// for less power): favoured cores (Turbo Boost Max, Speed Select) differ in the maximum alone.
    fn is_like(&self, other: &Self) -> bool {
        if self.design != other.design {
            return false;
        }
        if let (Some(a), Some(b)) = (self.capacity, other.capacity) {
            return !apart(a, b);
        }
        let differs = |a: Option<u64>, b: Option<u64>| matches!((a, b), (Some(a), Some(b)) if apart(a, b));
        let several = self.cores > 1 && other.cores > 1;
        !(several && differs(self.base, other.base) && differs(self.maximum, other.maximum))
    }
}

/// Returns whether two numbers differ by more than 10 % of the larger one.
fn apart(a: u64, b: u64) -> bool {
    a.abs_diff(b).saturating_mul(10) > a.max(b)
}

/// Returns the rank of each CPU's kind, 0 for the first group's; empty where all groups are alike.
/// Groups are given fastest first. A group joins the first kind whose first group it is like.
pub(crate) fn ranks(groups: &[Group]) -> BTreeMap<HostCpu, u32> {
    let mut heads: Vec<&Group> = Vec::new();
    let mut ranks = BTreeMap::new();
    for group in groups {
        let rank = heads
            .iter()
            .position(|head| head.is_like(group))
            .unwrap_or_else(|| {
                heads.push(group);
                heads.len() - 1
            });
        ranks.extend(group.cpus.iter().map(|cpu| (*cpu, rank as u32)));
    }
    if heads.len() < 2 {
        ranks.clear();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(first: u32, cores: usize) -> Group {
        Group {
            cpus: (first..first + cores as u32).map(HostCpu).collect(),
            cores,
            ..Group::default()
        }
    }

    /// Lists the rank of each group's first CPU; empty where there is one kind.
    fn told(groups: &[Group]) -> Vec<u32> {
        let ranks = ranks(groups);
        let first = groups.iter().filter_map(|group| group.cpus.first());
        first.filter_map(|cpu| ranks.get(cpu).copied()).collect()
    }

    #[test]
    fn designs_make_kinds_and_favoured_cores_do_not() {
        let of = |design: &str, first, cores, base, maximum| Group {
            design: design.into(),
            base,
            maximum,
            ..group(first, cores)
        };
        let i9 = [
            of("IntelCore", 0, 2, Some(3000), Some(5800)),
            of("IntelCore", 2, 6, Some(3000), Some(5500)),
            of("IntelAtom", 8, 16, Some(2200), Some(4300)),
        ];
        assert_eq!(told(&i9), [0, 0, 1]);
        // Speed Select: other base and maximum, but few cores are favoured in both.
        let lone = [
            of("", 0, 1, Some(3000), Some(4500)),
            of("", 1, 15, Some(2300), Some(3500)),
        ];
        assert_eq!(told(&lone), Vec::<u32>::new());
    }

    #[test]
    fn frequencies_make_kinds_where_base_and_maximum_are_apart() {
        let of = |first, cores, base, maximum| Group {
            base,
            maximum,
            ..group(first, cores)
        };
        let table = [
            // dense cores of one design
            (Some(4100), Some(5000), Some(3200), Some(3700), vec![0, 1]),
            // the maximum alone
            (Some(3000), Some(5800), Some(3000), Some(4300), vec![]),
            // the base alone
            (Some(4100), Some(5000), Some(3200), Some(4900), vec![]),
            // the base is not told
            (None, Some(5000), None, Some(3700), vec![]),
            // within a tenth
            (Some(3000), Some(5000), Some(2800), Some(4600), vec![]),
        ];
        for (base, maximum, slow_base, slow_maximum, want) in table {
            let groups = [of(0, 2, base, maximum), of(2, 4, slow_base, slow_maximum)];
            assert_eq!(told(&groups), want, "{groups:?}");
        }
    }

    #[test]
    fn capacities_within_a_tenth_are_one_kind() {
        let of = |first, capacity| Group {
            capacity: Some(capacity),
            ..group(first, 2)
        };
        assert_eq!(told(&[of(0, 1024), of(2, 940), of(4, 400)]), [0, 0, 1]);
        assert_eq!(told(&[of(0, 1024), of(2, 922)]), Vec::<u32>::new());
        assert_eq!(told(&[of(0, 1024), of(2, 921)]), [0, 1]);
    }
}
