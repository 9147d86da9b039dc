//! Commands that a plan advises. They bring about what it showed, and what they bring about lasts:
//! virtfitd goes by the host's own policy and by what a guest may ask for, and it undoes all else.
//! Each can be pasted into a shell.

use std::path::Path;

use crate::cli::args::{Global, Options};
use crate::cli::daemon_client;
use crate::cli::input::Source;
use crate::cli::session::{self, Session};
use crate::domain::Domain;
use crate::hostfs::HostFs;
use crate::policy::glob::Glob;
use crate::policy::load::{DROP_IN_DIR, MAIN_DIR, MAIN_FILE, PolicyFile, State, VENDOR_DIR};
use crate::policy::merge::Tier;
use crate::policy::{Files, Policy, Profile, select, value};
use crate::render::Style;
use crate::render::plan::Advice;
use crate::types::guest_word::guest_word;
use crate::types::plan::{Plan, Scope, Verdict};
use crate::types::shell_word::shell_word;
use crate::types::uuid;
use virtfit_hook::wire::DISABLED;

/// Returns the steps that come next; none where nothing would change, or where the words cannot be
/// given to a shell.
pub(crate) fn next(
    global: &Global,
    options: &Options,
    session: &Session,
    word: &str,
    (plan, domain): (&Plan, &Domain),
    style: &Style,
) -> Advice {
    if plan.verdict != Verdict::Tuned {
        return Advice::default();
    }
    let quoted = |text: &str| shell_word(text, style.unicode).filter(|word| word != "''");
    let is_guest = matches!(Source::of(word.as_ref()), Source::Guest(_));
    let word = match is_guest {
        true => guest_word(word, &domain.uuid),
        false => word,
    };
    let Some(words) = words(global, options, plan, word, &quoted) else {
        return Advice::default();
    };
    let mut advice = Advice::default();
    // Only a plan made from this host as it is can be written to its libvirt.
    let root = session::root(global);
    let real = root.is_real() && global.topology.is_none() && !global.assume_empty;
    match plan.scope {
        Scope::Incoming => {}
        Scope::Boot if real => {
            let view = &session.view;
            let case = Case {
                policy: &view.policy,
                domain,
                autostart: view.reading.autostart.contains(&domain.name),
                profile: options.profile.as_deref(),
                foreign: global
                    .policy
                    .as_deref()
                    .filter(|_| is_foreign(global, &view.policy))
                    .and_then(Path::to_str),
                drop_ins: has_drop_ins(&root),
                disabled: root.exists(DISABLED),
                alone: !daemon_client::is_answered(&root),
                file: (!is_guest).then(|| words.guest.clone()),
            };
            if let Some(found) = case.advice(&quoted) {
                advice = found;
            }
        }
        Scope::Boot if is_guest => {}
        Scope::Boot => {
            let Words { guest, place, chosen } = &words;
            advice
                .commands
                .push(format!("virtfit rewrite {guest}{place}{chosen}"));
        }
    }
    let Words { guest, place, chosen } = words;
    for form in ["--diff", "--json"] {
        advice
            .commands
            .push(format!("virtfit plan {guest}{place}{chosen} {form}"));
    }
    advice
}

/// Words of the plan's own command line, quoted for a shell.
struct Words {
    guest: String,
    /// Options that say where the host is read.
    place: String,
    /// Options that change the plan itself.
    chosen: String,
}

fn words(
    global: &Global,
    options: &Options,
    plan: &Plan,
    word: &str,
    quoted: &dyn Fn(&str) -> Option<String>,
) -> Option<Words> {
    let guest = quoted(word)?;
    let mut place = String::new();
    let mut add = |option: &str, value: &str| {
        place.push_str(&format!(" --{option} {}", quoted(value)?));
        Some(())
    };
    if let Some(root) = &global.root {
        add("root", root.to_str()?)?;
    }
    if let Some(policy) = &global.policy {
        add("policy", policy.to_str()?)?;
    }
    if let Some(topology) = &global.topology {
        add("topology", topology)?;
    }
    if global.assume_empty {
        place.push_str(" --assume-empty");
    }
    let mut chosen = String::new();
    if let Some(profile) = &options.profile {
        chosen.push_str(&format!(" --profile {}", quoted(profile)?));
    }
    if plan.scope == Scope::Incoming {
        chosen.push_str(" --scope incoming");
    }
    Some(Words { guest, place, chosen })
}

/// Returns whether `--policy` names another policy than the one virtfitd follows.
fn is_foreign(global: &Global, named: &Policy) -> bool {
    let own = Global {
        policy: None,
        ..global.clone()
    };
    // A policy with errors is another one, too: virtfitd does not read it.
    session::load_policy(&own).map_or(true, |own| own.digest != named.digest)
}

/// Returns whether files of [`DROP_IN_DIR`] count.
fn has_drop_ins(root: &HostFs) -> bool {
    let files = Files::of(root).files;
    let counts = |file: &PolicyFile| file.tier == Tier::DropIn && matches!(file.state, State::Used(_));
    files.iter().any(counts)
}

/// Returns whether virtfitd reads this file as one of several.
fn is_one_of_the_hosts(path: &str) -> bool {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    path == Path::new(MAIN_FILE) || path.starts_with(DROP_IN_DIR) || path.starts_with(VENDOR_DIR)
}

/// Plan for this host, from which follows what is needed to make it last.
struct Case<'a> {
    /// Policy the plan was made with.
    policy: &'a Policy,
    domain: &'a Domain,
    autostart: bool,
    profile: Option<&'a str>,
    /// `--policy`, where it is not the policy virtfitd goes by.
    foreign: Option<&'a str>,
    /// Files in the folder of policies stay in force beside it.
    drop_ins: bool,
    /// The switch that disables virtfit is on.
    disabled: bool,
    /// No daemon answers.
    alone: bool,
    /// Word of the file that was planned; `None`: a guest's definition.
    file: Option<String>,
}

/// Way for a guest to keep a profile under a policy.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// The policy gives it to the guest as it is.
    Given,
    /// The guest's own request has to go.
    Unset,
    /// The guest may ask for it.
    Request,
    /// A rule is needed.
    Rule {
        /// Reason why the guest may not ask for the profile.
        why: String,
        /// The guest's own request, which comes before rules, has to go.
        unset: bool,
    },
}

impl Case<'_> {
    /// Returns what has to be done; `None` where the guest's name cannot be given to a shell.
    fn advice(&self, quoted: &dyn Fn(&str) -> Option<String>) -> Option<Advice> {
        let mut advice = Advice::default();
        // A file's guest may have no UUID yet.
        let Domain { name, uuid, .. } = self.domain;
        let guest = match uuid.as_str() {
            "" if uuid::normal(name).is_some() => return None,
            "" => name,
            uuid => guest_word(name, uuid),
        };
        let guest = quoted(guest)?;
        if self.disabled {
            advice.said.push(format!(
                "{DISABLED} exists, so nothing can be written until it is removed."
            ));
            advice.commands.push(format!("rm {DISABLED}"));
        }
        // First the policy comes in force, then the guest gets its profile, then its definition is
        // written.
        if let Some(path) = self.foreign {
            if is_one_of_the_hosts(path) {
                let all = "virtfitd follows all files of the policy, not";
                advice
                    .said
                    .push(format!("{all} {path} alone: plan without --policy."));
                return Some(advice);
            }
            let beside = match self.drop_ins {
                true => format!(" The files in {DROP_IN_DIR} stay in force beside it."),
                false => String::new(),
            };
            advice.said.push(format!(
                "virtfitd follows the policy in {MAIN_DIR}, not {path}, and undoes what differs: put that file in place \
                 first.{beside}"
            ));
            advice
                .commands
                .push(format!("cp --backup=numbered {} {MAIN_FILE}", quoted(path)?));
        }
        if self.policy.host.observe {
            let text =
                "The policy has mode = \"observe\": no definition is written before that line is gone.";
            advice.said.push(text.into());
        }
        let profile = self.profile.unwrap_or_default();
        let way = self.profile.map_or(Way::Given, |profile| self.way(profile));
        if let Way::Rule { why, .. } = &way {
            self.add_rule(&mut advice, profile, why);
        }
        let asks = match way {
            Way::Given | Way::Rule { unset: false, .. } => None,
            Way::Unset | Way::Rule { unset: true, .. } => Some(format!("virtfit profile unset {guest}")),
            Way::Request => Some(format!("virtfit profile set {guest} {}", quoted(profile)?)),
        };
        let observe = self.policy.host.observe;
        match (&self.file, &asks) {
            (Some(file), None) if !observe => advice
                .commands
                .push(format!("virtfit rewrite {file} | virsh define /dev/stdin")),
            (Some(file), _) => advice.commands.push(format!("virsh define {file}")),
            (None, _) => {}
        }
        // A daemon sees a request that changes and tunes the definition by itself.
        let by_itself = !self.alone && asks.is_some();
        advice.commands.extend(asks.clone());
        let written = self.file.is_some() && asks.is_none();
        if !(observe || by_itself || written) {
            advice.commands.push(format!("virtfit apply {guest}"));
        }
        Some(advice)
    }

    /// Finds the way for the guest to keep a profile.
    fn way(&self, profile: &str) -> Way {
        let gives = |domain: &Domain| {
            let selected = self.selected(domain);
            selected.is_some() && selected.as_ref() == self.policy.profile(profile)
        };
        let without = Domain {
            request: None,
            ..self.domain.clone()
        };
        match select::permitted(self.policy, self.domain, self.autostart, profile) {
            _ if gives(self.domain) => Way::Given,
            _ if gives(&without) => Way::Unset,
            Ok(()) => Way::Request,
            Err(why) => Way::Rule {
                why: why.to_string(),
                unset: self.selected(self.domain) != self.selected(&without),
            },
        }
    }

    fn selected(&self, domain: &Domain) -> Option<Profile> {
        select::select(self.policy, domain, self.autostart).profile
    }

    /// Adds the rule that gives the guest the profile.
    fn add_rule(&self, advice: &mut Advice, profile: &str, why: &str) {
        let name = &self.domain.name;
        let file = self.foreign.unwrap_or(MAIN_FILE);
        advice.said.push(format!(
            "No rule gives {name} the profile {profile}, and it may not ask for it itself: {why}. This rule does; put it \
             before the others in {file}:"
        ));
        advice.rule = vec![
            "[[rule]]".into(),
            format!("match = {{ name = {} }}", value::quoted(&Glob::literal(name))),
            format!("profile = {}", value::quoted(profile)),
        ];
    }
}

/// Returns a warning for what is written by a policy other than the one virtfitd follows.
pub(crate) fn undone(global: &Global, named: &Policy) -> Option<String> {
    let path = global.policy.as_ref()?;
    let lasts = !session::root(global).is_real() || !is_foreign(global, named);
    (!lasts).then(|| {
        format!(
            "virtfit: virtfitd follows the policy in {MAIN_DIR}, not {}: it undoes what differs",
            path.display()
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
