//! Rows of the table of changes. Changes that are alike are folded into one row.

use crate::render::value;
use crate::types::ids::VcpuId;
use crate::types::idset::VcpuSet;
use crate::types::plan::Change;
use crate::types::setting::{Target, Value};
use crate::types::target::Key;

/// Row of a table; several changes of one kind may share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Label: `vcpupin 0-3`, `disk vda,vdb cache`.
    pub label: String,
    pub was: String,
    pub becomes: String,
    pub why: String,
    /// Consequence an administrator should know of.
    pub consequence: Option<&'static str>,
}

/// Makes the rows of some changes, in order. `vcpus` is the guest's number of vCPUs, for libvirt's
/// default topology; 0: unknown.
pub(crate) fn rows<'a>(changes: impl Iterator<Item = &'a Change>, vcpus: usize) -> Vec<Row> {
    let mut folded: Vec<Vec<&Change>> = Vec::new();
    for change in changes {
        let alike = folded
            .iter_mut()
            .find(|row| row.first().is_some_and(|first| shares_row(first, change)));
        match alike {
            Some(row) => row.push(change),
            None => folded.push(vec![change]),
        }
    }
    folded.into_iter().filter_map(|row| one(row, vcpus)).collect()
}

/// Returns whether two changes share a row: they are of one kind, for one reason, and to one value,
/// except pins and cells, whose values are listed.
fn shares_row(first: &Change, other: &Change) -> bool {
    let lists_values = matches!(
        first.target,
        Target::VcpuPin(_) | Target::IothreadPin(_) | Target::MemNode(_)
    );
    let hyperv = |change: &Change| matches!(change.target, Target::Hyperv(_));
    let one_kind = first.target.row() == other.target.row() || (hyperv(first) && hyperv(other));
    first.target.key().is_some()
        && one_kind
        && first.why == other.why
        && (lists_values || (&first.from, &first.to) == (&other.from, &other.to))
}

fn one(mut changes: Vec<&Change>, vcpus: usize) -> Option<Row> {
    // Numbers are in order; names stay in the order of the document.
    changes.sort_by_key(|change| match change.target.key() {
        Some(Key::Number(number)) => number,
        Some(Key::Name(_)) | None => 0,
    });
    let first = changes.first()?;
    let default = match first.target {
        Target::Topology if vcpus > 0 => value::default_topology(vcpus),
        _ => "-".to_string(),
    };
    let listed = |pick: fn(&Change) -> &Value| {
        let shown = |change: &&Change| value::words(pick(change)).unwrap_or_else(|| default.clone());
        let all: Vec<String> = changes.iter().map(shown).collect();
        match all.split_first() {
            Some((one, rest)) if rest.iter().all(|other| other == one) => one.clone(),
            // Masks of several CPUs contain commas themselves.
            _ if all.iter().any(|value| value.contains([',', ' '])) => all.join(" | "),
            _ => all.join(","),
        }
    };
    Some(Row {
        label: label(&changes),
        was: listed(|change| &change.from),
        becomes: listed(|change| &change.to),
        why: first.why.to_string(),
        consequence: value::consequence(&first.target, &first.to),
    })
}

/// Words the targets of a row: kind, keys, and the attribute of a device.
fn label(changes: &[&Change]) -> String {
    let Some(first) = changes.first() else {
        return String::new();
    };
    let row = first.target.row();
    let detail = row.attribute.filter(|_| row.is_of_device());
    let keys = changes.iter().filter_map(|change| change.target.key());
    let parts = [
        // Labels are lower-case throughout.
        row.words.to_lowercase(),
        joined(keys),
        detail.unwrap_or_default().into(),
    ];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" ")
}

/// Joins keys: numbers as ranges, names as they are.
fn joined<'a>(keys: impl Iterator<Item = Key<'a>>) -> String {
    let mut numbers = VcpuSet::new();
    let mut names = Vec::new();
    for key in keys {
        match key {
            // Sets print their ranges.
            Key::Number(number) => drop(numbers.insert(VcpuId(number))),
            Key::Name(name) => names.push(name),
        }
    }
    match names.is_empty() {
        true => numbers.to_string(),
        false => names.join(","),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::cpulist;
    use crate::types::reason::Basis;
    use crate::types::setting::DiskAttribute;
    use crate::types::target::Effect;

    fn change(target: Target, to: Value, why: Basis) -> Change {
        Change {
            target,
            from: Value::Absent,
            to,
            why,
            effect: Effect::NextStart,
        }
    }

    #[test]
    fn targets_become_words() {
        let disk = |name: &str, attribute| Target::Disk(name.into(), attribute);
        for (target, want) in [
            (Target::VcpuCpuset, "vcpu cpuset"),
            (Target::VcpuPin(VcpuId(12)), "vcpupin 12"),
            (Target::CpuMode, "cpu mode"),
            (
                Target::CpuFeature("tsc-deadline".into()),
                "cpu feature tsc-deadline",
            ),
            (Target::HintDedicated, "kvm hint-dedicated"),
            (disk("vda", DiskAttribute::Cache), "disk vda cache"),
            (disk("a'/b", DiskAttribute::Io), "disk a'/b io"),
            (Target::ScsiIothread(0), "scsi controller 0 iothread"),
        ] {
            let change = change(target, Value::Absent, Basis::ByProfile);
            assert_eq!(rows(std::iter::once(&change), 0)[0].label, want);
        }
    }

    #[test]
    fn pins_share_a_row_in_the_order_of_the_vcpus() {
        let pin = |vcpu: u32, cpus: &str| {
            let cpus = Value::Cpus(cpulist::parse(cpus).unwrap());
            change(Target::VcpuPin(VcpuId(vcpu)), cpus, Basis::SiblingsTogether)
        };
        let changes = [pin(10, "3"), pin(2, "5"), pin(0, "1"), pin(1, "17")];
        let rows = rows(changes.iter(), 0);
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].label.as_str(), rows[0].was.as_str()),
            ("vcpupin 0-2,10", "-")
        );
        assert_eq!(rows[0].becomes, "1,17,5,3");
        let masks = [pin(0, "1,17"), pin(1, "2")];
        assert_eq!(super::rows(masks.iter(), 0)[0].becomes, "1,17 | 2");
        let floating = [pin(0, "0-7,16-23"), pin(1, "0-7,16-23")];
        assert_eq!(super::rows(floating.iter(), 0)[0].becomes, "0-7,16-23");
    }

    #[test]
    fn disks_share_a_row_only_when_they_change_alike() {
        let disk = |name: &str, attribute, to: &str| {
            let target = Target::Disk(name.into(), attribute);
            change(target, Value::Text(to.into()), Basis::PreallocatedFile)
        };
        let changes = [
            disk("vda", DiskAttribute::Cache, "none"),
            disk("vda", DiskAttribute::Io, "native"),
            disk("vdb", DiskAttribute::Cache, "none"),
        ];
        let labels: Vec<String> = rows(changes.iter(), 0).into_iter().map(|row| row.label).collect();
        assert_eq!(labels, ["disk vda,vdb cache", "disk vda io"]);
        let differ = [
            disk("vda", DiskAttribute::Iothread, "1"),
            disk("vdb", DiskAttribute::Iothread, "2"),
        ];
        assert_eq!(rows(differ.iter(), 0).len(), 2);
    }
}
