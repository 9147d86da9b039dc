//! `virtfit apply`: definitions brought in line with policy and host, through libvirt, or in their
//! files before libvirt loads them.

use std::ffi::OsStr;
use std::time::Instant;

use crate::apply::offline;
use crate::apply::read_guests::Patience;
use crate::apply::together::Joint;
use crate::cli::args::{ApplyArgs, Global};
use crate::cli::chosen::{self, Purpose, is_pattern};
use crate::cli::confirm::{Asking, confirmed};
use crate::cli::input::Source;
use crate::cli::redefine::{self, RedefineError};
use crate::cli::session::{self, Session};
use crate::cli::{Exit, Failure, Outcome, advice, output, plan};
use crate::daemon::untried;
use crate::engine::{Decision, Keep, Question};
use crate::hook_events::lines::{self, Mood};
use crate::host::libvirt_daemon;
use crate::hostfs::HostFs;
use crate::ledger::claims;
use crate::libvirt::definitions::Definition;
use crate::panics::guarded;
use crate::render;
use crate::types::plan::{Plan, Scope, Verdict};
use crate::types::printable::visible;
use crate::types::shell_word::file_word;
use crate::types::uuid;
use virtfit_hook::wire::DISABLED;

/// Runs the command.
///
/// # Errors
/// Host or policy is broken, a named guest does not exist, or libvirt has already loaded the files
/// that `--offline` would change.
pub(crate) fn run(global: &Global, args: &ApplyArgs) -> Result<Outcome, Failure> {
    // Wrong usage, missing rights and the switch are found before anything is read.
    if args.guests.is_empty() && !args.all && !args.offline {
        return Err(Failure::Usage("apply to what? Give guests, or --all".into()));
    }
    let root = session::host(global)?;
    if let Some(file) = args.guests.iter().find_map(|word| file(&root, word)) {
        let word = file_word(&file);
        return Err(Failure::Usage(format!(
            "{file}: apply takes guests, not files: virtfit rewrite {word} | virsh define /dev/stdin"
        )));
    }
    if !args.dry_run {
        chosen::may_write(&root)?;
    }
    if !args.dry_run && !args.offline {
        redefine::uri(global)?;
    }
    let switch = root.path(DISABLED);
    let (switch, word) = (switch.display(), file_word(&switch.to_string_lossy()));
    let disabled = root.exists(DISABLED);
    if disabled && !args.dry_run {
        let text = format!("{switch} exists: nothing was changed; to switch virtfit on: rm {word}");
        return match args.offline {
            true => Ok(Outcome {
                stderr: vec![format!("virtfit: {text}")],
                ..Outcome::default()
            }),
            false => Err(Failure::Broken(text)),
        };
    }
    if args.offline
        && !args.dry_run
        && let Some(libvirt_daemon::Process { name, pid }) = libvirt_daemon::running(&root).first()
    {
        return Err(Failure::Broken(format!(
            "{name} (pid {pid}) has loaded the definitions: leave --offline out, or stop it first"
        )));
    }
    let unasked = args.offline && !args.all && args.guests.is_empty();
    let wait = match unasked {
        true => offline::UNATTENDED_PATIENCE,
        false => offline::PATIENCE,
    };
    // The lock is taken before anything is read: a second run at once works with what this one
    // leaves.
    let _lock = match args.offline && !args.dry_run {
        true => offline::lock(&root, wait).map_err(|error| Failure::Broken(error.to_string()))?,
        false => None,
    };
    let since = Instant::now();
    let session = Session::open(global).map_err(|failure| failure.then("nothing was written"))?;
    let mut outcome = Outcome::default();
    outcome.stderr.extend(chosen::switched_off(&root));
    outcome
        .stderr
        .extend(advice::undone(global, &session.view.policy));
    let patience = Patience {
        since,
        limit: unasked.then_some(offline::TIME),
    };
    let chosen = choose(&root, &session, args, patience, &mut outcome)?;
    // Definitions are decided together, so that autostart guests do not overlap.
    let keep = match (args.reshape, args.improve) {
        (true, _) => Keep::Nothing,
        (false, true) => Keep::Shape,
        (false, false) => Keep::Place,
    };
    let ask = Question {
        keep,
        ..Question::of(Scope::Boot)
    };
    let joint = Joint::new(&session.view, &chosen, ask, patience);
    let decided = joint.decide();
    // Before libvirt starts, no one is there to read the count.
    let at_once = match unasked {
        true => String::new(),
        false => plan::at_once(&joint, &decided),
    };
    let mut plans: Vec<Plan> = Vec::new();
    let mut changes: Vec<Change<'_>> = Vec::new();
    let mut left: Vec<(&str, &str)> = Vec::new();
    for (definition, decided) in chosen.iter().zip(decided) {
        match decided {
            Ok(decision) => {
                log::info!("{}", lines::summary(decision.plan(), Mood::Would));
                let plan = decision.plan().clone();
                if let Decision::Tuned { xml, plan } = decision {
                    let waits = match unasked {
                        true => why_left(&session, definition),
                        false => None,
                    };
                    match waits {
                        None => changes.push(Change {
                            definition,
                            plan,
                            xml,
                        }),
                        Some(why) => left.push((&definition.file.name, why)),
                    }
                }
                plans.push(plan);
            }
            Err(error) => {
                let line = Failure::at(&definition.file.name, error);
                outcome.stderr.push(format!("virtfit: {}", line.message()));
                outcome.exit = Exit::Broken;
            }
        }
    }
    // The list is shown before the question, so that the answer can depend on it.
    outcome.stdout = render::plan::list_but(&plans, &left, &output::style(global.color));
    outcome.stdout.push_str(&at_once);
    if !left.is_empty() {
        outcome.stdout.push_str(&visible(&format!(
            "Left as they are: {} (neither on autostart nor tuned under this policy; --all redefines them)\n",
            left.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
        )));
    }
    let refused = plans.iter().any(|plan| plan.verdict == Verdict::Refused);
    if outcome.exit == Exit::Done && refused {
        outcome.exit = Exit::No;
    }
    let observe = session.view.policy.host.observe;
    if args.dry_run || observe {
        let why = if args.dry_run { "" } else { " (mode = \"observe\")" };
        outcome.stdout.push_str(&format!(
            "Nothing was written{why}: {} of {} would be redefined.\n",
            changes.len(),
            plans.len()
        ));
        return Ok(outcome);
    }
    // The run before libvirt loads the definitions is unattended: it neither asks nor waits.
    let asking = Asking {
        yes: args.yes || unasked,
        one: matches!(args.guests.as_slice(), [word] if !is_pattern(&word.to_string_lossy())),
    };
    if !changes.is_empty() && !confirmed(asking, &outcome.stdout, "Redefine", changes.len())? {
        outcome.stdout = "Nothing was written.\n".into();
        return Ok(outcome);
    }
    let done = carry_out(global, &root, args.offline, &changes, &mut outcome)?;
    let why = match changes.is_empty() && left.is_empty() && outcome.exit == Exit::Done {
        true => nothing_to_change(&root, &chosen, args.offline),
        false => String::new(),
    };
    outcome
        .stdout
        .push_str(&format!("{done} of {} redefined{why}.\n", plans.len()));
    Ok(outcome)
}

/// Returns a word that names a file and no guest.
fn file(root: &HostFs, word: &OsStr) -> Option<String> {
    let Source::File(path) = Source::of(word) else {
        return None;
    };
    let word = path.to_string_lossy().into_owned();
    let guest = !word.contains('/') && root.exists(claims::path(&word));
    (!guest && uuid::normal(&word).is_none()).then_some(word)
}

/// Says why nothing was written: the file of a definition was read, and libvirt was not asked. It
/// may have another one, if the file was edited behind its back.
fn nothing_to_change(root: &HostFs, chosen: &[Definition], offline: bool) -> String {
    let [one] = chosen else {
        let several = if chosen.is_empty() {
            ""
        } else {
            ": nothing is to change"
        };
        return several.into();
    };
    let libvirt = match offline {
        true => "",
        false => " (libvirt was not asked if it has the same)",
    };
    let file = root.path(claims::path(&one.file.name));
    visible(&format!(": nothing is to change in {}{libvirt}", file.display()))
}

/// Reason for which an unattended run leaves a definition that was never tuned.
const NOT_ON_AUTOSTART: &str = "not on autostart";
/// Reason for which it leaves one that is older than the policy, or was tuned under another one.
const POLICY_CHANGED: &str = "the policy changed (on_policy_change = report)";

/// Definition that is to be replaced.
struct Change<'a> {
    definition: &'a Definition,
    plan: Plan,
    xml: String,
}

/// Reads the definitions asked for. Where all are meant, one that cannot be read does not hide the
/// others.
fn choose(
    root: &HostFs,
    session: &Session,
    args: &ApplyArgs,
    patience: Patience,
    outcome: &mut Outcome,
) -> Result<Vec<Definition>, Failure> {
    let reading = &session.view.reading;
    let purpose = match args.dry_run {
        true => Purpose::Show,
        false => Purpose::Write,
    };
    let found = match patience.limit {
        Some(_) => chosen::read_at_boot(root, reading, patience)?,
        None => chosen::read(root, &args.guests, reading, purpose)?,
    };
    outcome.stderr.extend(found.left_out);
    if !found.problems.is_empty() {
        outcome.stderr.extend(found.problems);
        outcome.exit = Exit::Broken;
    }
    let mut all = found.definitions;
    if args.offline && args.guests.is_empty() {
        // A running guest keeps its placement; its definition is decided when it stops.
        let running: Vec<&str> = all
            .iter()
            .filter(|definition| definition.running)
            .map(|definition| definition.file.name.as_str())
            .collect();
        if !running.is_empty() {
            log::warn!("left out, as they run: {}", running.join(", "));
        }
        all.retain(|definition| !definition.running);
    }
    Ok(all)
}

/// Returns why the offline run does not change a definition without being asked to; `None`: it
/// does, as it does with those of autostart guests, and those virtfit tuned before. A policy that
/// changed since the definition was written or tuned counts only where `on_policy_change` says so.
fn why_left(session: &Session, definition: &Definition) -> Option<&'static str> {
    let view = &session.view;
    let digest = crate::xml::Document::parse(&definition.file.text)
        .and_then(|document| guarded(|| crate::rewrite::provenance(&document))?)
        .ok()
        .flatten()
        .map(|provenance| provenance.head.policy_digest);
    let follows = view.policy.host.apply_policy_change || view.policy.is_older_than(definition.file.modified);
    let why = match digest {
        Some(digest) => (!follows && digest != view.policy.digest).then_some(POLICY_CHANGED),
        None if !definition.autostart => Some(NOT_ON_AUTOSTART),
        None => (!follows).then_some(POLICY_CHANGED),
    };
    if why == Some(POLICY_CHANGED) {
        log::info!("{}: left as it is: {POLICY_CHANGED}", definition.file.name);
    }
    why
}

/// Writes the changes; returns how many were written.
fn carry_out(
    global: &Global,
    root: &HostFs,
    offline: bool,
    changes: &[Change<'_>],
    outcome: &mut Outcome,
) -> Result<usize, Failure> {
    let mut done = 0;
    let mut libvirt = None;
    untried::sweep(root);
    for (index, change) in changes.iter().enumerate() {
        let Change {
            definition,
            plan,
            xml,
        } = change;
        // If the guest does not start with its new definition, the daemon tells of it.
        let announced = untried::announce(root, &definition.domain, plan, xml).map_err(|error| {
            log::debug!(
                "{}: a failed start would not be told: {error}",
                definition.file.name
            )
        });
        let result = if let (true, Some(libvirt_daemon::Process { name, pid })) =
            (offline, libvirt_daemon::running(root).first())
        {
            // libvirt loads a file once: a change behind its back would be neither seen nor safe.
            Err(RedefineError::Started {
                name: name.clone(),
                pid: *pid,
            })
        } else if offline {
            offline::write(root, definition, xml).map_err(RedefineError::from)
        } else {
            let libvirt = match &mut libvirt {
                Some(libvirt) => libvirt,
                none => none.insert(redefine::connect(root, global)?),
            };
            redefine::redefine(root, libvirt.as_mut(), definition, xml)
        };
        match result {
            Ok(()) => {
                log::info!("{}: redefined", definition.file.name);
                done += 1;
            }
            Err(error) => {
                if let Ok(announced) = announced {
                    announced.take_back();
                }
                let others = match error.is_down() {
                    true => changes.len() - index - 1,
                    false => 0,
                };
                let guests = redefine::and_others(&definition.file.name, others);
                outcome.stderr.push(format!("virtfit: {guests}: {error}"));
                outcome.exit = Exit::Broken;
                if error.is_down() {
                    break;
                }
            }
        }
    }
    Ok(done)
}
