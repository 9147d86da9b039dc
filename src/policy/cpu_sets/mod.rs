//! The host's CPUs by role: housekeeping, dedicated and shared.

use std::collections::BTreeMap;

use crate::host::{Core, Host};
use crate::policy::{HostPolicy, SetRule};
use crate::types::ids::NodeId;
use crate::types::idset::CpuSet;
use crate::types::reason::SetWarning;

/// CPU sets of one policy on one host. They contain only CPUs that are online and that guests may
/// use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sets {
    /// CPUs for the host, emulator threads and iothreads. An isolated CPU is in the set only where
    /// the set is that CPU alone.
    pub housekeeping: CpuSet,
    /// CPUs that may be handed out to one vCPU alone.
    pub dedicated: CpuSet,
    /// CPUs for floating threads where the policy gives them. `None` (`"auto"`): every CPU that is
    /// not isolated and that no guest holds. An isolated CPU is in the set only where the set is
    /// that CPU alone.
    pub shared: Option<CpuSet>,
    /// Warnings of what the policy asks for and this host does not allow.
    pub notes: Vec<SetWarning>,
}

impl Sets {
    /// Returns the CPUs that a floating guest may use while other guests hold `held`; may be empty.
    pub fn shared_now(&self, host: &Host, held: &CpuSet) -> CpuSet {
        let all = match &self.shared {
            Some(explicit) => explicit.clone(),
            None => usable(host).difference(&host.isolated),
        };
        all.difference(held)
    }
}

/// Works out the CPU sets of a policy on a host.
pub fn resolve(policy: &HostPolicy, host: &Host) -> Sets {
    // No set may contain a CPU that guests cannot use.
    let usable = usable(host);
    let isolated = host.isolated.intersection(&usable);
    let mut notes = Vec::new();
    let kept_out = host.online.difference(&usable);
    if !kept_out.is_empty() {
        notes.push(SetWarning::CpusKeptOut { cpus: kept_out });
    }
    // CPUs that the policy lists, as far as this host has them.
    let mut given = |name: &'static str, rule: &SetRule| explicit(name, rule, host, &usable, &mut notes);
    let housekeeping_given = given("housekeeping", &policy.housekeeping);
    let dedicated_given = given("dedicated", &policy.dedicated);
    let shared_given = given("shared", &policy.shared);

    // A CPU that is listed for one set is kept out of the automatic sets, also where it cannot be
    // in the listed set on this host (an isolated CPU in `housekeeping`, say).
    let listed = |rule: &SetRule| match rule {
        SetRule::Cpus(cpus) => cpus.clone(),
        _ => CpuSet::new(),
    };
    let dedicated_listed = listed(&policy.dedicated);
    let shared_listed = listed(&policy.shared);

    // Housekeeping first: the other automatic sets take what it leaves.
    let plain = usable.difference(&isolated);
    let housekeeping = match &policy.housekeeping {
        SetRule::Cpus(_) => masked("housekeeping", housekeeping_given, &isolated, &mut notes),
        SetRule::CoresPerNode(count) => {
            let free = plain.difference(&dedicated_listed).difference(&shared_listed);
            cores_per_node("housekeeping", *count, host, &free, &mut notes)
        }
        SetRule::Auto if !isolated.is_empty() => plain.difference(&dedicated_listed),
        SetRule::Auto => auto_housekeeping(host, &usable, &dedicated_listed),
    };
    // Shared: a number of cores is counted on the cores that the two other sets leave.
    let taken = housekeeping.union(&listed(&policy.housekeeping));
    let shared = match &policy.shared {
        SetRule::Auto => None,
        SetRule::Cpus(_) => Some(masked("shared", shared_given, &isolated, &mut notes)),
        SetRule::CoresPerNode(count) => {
            let free = plain.difference(&dedicated_listed).difference(&taken);
            Some(cores_per_node("shared", *count, host, &free, &mut notes))
        }
    };
    // Dedicated last: by default the isolated CPUs, or else every CPU in no other set.
    let spoken_for = taken
        .union(&shared_listed)
        .union(&shared.clone().unwrap_or_default());
    let mut dedicated = match &policy.dedicated {
        SetRule::Cpus(_) => dedicated_given,
        _ if !isolated.is_empty() => isolated.difference(&spoken_for),
        _ => usable.difference(&spoken_for),
    };
    // With one core, a guest that had it alone would leave nothing to the host.
    if host.cores.len() <= 1 && !dedicated.is_empty() {
        dedicated = CpuSet::new();
        if matches!(policy.dedicated, SetRule::Cpus(_)) {
            notes.push(SetWarning::OneCore);
        }
    }
    Sets {
        housekeeping,
        dedicated,
        shared,
        notes,
    }
}

/// Returns the CPUs that are online and that `machine.slice`'s cpuset allows to guests.
pub(crate) fn usable(host: &Host) -> CpuSet {
    match &host.guest_cpus {
        Some(allowed) => host.online.intersection(allowed),
        None => host.online.clone(),
    }
}

/// Returns true if a mask makes its thread floating: several CPUs that cover the whole dedicated
/// set. Such a mask expresses no choice, so its thread holds none of the CPUs.
pub(crate) fn floats(mask: &CpuSet, dedicated: &CpuSet) -> bool {
    mask.len() > 1 && dedicated.is_subset(mask)
}

/// Returns the CPUs of a list that guests can use on this host, with a note for CPUs that are
/// missing or offline; empty for the other forms of a set.
fn explicit(
    set: &'static str,
    rule: &SetRule,
    host: &Host,
    usable: &CpuSet,
    notes: &mut Vec<SetWarning>,
) -> CpuSet {
    let SetRule::Cpus(cpus) = rule else {
        return CpuSet::new();
    };
    let present = host.online.union(&host.offline);
    let missing = cpus.difference(&present);
    if !missing.is_empty() {
        notes.push(SetWarning::CpusMissing { set, cpus: missing });
    }
    let offline = cpus.intersection(&host.offline).difference(&host.online);
    if !offline.is_empty() {
        notes.push(SetWarning::CpusOffline { set, cpus: offline });
    }
    cpus.intersection(usable)
}

/// Takes isolated CPUs out of a set of several CPUs, with a note. The kernel does not balance
/// threads over isolated CPUs: threads with such a mask would pile up on one of them.
fn masked(set: &'static str, cpus: CpuSet, isolated: &CpuSet, notes: &mut Vec<SetWarning>) -> CpuSet {
    let both = cpus.intersection(isolated);
    if both.is_empty() || cpus.len() <= 1 {
        return cpus;
    }
    notes.push(SetWarning::CpusIsolated { set, cpus: both });
    cpus.difference(isolated)
}

/// Returns the cores of each node in the order of their first CPU; nodes without cores are absent.
fn by_node(host: &Host) -> BTreeMap<NodeId, Vec<&Core>> {
    let mut nodes: BTreeMap<NodeId, Vec<&Core>> = BTreeMap::new();
    for core in &host.cores {
        nodes.entry(core.node).or_default().push(core);
    }
    for cores in nodes.values_mut() {
        cores.sort_by_key(|core| core.cpus.first().copied());
    }
    nodes
}

fn cpus_of(core: &Core) -> CpuSet {
    core.cpus.iter().copied().collect()
}

/// Returns the first `count` cores of each node whose CPUs are all in `free`, with a note for nodes
/// that have fewer.
fn cores_per_node(
    set: &'static str,
    count: u32,
    host: &Host,
    free: &CpuSet,
    notes: &mut Vec<SetWarning>,
) -> CpuSet {
    let mut out = CpuSet::new();
    for (node, cores) in by_node(host) {
        let whole: Vec<CpuSet> = cores
            .iter()
            .map(|core| cpus_of(core))
            .filter(|cpus| cpus.is_subset(free))
            .collect();
        if whole.len() < count as usize {
            notes.push(SetWarning::FewCores {
                set,
                count,
                node,
                has: whole.len(),
            });
        }
        whole
            .iter()
            .take(count as usize)
            .for_each(|cpus| out.extend_from(cpus));
    }
    out
}

/// Returns ⌈cores/16⌉ cores of each node, at most a quarter of the node and at least one core on
/// the host: slow cores where there are some, then those of the smaller cache, then the first.
/// CPUs that the policy lists as dedicated are avoided.
fn auto_housekeeping(host: &Host, usable: &CpuSet, dedicated: &CpuSet) -> CpuSet {
    let free = usable.difference(dedicated);
    let least_missed = |core: &&Core| {
        let cache = host.llcs.get(core.llc).map(|llc| llc.size);
        (std::cmp::Reverse(core.kind), cache)
    };
    let mut out = CpuSet::new();
    let mut first = None;
    for mut cores in by_node(host).into_values() {
        let all = cores
            .iter()
            .filter(|core| !cpus_of(core).is_disjoint(usable))
            .count();
        let count = all.div_ceil(16).min(all / 4);
        cores.sort_by_key(least_missed);
        let mut whole = cores.iter().filter_map(|core| {
            let cpus = cpus_of(core).intersection(usable);
            (!cpus.is_empty() && cpus.is_subset(&free)).then_some((least_missed(core), cpus))
        });
        for (_, cpus) in whole.by_ref().take(count) {
            out.extend_from(&cpus);
        }
        first = first
            .into_iter()
            .chain(whole.next())
            .min_by_key(|(least_missed, _)| *least_missed);
    }
    if !out.is_empty() {
        return out;
    }
    // No node is large enough to give a core: one core for the whole host. Where every core has a
    // dedicated CPU: the other CPUs of the first core that has any.
    first.map(|(_, cpus)| cpus).unwrap_or_else(|| {
        host.cores
            .iter()
            .map(|core| cpus_of(core).intersection(&free))
            .find(|cpus| !cpus.is_empty())
            .unwrap_or_default()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
