//! Choice of a guest's profile, with its reason.

use crate::domain::Domain;
use crate::policy::merge::names;
use crate::policy::source::printable;
use crate::policy::suggest::did_you_mean;
use crate::policy::{Policy, Profile, Rule, requests};
use crate::types::reason::{Denied, Reason};

/// Profile chosen for a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Chosen profile; `None` where no rule matches and no request was granted. `off` is a profile,
    /// too.
    pub profile: Option<Profile>,
    /// Reason of the choice: `rule 1, /etc/virtfit/policy.toml:4` (rules count from 1 in the order
    /// in which they are tried), `its own request` or `--profile`; empty without a profile.
    pub chosen_by: String,
    /// Reason why the guest's request was not followed, where it was not.
    pub notes: Vec<Reason>,
}

/// Error of a profile name that the policy does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no profile '{name}'{hint}; 'virtfit profile list' shows them")]
pub struct UnknownProfile {
    /// Name as it may go into a message.
    pub name: String,
    hint: String,
}

/// Selects the profile of `--profile NAME`, which takes precedence over requests and rules.
///
/// # Errors
/// No profile or alias has that name.
pub(crate) fn by_name(policy: &Policy, name: &str) -> Result<Selection, UnknownProfile> {
    match policy.profile(name) {
        Some(profile) => Ok(Selection {
            profile: Some(profile.clone()),
            chosen_by: "--profile".into(),
            notes: Vec::new(),
        }),
        None => Err(unknown(policy, name)),
    }
}

/// Returns the error of a name that the policy does not have, with the nearest name.
pub(crate) fn unknown(policy: &Policy, name: &str) -> UnknownProfile {
    UnknownProfile {
        name: printable(name),
        hint: did_you_mean(name, names(&policy.profiles)),
    }
}

/// Selects the profile that the guest asks for where the policy permits it, or else the profile of
/// the first rule that matches.
pub fn select(policy: &Policy, domain: &Domain, autostart: bool) -> Selection {
    let ruled = ruled(policy, domain, autostart);
    let mut notes = Vec::new();
    if let Some(asked) = &domain.request {
        match requested(policy, asked, ruled.map(|(_, _, profile)| profile)) {
            Ok(profile) => {
                return Selection {
                    profile: Some(profile.clone()),
                    chosen_by: "its own request".into(),
                    notes,
                };
            }
            Err(why) => notes.push(Reason::Request {
                asked: printable(asked),
                why,
            }),
        }
    }
    match ruled {
        Some((index, rule, profile)) => Selection {
            profile: Some(profile.clone()),
            chosen_by: format!("rule {}, {}", index + 1, rule.place),
            notes,
        },
        None => Selection {
            notes,
            ..Selection::default()
        },
    }
}

/// Returns the profile by which virtfit tunes a guest; `None`: neither a rule nor a request that is
/// granted gives it one, or its profile leaves the guest alone.
pub(crate) fn tuning<'a>(policy: &'a Policy, domain: &Domain, autostart: bool) -> Option<&'a Profile> {
    let ruled = ruled(policy, domain, autostart).map(|(_, _, profile)| profile);
    let asked = domain.request.as_ref();
    let granted = asked.and_then(|asked| requested(policy, asked, ruled).ok());
    granted.or(ruled).filter(|profile| !profile.off)
}

/// Returns whether a guest's profile gives vCPUs CPUs of their own.
pub fn dedicates(policy: &Policy, domain: &Domain, autostart: bool) -> bool {
    let profile = tuning(policy, domain, autostart);
    let vcpus = profile.and_then(|profile| profile.dedicated(domain.vcpus).ok());
    vcpus.is_some_and(|vcpus| !vcpus.is_empty())
}

/// Returns whether the rules leave a guest alone, whatever it asks for itself.
pub fn left_alone(policy: &Policy, domain: &Domain, autostart: bool) -> bool {
    ruled(policy, domain, autostart).is_some_and(|(_, _, profile)| profile.off)
}

/// Returns the first rule that matches a guest, with its index and profile.
fn ruled<'a>(policy: &'a Policy, domain: &Domain, autostart: bool) -> Option<(usize, &'a Rule, &'a Profile)> {
    let mut rules = policy.rules.iter().enumerate();
    let (index, rule) = rules.find(|(_, rule)| rule.matches.matches(domain, autostart))?;
    Some((index, rule, policy.profile(&rule.profile)?))
}

/// Checks that this guest may ask for this profile.
///
/// # Errors
/// The reason why it may not.
pub(crate) fn permitted(policy: &Policy, domain: &Domain, autostart: bool, name: &str) -> Result<(), Denied> {
    let ruled = ruled(policy, domain, autostart).map(|(_, _, profile)| profile);
    requested(policy, name, ruled).map(drop)
}

fn requested<'a>(policy: &'a Policy, asked: &str, ruled: Option<&Profile>) -> Result<&'a Profile, Denied> {
    let Some(profile) = policy.profile(asked) else {
        return Err(Denied::NoSuchProfile {
            hint: did_you_mean(asked, names(&policy.profiles)),
        });
    };
    requests::permit(policy, profile, ruled).map(|()| profile)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn guest(name: &str, request: Option<&str>) -> Domain {
        Domain {
            name: name.into(),
            request: request.map(str::to_string),
            ..Domain::default()
        }
    }

    #[test]
    fn first_rule_wins_and_requests_beat_rules() {
        let rules = "[[rule]]\nmatch = { name = \"db-*\" }\nprofile = \"isolated\"\n\n[[rule]]\nprofile = \"vtune\"\n";
        // requests, guest, its request, profile chosen, reason of the choice, a piece of the note
        for (requests, name, request, profile, by, noted) in [
            ("safe", "db-1", None, "isolated", "rule 1, /p.toml:3", ""),
            ("safe", "web", None, "fit", "rule 2, /p.toml:7", ""),
            ("safe", "db-1", Some("shared"), "shared", "its own request", ""),
            (
                "safe",
                "db-1",
                Some("realtime"),
                "isolated",
                "rule 1, /p.toml:3",
                "real-time",
            ),
            ("all", "db-1", Some("realtime"), "realtime", "its own request", ""),
            (
                "safe",
                "web",
                Some("isolated"),
                "fit",
                "rule 2, /p.toml:7",
                "withholds",
            ),
            (
                "none",
                "db-1",
                Some("shared"),
                "isolated",
                "rule 1, /p.toml:3",
                "\"none\"",
            ),
            ("none", "db-1", Some("off"), "off", "its own request", ""),
            ("none", "db-1", Some("def"), "off", "its own request", ""),
            (
                "all",
                "db-1",
                Some("isolatd"),
                "isolated",
                "rule 1, /p.toml:3",
                "did you mean 'isolated'?",
            ),
            (
                "all",
                "db-1",
                Some(""),
                "isolated",
                "rule 1, /p.toml:3",
                "no such profile",
            ),
        ] {
            let text = format!("[host]\nrequests = \"{requests}\"\n{rules}");
            let policy = Policy::parse(&text, "/p.toml").unwrap();
            let got = select(&policy, &guest(name, request), false);
            let row = format!("{requests} {name} {request:?}: {got:?}");
            assert_eq!(got.profile.as_ref().unwrap().name, profile, "{row}");
            assert_eq!(got.chosen_by, by, "{row}");
            assert_eq!(got.notes.is_empty(), noted.is_empty(), "{row}");
            assert!(
                got.notes.iter().all(|note| note.to_string().contains(noted)),
                "{row}"
            );
        }
    }

    #[test]
    fn without_rules_nothing_is_chosen() {
        let policy = Policy::builtin();
        assert_eq!(select(&policy, &guest("a", None), true), Selection::default());
        let asked = |name| select(&policy, &guest("a", Some(name)), true);
        assert_eq!(asked("local").profile.unwrap().name, "local");
        // `fit` would give the guest dedicated CPUs, and no rule does.
        let refused = asked("pin");
        assert_eq!(refused.profile, None);
        assert!(refused.notes[0].to_string().contains("no rule"), "{refused:?}");
    }

    #[test]
    fn by_name_knows_aliases_and_near_names() {
        let policy = Policy::builtin();
        assert_eq!(by_name(&policy, "vtune").unwrap().profile.unwrap().name, "fit");
        let error = by_name(&policy, "fitt").unwrap_err().to_string();
        assert!(error.contains("did you mean 'fit'?"), "{error}");
    }
}
