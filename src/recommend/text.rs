//! Text of a draft: TOML with the reason of each line.

use crate::policy::glob::Glob;
use crate::policy::rule::Match;
use crate::recommend::draft::{Draft, Guest, Level};
use crate::recommend::families;
use crate::snapshot::Snapshot;
use crate::types::line_breaks::{self, LongWord};
use crate::types::plural::{counted, list};
use crate::types::printable::visible;

/// Columns of the text.
const COLUMNS: usize = 78;
/// Names that a comment has at most.
const NAMES: usize = 6;

/// Writes the policy.
pub(crate) fn text(draft: &Draft, view: &Snapshot) -> String {
    let mut out = String::new();
    head(draft, view, &mut out);
    host(draft, &mut out);
    profiles(draft, &mut out);
    for level in [Level::Fit, Level::Local] {
        rules(draft, level, &mut out);
    }
    tail(draft, &mut out);
    out
}

fn head(draft: &Draft, view: &Snapshot, out: &mut String) {
    let host = &view.host;
    let kind = match draft.setting.desktop {
        true => "a desktop (it starts a graphical session)",
        false => "a server (it starts no graphical session)",
    };
    comment(
        out,
        "A policy for this host and its guests as they are, by virtfit recommend.",
    );
    comment(out, "It counts once it is saved. To see what it would do:");
    comment(out, "  virtfit recommend | virtfit plan --all --policy -");
    comment(
        out,
        "To save it, where /etc/virtfit/policy.toml has nothing that you need:",
    );
    comment(out, "  virtfit recommend > /etc/virtfit/policy.toml");
    out.push_str("#\n");
    let said = format!(
        "The host: {kind} of {}, {} and {}; {}.",
        counted(host.nodes.len(), "node"),
        counted(host.cores.len(), "core"),
        counted(host.online.len(), "CPU"),
        counted(draft.guests.len(), "guest")
    );
    comment(out, &said);
    comment(
        out,
        "No guest is kept from starting by it, and none gets less than without a policy. Guests that are there already are tuned \
         by virtfit apply --all, and their next start; virtfit revert takes it back.",
    );
}

fn host(draft: &Draft, out: &mut String) {
    out.push_str("\n[host]\n");
    comment(
        out,
        "To look first: with this line decisions are logged, and nothing is changed.",
    );
    out.push_str("#mode = \"observe\"\n");
    if let Some(cores) = draft.housekeeping {
        comment(
            out,
            "The programs of those who sit here keep a quarter of the cores of each node.",
        );
        out.push_str(&format!("housekeeping = {cores}\n"));
    }
}

fn profiles(draft: &Draft, out: &mut String) {
    let fit = || draft.guests.iter().filter(|guest| guest.level == Level::Fit);
    if fit().next().is_none() {
        return;
    }
    out.push('\n');
    comment(
        out,
        "CPUs of its own for each vCPU, memory on their node, huge pages where there are some.",
    );
    out.push_str("[profile.recommended]\ninherits = \"fit\"\n");
    comment(
        out,
        "The CPU model stays, so that guests can migrate as now. \"host-passthrough\" is faster, where all hosts are alike.",
    );
    out.push_str("cpu_mode = \"keep\"\n");
    if fit().any(|guest| guest.windows) {
        out.push('\n');
        comment(
            out,
            "Windows takes the machine for a real one without Hyper-V's enlightenments, which costs time.",
        );
        out.push_str("[profile.recommended-windows]\ninherits = \"recommended\"\nhyperv = \"recommended\"\n");
    }
}

/// Writes the rules for the guests of one level, one for each family.
fn rules(draft: &Draft, level: Level, out: &mut String) {
    for windows in [false, true] {
        let is_in = |guest: &&Guest| {
            // A guest that shares CPUs keeps what it sees, whatever it runs.
            guest.level == level && (guest.windows && level == Level::Fit) == windows
        };
        let (own, others): (Vec<&Guest>, Vec<&Guest>) = draft.guests.iter().partition(is_in);
        let own_names: Vec<&str> = own.iter().map(|guest| guest.name()).collect();
        let other_names: Vec<&str> = others.iter().map(|guest| guest.name()).collect();
        for family in families::of(&own_names, &other_names) {
            let of_family = |guest: &&&Guest| family.names.iter().any(|name| name == guest.name());
            let members: Vec<&Guest> = own.iter().filter(of_family).copied().collect();
            let Ok(glob) = Glob::parse(&family.pattern) else {
                continue;
            };
            let wanted = Match {
                name: vec![glob],
                ..Match::default()
            };
            let profile = match (level, windows) {
                (Level::Fit, true) => "recommended-windows",
                (Level::Fit, false) => "recommended",
                (Level::Local | Level::Alone, _) => "local",
            };
            out.push('\n');
            comment(out, &reason(&members, level));
            out.push_str(&format!(
                "[[rule]]\nmatch   = {}\nprofile = \"{profile}\"\n",
                wanted.to_toml()
            ));
        }
    }
}

/// Says why these guests get what they get.
fn reason(guests: &[&Guest], level: Level) -> String {
    let mut said = vec![format!("{}: {}", names(guests), sizes(guests))];
    let any = |is: fn(&Guest) -> bool| guests.iter().any(|guest| is(guest));
    if any(|guest| guest.device) {
        said.push("with a passed-through device, near which CPUs and memory should be".into());
    }
    if any(|guest| guest.windows) {
        said.push("Windows".into());
    }
    if any(|guest| guest.huge) {
        said.push("more than one node has, so shown a cell for each".into());
    }
    match level {
        Level::Fit => said.push("there is a CPU for each vCPU".into()),
        Level::Local | Level::Alone => {
            let mut whys: Vec<&str> = guests.iter().map(|guest| guest.why).collect();
            whys.dedup();
            said.extend(whys.into_iter().filter(|why| !why.is_empty()).map(String::from));
            if level == Level::Local {
                said.push(
                    "so on the shared CPUs of one node, near the memory; nothing that a guest sees changes"
                        .into(),
                );
            }
        }
    }
    format!("{}.", said.join("; "))
}

fn sizes(guests: &[&Guest]) -> String {
    let mut all: Vec<usize> = guests.iter().map(|guest| guest.vcpus()).collect();
    all.sort_unstable();
    all.dedup();
    let each = if guests.len() > 1 { " each" } else { "" };
    match all.as_slice() {
        [one] => format!("{}{each}", counted(*one, "vCPU")),
        [least, .., most] => format!("{least} to {most} vCPUs{each}"),
        [] => String::new(),
    }
}

/// Lists names for a comment; whatever they contain, they stay in it.
fn names(guests: &[&Guest]) -> String {
    let mut names: Vec<String> = guests
        .iter()
        .take(NAMES)
        .map(|guest| visible(guest.name()).replace('\n', "\\n"))
        .collect();
    let more = guests.len().saturating_sub(NAMES);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    list(&names)
}

fn tail(draft: &Draft, out: &mut String) {
    let alone: Vec<&Guest> = draft
        .guests
        .iter()
        .filter(|guest| guest.level == Level::Alone)
        .collect();
    if !alone.is_empty() {
        out.push('\n');
        comment(out, "Left alone, as no rule matches them:");
        for guest in alone {
            comment(out, &format!("  {}", reason(&[guest], Level::Alone)));
        }
    }
    if draft.setting.realtime {
        out.push('\n');
        comment(
            out,
            "The kernel is one for real time. A guest with work for it wants the profile \"realtime\", which does not start without \
             its CPUs; see virtfit check --for realtime.",
        );
    }
    out.push('\n');
    comment(
        out,
        "Guests that no rule matches, also those that come later, are left alone, and may run on the CPUs of the others. To keep \
         them off: unmanaged = \"confine\" in [host]. To give them something, too:",
    );
    out.push_str("#[[rule]]\n#match   = { name = \"*\" }\n#profile = \"local\"\n");
}

/// Appends a comment.
fn comment(out: &mut String, text: &str) {
    for line in line_breaks::wrap(text, COLUMNS - "# ".len(), LongWord::Whole) {
        out.push_str(&format!("# {line}\n"));
    }
}
