//! Subjects of changes in words: the XPath of each [`Change`] becomes a row of a table, and rows
//! that are alike are folded.

use crate::types::plan::Change;

use crate::render::explain;

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

/// Subject that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Subject {
    /// Word before the keys: `vcpupin`, `disk`.
    kind: String,
    /// Key: `0`, `vda`.
    key: Option<String>,
    /// Word after the keys: `cache`.
    detail: String,
}

impl Subject {
    fn label(&self, keys: &str) -> String {
        [self.kind.as_str(), keys, self.detail.as_str()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Returns whether changes share a row though their values differ, as pins of different threads
    /// do.
    fn lists_values(&self) -> bool {
        matches!(self.kind.as_str(), "vcpupin" | "iothreadpin" | "memnode")
    }
}

/// Change in a row, with its key.
type Member<'a> = (Option<String>, &'a Change);

/// Makes the rows of some changes, in order. `vcpus` is the guest's number of vCPUs, for libvirt's
/// default topology; 0: unknown.
pub(crate) fn rows<'a>(changes: impl Iterator<Item = &'a Change>, vcpus: usize) -> Vec<Row> {
    let mut folded: Vec<(Subject, Vec<Member<'_>>)> = Vec::new();
    for change in changes {
        let subject = subject(&change.path);
        let alike = folded.iter_mut().find(|(first, members)| {
            subject.key.is_some()
                && first.kind == subject.kind
                && first.detail == subject.detail
                && members.first().is_some_and(|(key, other)| {
                    key.is_some()
                        && other.why == change.why
                        && (subject.lists_values() || (&other.from, &other.to) == (&change.from, &change.to))
                })
        });
        let key = subject.key.clone();
        match alike {
            Some((_, members)) => members.push((key, change)),
            None => folded.push((subject, vec![(key, change)])),
        }
    }
    folded
        .into_iter()
        .filter_map(|(subject, members)| row(&subject, members, vcpus))
        .collect()
}

fn row(subject: &Subject, mut members: Vec<Member<'_>>, vcpus: usize) -> Option<Row> {
    members.sort_by_key(|(key, _)| number(key.as_deref()));
    let keys: Vec<&str> = members.iter().filter_map(|(key, _)| key.as_deref()).collect();
    let (_, first) = members.first()?;
    let value = |pick: fn(&Change) -> Option<&str>, default: String| {
        let shown = |change: &Change| match pick(change) {
            Some(value) => explain::value(value),
            None => default.clone(),
        };
        let all: Vec<String> = members.iter().map(|(_, change)| shown(change)).collect();
        match all.split_first() {
            Some((one, rest)) if rest.iter().all(|other| other == one) => one.clone(),
            // Masks of several CPUs contain commas themselves.
            _ if all.iter().any(|value| value.contains([',', ' '])) => all.join(" | "),
            _ => all.join(","),
        }
    };
    let default = if subject.kind == "topology" && vcpus > 0 {
        explain::default_topology(vcpus)
    } else {
        "-".to_string()
    };
    Some(Row {
        label: subject.label(&ranges(&keys)),
        was: value(|change| change.from.as_deref(), default.clone()),
        becomes: value(|change| change.to.as_deref(), default),
        why: first.why.to_string(),
        consequence: explain::consequence(&subject.kind, first.to.as_deref()),
    })
}

/// Returns the sort key of a key: numbers sort as numbers, names after them in their order.
fn number(key: Option<&str>) -> u64 {
    key.and_then(|key| key.parse().ok()).unwrap_or(u64::MAX)
}

/// Joins keys: numbers as ranges, names as they are.
fn ranges(keys: &[&str]) -> String {
    let numbers: Option<Vec<u32>> = keys.iter().map(|key| key.parse().ok()).collect();
    let Some(numbers) = numbers else {
        return keys.join(",");
    };
    let mut out: Vec<String> = Vec::new();
    let mut rest = numbers.into_iter().peekable();
    while let Some(start) = rest.next() {
        let mut end = start;
        while rest.next_if(|next| end.checked_add(1) == Some(*next)).is_some() {
            end += 1;
        }
        out.push(if end == start {
            start.to_string()
        } else {
            format!("{start}-{end}")
        });
    }
    out.join(",")
}

fn subject(path: &str) -> Subject {
    let steps = steps(path);
    let names: Vec<&str> = steps.iter().map(|(name, _)| *name).collect();
    let key = steps
        .iter()
        .rev()
        .find_map(|(_, key)| key.as_deref())
        .map(str::to_string);
    // Each path virtfit can write has words of its own; any other is shown as its steps.
    let (kind, keyed, detail) = match names.as_slice() {
        ["vcpu", "@cpuset"] => ("vcpu cpuset", false, ""),
        ["vcpu", "@placement"] => ("vcpu placement", false, ""),
        ["iothreads"] => ("iothreads", false, ""),
        ["cputune", "vcpupin", ..] => ("vcpupin", true, ""),
        ["cputune", "iothreadpin", ..] => ("iothreadpin", true, ""),
        ["cputune", "emulatorpin", ..] => ("emulatorpin", false, ""),
        ["cputune", "vcpusched", ..] => ("vcpusched", false, ""),
        ["numatune", "memory", ..] => ("numatune memory", false, ""),
        ["numatune", "memnode", ..] => ("memnode", true, ""),
        ["memoryBacking", "hugepages", ..] => ("huge pages", false, ""),
        ["memoryBacking", "locked"] => ("memory locked", false, ""),
        ["memoryBacking", "nosharepages"] => ("memory not shared", false, ""),
        ["memoryBacking", "access", ..] => ("memory access", false, ""),
        ["cpu"] | ["cpu", "@mode"] => ("cpu mode", false, ""),
        ["cpu", "topology", ..] => ("topology", false, ""),
        ["cpu", "numa", ..] => ("guest cells", false, ""),
        ["cpu", "feature", ..] => ("cpu feature", true, ""),
        ["cpu", "cache", ..] => ("cpu cache", false, ""),
        ["features", "pmu", ..] => ("pmu", false, ""),
        ["features", "kvm", rest, ..] => ("kvm", false, *rest),
        ["devices", "memballoon", ..] => ("memballoon", false, ""),
        ["devices", "disk", .., attribute] => ("disk", true, attribute.trim_start_matches('@')),
        ["devices", "controller", .., attribute] => {
            ("scsi controller", true, attribute.trim_start_matches('@'))
        }
        _ => ("", false, ""),
    };
    if kind.is_empty() {
        return Subject {
            kind: names.join(" ").replace('@', ""),
            key,
            detail: String::new(),
        };
    }
    Subject {
        kind: kind.to_string(),
        key: key.filter(|_| keyed),
        detail: detail.to_string(),
    }
}

/// Splits a path below `/domain` into its steps: name, and the value of the step's last predicate.
fn steps(path: &str) -> Vec<(&str, Option<String>)> {
    let mut out = Vec::new();
    let mut rest = path.trim_start_matches('/');
    while !rest.is_empty() {
        let end = step_end(rest);
        let (step, tail) = rest.split_at(end);
        rest = tail.trim_start_matches('/');
        let (name, predicates) = match step.find('[') {
            Some(at) => step.split_at(at),
            None => (step, ""),
        };
        out.push((name, quoted(predicates)));
    }
    if out.first().is_some_and(|(name, _)| *name == "domain") {
        out.remove(0);
    }
    out
}

/// Returns the end of a step: a slash outside brackets and quotes.
fn step_end(text: &str) -> usize {
    let mut depth = 0usize;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => depth = depth.saturating_sub(1),
            (None, '/') if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// Returns the last quoted text.
fn quoted(predicates: &str) -> Option<String> {
    let end = predicates.rfind(['\'', '"'])?;
    let quote = predicates[end..].chars().next()?;
    let start = predicates[..end].rfind(quote)? + 1;
    Some(predicates[start..end].to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::reason::Basis;
    use proptest::prelude::*;

    fn change(path: &str, from: Option<&str>, to: Option<&str>, why: Basis) -> Change {
        Change {
            path: path.to_string(),
            from: from.map(str::to_string),
            to: to.map(str::to_string),
            why,
            guest_visible: false,
            takes_effect: "next start",
        }
    }

    #[test]
    fn paths_become_words() {
        for (path, want) in [
            ("/domain/vcpu/@cpuset", "vcpu cpuset"),
            ("/domain/cputune/vcpupin[@vcpu='12']", "vcpupin 12"),
            ("/domain/cputune/vcpupin[@vcpu='12']/@cpuset", "vcpupin 12"),
            ("/domain/numatune/memnode[@cellid='1']", "memnode 1"),
            ("/domain/cpu", "cpu mode"),
            ("/domain/cpu/topology", "topology"),
            (
                "/domain/cpu/feature[@name='tsc-deadline']/@policy",
                "cpu feature tsc-deadline",
            ),
            ("/domain/features/kvm/hint-dedicated/@state", "kvm hint-dedicated"),
            (
                "/domain/devices/disk[target/@dev='vda']/driver/@cache",
                "disk vda cache",
            ),
            (
                "/domain/devices/disk[target/@dev=\"a'/b\"]/driver/@io",
                "disk a'/b io",
            ),
            (
                "/domain/devices/controller[@type='scsi'][@index='0']/driver/@iothread",
                "scsi controller 0 iothread",
            ),
            ("/domain/os/loader/@secure", "os loader secure"),
            ("", ""),
            ("/domain/x[", "x"),
        ] {
            let change = change(path, None, None, Basis::ByProfile);
            let rows = rows(std::iter::once(&change), 0);
            assert_eq!(rows[0].label, want, "{path}");
        }
    }

    #[test]
    fn pins_share_a_row_in_the_order_of_the_vcpus() {
        let pin = |vcpu: u32, cpu: &str| {
            change(
                &format!("/domain/cputune/vcpupin[@vcpu='{vcpu}']"),
                None,
                Some(cpu),
                Basis::SiblingsTogether,
            )
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
        let disk = |name: &str, attribute: &str, to: &str| {
            let path = format!("/domain/devices/disk[target/@dev='{name}']/driver/@{attribute}");
            change(&path, None, Some(to), Basis::PreallocatedFile)
        };
        let changes = [
            disk("vda", "cache", "none"),
            disk("vda", "io", "native"),
            disk("vdb", "cache", "none"),
        ];
        let labels: Vec<String> = rows(changes.iter(), 0).into_iter().map(|row| row.label).collect();
        assert_eq!(labels, ["disk vda,vdb cache", "disk vda io"]);
        let differ = [disk("vda", "iothread", "1"), disk("vdb", "iothread", "2")];
        assert_eq!(rows(differ.iter(), 0).len(), 2);
    }

    proptest! {
        #[test]
        fn any_path_has_a_row(path in "[/a-z@\\[\\]='\"é]{0,40}") {
            let change = change(&path, None, None, Basis::ByProfile);
            prop_assert_eq!(rows(std::iter::once(&change), 4).len(), 1);
        }
    }
}
