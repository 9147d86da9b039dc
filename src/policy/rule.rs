//! Rules, and the conditions that say which guests a profile is for.

use crate::domain::{Domain, Passthrough};
use crate::policy::glob::Glob;
use crate::policy::range::Range;
use crate::policy::source::Place;
use crate::policy::value::Scalar;

/// Keys of `match`, in the order in which messages list them.
pub(crate) const MATCH_KEYS: [&str; 8] = [
    "name",
    "title",
    "uuid",
    "vcpus",
    "memory",
    "hostdev",
    "os",
    "autostart",
];

/// Conditions of a rule (`match`): all that are given must hold; of a list, one value must. Without
/// conditions a rule matches every guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// Patterns for `<name>`.
    pub name: Vec<Glob>,
    /// Patterns for `<title>`; a guest without a title has the empty one.
    pub title: Vec<Glob>,
    /// UUIDs, in lower case with dashes.
    pub uuid: Vec<String>,
    /// Ranges for the maximum vCPU count.
    pub vcpus: Vec<Range>,
    /// Ranges for the memory, in KiB.
    pub memory: Vec<Range>,
    /// Condition on PCI devices and mdevs passed through to the guest. Interfaces of a network do
    /// not count: only the host knows whether their network is a pool of devices.
    pub hostdev: Option<bool>,
    /// Patterns for the libosinfo id in `<metadata>`; a guest without an id has the empty one.
    pub os: Vec<Glob>,
    /// Condition on autostart at host boot.
    pub autostart: Option<bool>,
}

impl Match {
    /// Returns true if a guest meets all conditions.
    pub(crate) fn matches(&self, domain: &Domain, autostart: bool) -> bool {
        let hostdev = domain
            .passthrough
            .iter()
            .any(|d| matches!(d, Passthrough::Pci(_) | Passthrough::Mdev(_)));
        any(&self.name, |glob| glob.matches(&domain.name))
            && any(&self.title, |glob| glob.matches(&domain.title))
            && any(&self.uuid, |uuid| uuid.eq_ignore_ascii_case(&domain.uuid))
            && any(&self.vcpus, |range| range.contains(domain.vcpus.into()))
            && any(&self.memory, |range| range.contains(domain.memory.0))
            && self.hostdev.is_none_or(|wanted| wanted == hostdev)
            && any(&self.os, |glob| glob.matches(&domain.os_id))
            && self.autostart.is_none_or(|wanted| wanted == autostart)
    }

    /// Returns the conditions that are given, each with its key, in the order of [`MATCH_KEYS`]; a
    /// list of one is that value.
    pub(crate) fn given(&self) -> Vec<(&'static str, Scalar)> {
        let globs = |globs: &[Glob]| list(globs, |glob| glob.as_str().to_string());
        let all = [
            globs(&self.name),
            globs(&self.title),
            list(&self.uuid, Clone::clone),
            list(&self.vcpus, Range::counts_text),
            list(&self.memory, Range::sizes_text),
            self.hostdev.map(Scalar::Bool),
            globs(&self.os),
            self.autostart.map(Scalar::Bool),
        ];
        let keyed = MATCH_KEYS.into_iter().zip(all);
        keyed.filter_map(|(key, value)| Some((key, value?))).collect()
    }

    /// Writes the conditions as TOML in canonical form: `{ name = "db-*", vcpus = ["2", "8-"] }`.
    pub(crate) fn to_toml(&self) -> String {
        let given = self.given().into_iter();
        let given: Vec<String> = given.map(|(key, value)| format!("{key} = {value}")).collect();
        match given.as_slice() {
            [] => "{}".into(),
            given => format!("{{ {} }}", given.join(", ")),
        }
    }
}

/// Returns the part of a guest's facts that chooses its profile: what conditions and requests look
/// at, and what bounds its dedicated vCPUs.
pub(crate) fn facts(domain: &Domain) -> Domain {
    let device = |passed: &&Passthrough| matches!(passed, Passthrough::Pci(_) | Passthrough::Mdev(_));
    Domain {
        name: domain.name.clone(),
        title: domain.title.clone(),
        uuid: domain.uuid.clone(),
        vcpus: domain.vcpus,
        vcpu_placement_auto: domain.vcpu_placement_auto,
        memory: domain.memory,
        passthrough: domain
            .passthrough
            .iter()
            .find(device)
            .cloned()
            .into_iter()
            .collect(),
        os_id: domain.os_id.clone(),
        request: domain.request.clone(),
        ..Domain::default()
    }
}

fn any<T>(wanted: &[T], holds: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(holds)
}

fn list<T>(values: &[T], text: impl Fn(&T) -> String) -> Option<Scalar> {
    match values {
        [] => None,
        [one] => Some(Scalar::Text(text(one))),
        many => Some(Scalar::List(many.iter().map(text).collect())),
    }
}

/// Rule of the policy.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Conditions that a guest has to meet.
    pub matches: Match,
    /// Canonical name of a profile that exists in the policy.
    pub profile: String,
    /// Place of the rule's header.
    pub place: Place,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::ids::KiB;

    fn guest() -> Domain {
        Domain {
            name: "db-1".into(),
            title: "Orders".into(),
            uuid: "0f0e0d0c-0b0a-0908-0706-050403020100".into(),
            vcpus: 4,
            memory: KiB(8 << 20),
            os_id: "http://microsoft.com/win/11".into(),
            passthrough: vec![Passthrough::Network("pool".into())],
            ..Domain::default()
        }
    }

    #[test]
    fn facts_have_the_device_that_a_condition_asks_for() {
        let mut guest = guest();
        guest.passthrough.push(Passthrough::Mdev("0f".into()));
        let hostdev = Match {
            hostdev: Some(true),
            ..Match::default()
        };
        assert!(hostdev.matches(&guest, false) && hostdev.matches(&facts(&guest), false));
    }

    #[test]
    fn conditions() {
        for (condition, expected) in [
            ("{}", true),
            (r#"{ name = "db-*" }"#, true),
            (r#"{ name = "DB-*" }"#, false),
            (r#"{ name = ["web", "db-?"] }"#, true),
            (r#"{ name = "db-*", vcpus = "8-" }"#, false),
            (r#"{ name = "db-*", vcpus = ["8-", "4"] }"#, true),
            (r#"{ title = "Ord*" }"#, true),
            (r#"{ uuid = "0F0E0D0C0B0A09080706050403020100" }"#, true),
            (r#"{ uuid = "1f0e0d0c-0b0a-0908-0706-050403020100" }"#, false),
            (r#"{ memory = "8G" }"#, true),
            (r#"{ memory = "-4G" }"#, false),
            (r#"{ memory = "4G-" }"#, true),
            ("{ hostdev = false }", true),
            ("{ hostdev = true }", false),
            (r#"{ os = "*/win/*" }"#, true),
            ("{ autostart = true }", true),
            ("{ autostart = false }", false),
        ] {
            let text = format!("[[rule]]\nmatch = {condition}\nprofile = \"fit\"\n");
            let (fragment, problems) = crate::policy::fragment::parse(&text, "p");
            assert!(problems.is_empty(), "{condition}: {problems:?}");
            let matches = &fragment.rules[0].matches;
            assert_eq!(matches.matches(&guest(), true), expected, "{condition}");
            assert_eq!(matches.matches(&facts(&guest()), true), expected, "{condition}");
            let again = format!("[[rule]]\nmatch = {}\nprofile = \"fit\"\n", matches.to_toml());
            assert_eq!(
                &crate::policy::fragment::parse(&again, "p").0.rules[0].matches,
                matches,
                "{again}"
            );
        }
    }
}
