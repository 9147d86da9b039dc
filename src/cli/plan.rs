//! `virtfit plan`: what would change for guests, and why.

use std::path::Path;

use crate::apply::read_guests::{self, Patience};
use crate::apply::together::{Joint, Together};
use crate::cli::args::{Global, Options, PlanArgs};
use crate::cli::chosen::Purpose;
use crate::cli::input::{Input, Source};
use crate::cli::session::{self, Decided, Session};
use crate::cli::{Exit, Failure, Outcome, advice, chosen, output};
use crate::domain::Domain;
use crate::engine::Question;
use crate::hostfs::HostFs;
use crate::policy::load::STDIN;
use crate::render::diff::unified;
use crate::render::json::PlanJson;
use crate::render::{self, Style};
use crate::status::PolicyRead;
use crate::types::plan::{Plan, Verdict};
use crate::types::reason::{Choice, Reason};

/// Line on plans of several inputs with files among them.
const APART: &str = "virtfit: files are planned apart, each as if the others were not there: two plans may show the same CPUs";

/// Runs the command. Plans of guests or files that are named are shown in full; those of all guests
/// or of a pattern in one line each.
///
/// # Errors
/// An input, the host or the policy is broken.
pub(crate) fn run(global: &Global, args: &PlanArgs) -> Result<Outcome, Failure> {
    let mut sources: Vec<Source> = args.inputs.iter().map(|word| Source::of(word)).collect();
    let pattern = |source: &Source| matches!(source, Source::Guest(word) if chosen::is_pattern(word));
    let patterns = sources.iter().any(pattern);
    // Guests are planned together. Files are no guests of the host yet, so with files each input is
    // planned by itself.
    let only_guests = sources.iter().all(|source| matches!(source, Source::Guest(_)));
    if only_guests && (patterns || sources.len() != 1) {
        return guests(global, args, patterns || sources.is_empty());
    }
    let policy_on_stdin = global.policy.as_deref() == Some(Path::new(STDIN));
    let stdins = sources.iter().filter(|source| **source == Source::Stdin).count();
    if stdins + usize::from(policy_on_stdin) > 1 {
        return Err(Failure::Usage("stdin can be read once: give - once".into()));
    }
    let root = session::root(global);
    if patterns {
        sources = without_patterns(&sources, &root)?;
    }
    // A broken one of several inputs does not hide the others; an only one is reported before
    // policy and host are read.
    let alone = sources.len() == 1;
    let mut failed = Vec::new();
    let mut loaded = Vec::new();
    for source in &sources {
        match load(source, &root) {
            Ok(input) => loaded.push((source, input)),
            Err(error) if alone => return Err(error),
            Err(error) => failed.push(error),
        }
    }
    // Policy and host are read once for all inputs.
    let session = Session::open_to_show(global, false)?;
    let options = &args.options;
    let mut guests = Vec::new();
    let mut words = Vec::new();
    for (source, input) in loaded {
        match session.decide(&input, options.scope.into(), options.profile.as_deref()) {
            Ok(decided) => {
                guests.push((input.text, decided.of(source)));
                words.push(source.word());
            }
            Err(error) if alone => return Err(error),
            Err(error) => failed.push(error),
        }
    }
    // Errors go first, and do not hide the plans there are.
    let mut outcome = with_policy(&session, &args.options);
    if guests.len() > 1 {
        outcome.stderr.push(APART.into());
    }
    for error in &failed {
        outcome.stderr.push(format!("virtfit: {}", error.message()));
        outcome.exit = Exit::Broken;
    }
    show(!alone, global, options, &session, &guests, &words, &mut outcome)?;
    let plans = guests.iter().map(|(_, guest)| guest.plan());
    outcome.stderr.extend(ruleless(global, options, plans));
    Ok(outcome)
}

/// Begins an answer. Where the policy has errors it starts with these, and says that plans are made
/// by the last policy without errors; the exit code is 1 then. Beside plain text it also warns of
/// CPU sets that this host lacks.
fn with_policy(session: &Session, options: &Options) -> Outcome {
    let mut outcome = Outcome::default();
    if session.policy == PolicyRead::LastGood {
        outcome.stderr.extend(session.policy_errors.clone());
        outcome
            .stderr
            .push(format!("virtfit: {}", Choice::LastGoodPolicy));
        outcome.exit = Exit::Broken;
    }
    if !options.json && !options.diff {
        let notes = session.view.sets.notes.iter();
        outcome
            .stderr
            .extend(notes.map(|note| format!("virtfit: warning: {note}")));
    }
    outcome
}

/// Replaces each pattern by the guests that match it.
fn without_patterns(sources: &[Source], root: &HostFs) -> Result<Vec<Source>, Failure> {
    let mut out = Vec::new();
    for source in sources {
        let names = match source {
            Source::Guest(word) if chosen::is_pattern(word) => {
                on_a_host(root)?;
                chosen::matching(root, word, Purpose::Show)?
            }
            _ => None,
        };
        let found = match names {
            Some(names) => names.into_iter().map(Source::Guest).collect(),
            None => vec![source.clone()],
        };
        for source in found {
            // A guest that is named twice is meant once.
            if !out.contains(&source) {
                out.push(source);
            }
        }
    }
    Ok(out)
}

/// Refuses a root without guests.
fn on_a_host(root: &HostFs) -> Result<(), Failure> {
    match root.is_none() {
        true => Err(Failure::Usage(
            "--topology alone is a host without guests: give a file, -, or --root".into(),
        )),
        false => Ok(()),
    }
}

/// Plans several guests of the host together, as `virtfit apply` does.
fn guests(global: &Global, args: &PlanArgs, list: bool) -> Result<Outcome, Failure> {
    let root = session::root(global);
    on_a_host(&root)?;
    let options = &args.options;
    // Definitions that cannot be read are named, and the others planned.
    let session = Session::open_to_show(global, false)?;
    let found = chosen::read(&root, &args.inputs, &session.view.reading, Purpose::Show)?;
    let mut outcome = with_policy(&session, &args.options);
    outcome.stderr.extend(chosen::switched_off(&root));
    outcome.stderr.extend(found.left_out);
    if !found.problems.is_empty() {
        outcome.stderr.extend(found.problems);
        outcome.exit = Exit::Broken;
    } else if found.definitions.is_empty() {
        outcome
            .stderr
            .push("virtfit: no guest is defined on this host".into());
    }
    let ask = Question {
        profile: options.profile.as_deref(),
        ..Question::of(options.scope.into())
    };
    // One that cannot be decided is named too, and the others shown.
    let mut guests = Vec::new();
    let joint = Joint::new(&session.view, &found.definitions, ask, Patience::unlimited());
    let decided = joint.decide();
    // Programs get the number from the plans themselves.
    let at_once = match options.json || options.diff {
        true => String::new(),
        false => at_once(&joint, &decided),
    };
    for (definition, decided) in found.definitions.iter().zip(decided) {
        match decided {
            Ok(decision) => guests.push((
                definition.file.text.clone(),
                Decided {
                    domain: definition.domain.clone(),
                    decision,
                },
            )),
            Err(error) => {
                let error = Failure::at(&definition.file.name, error);
                outcome.stderr.push(format!("virtfit: {}", error.message()));
                outcome.exit = Exit::Broken;
            }
        }
    }
    // A list has no room for pictures; a plan that was asked for by name does.
    if list && !options.json && !options.diff {
        let plans: Vec<Plan> = guests.iter().map(|(_, guest)| guest.plan().clone()).collect();
        outcome.stdout = render::plan::list(&plans, &output::style(global.color));
        outcome.worsen(exit(&plans.iter().collect::<Vec<_>>(), options));
    } else {
        let words: Vec<String> = guests
            .iter()
            .map(|(_, guest)| guest.domain.name.clone())
            .collect();
        show(true, global, options, &session, &guests, &words, &mut outcome)?;
    }
    outcome.stdout.push_str(&at_once);
    Ok(outcome)
}

/// Returns a line that says how many of these guests can run at once; empty where the question does
/// not arise.
pub(crate) fn at_once(joint: &Joint<'_>, decided: &[read_guests::Decided]) -> String {
    let want = "that want CPUs of their own";
    match joint.together(decided) {
        None => String::new(),
        Some(Together { fit, of }) if fit == of => {
            format!("The {of} guests {want} can have them at once.\n")
        }
        Some(Together { fit: 0, of }) => {
            let now = if never_fits(decided) {
                "on this host"
            } else {
                "now"
            };
            format!("None of the {of} guests {want} can have them {now}.\n")
        }
        Some(Together { fit, of }) => format!("{fit} of the {of} guests {want} can have them at once.\n"),
    }
}

/// Returns whether the host itself is the reason for each guest that finds no place.
fn never_fits(decided: &[read_guests::Decided]) -> bool {
    let plans = decided.iter().flatten().map(|decision| decision.plan());
    let mut without = plans.filter(|plan| !plan.notes.dedicated_vcpus.is_empty());
    without.all(|plan| plan.causes().next().is_some_and(Reason::is_lasting))
}

/// Writes these plans in the form that was asked for; `words` are the guests' words on the command
/// line. As JSON, a single named guest is an object; all guests, a pattern and several words are an
/// `array`, however many guests there are.
fn show(
    array: bool,
    global: &Global,
    options: &Options,
    session: &Session,
    guests: &[(String, Decided)],
    words: &[String],
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    // The exit code is that of the worst plan, in every form of output.
    let plans: Vec<&Plan> = guests.iter().map(|(_, guest)| guest.plan()).collect();
    outcome.worsen(exit(&plans, options));
    let style = output::style(global.color);
    if options.json {
        outcome.stdout = match plans.as_slice() {
            [plan] if !array => output::json_line(&PlanJson::new(plan, &warnings(session)))?,
            plans => {
                let warnings = warnings(session);
                let plans = plans.iter().map(|plan| PlanJson::new(plan, &warnings));
                output::json_line(&plans.collect::<Vec<_>>())?
            }
        };
        return Ok(());
    }
    // Text and diffs come one after the other, with a blank line between pictures.
    for (index, (text, guest)) in guests.iter().enumerate() {
        if options.diff {
            outcome.stdout.push_str(&diff(text, guest, &style));
            outcome.stderr.extend(refusal(guest.plan()));
            continue;
        }
        if index > 0 {
            outcome.stdout.push('\n');
        }
        let word = words.get(index).map_or("-", String::as_str);
        let subject = (guest.plan(), &guest.domain);
        let next = advice::next(global, options, session, word, subject, &style);
        let taken = session.view.taken(&guest.domain);
        let housekeeping = &session.view.sets.housekeeping;
        outcome.stdout.push_str(&render::plan::text_with(
            &next,
            guest.plan(),
            &session.view.host,
            housekeeping,
            &taken,
            &style,
        ));
    }
    Ok(())
}

/// Reads an input, checks that it is a domain, and warns of the XML of a running guest: that is
/// what libvirt made of the definition, not the definition.
///
/// # Errors
/// As of [`Source::read`] and [`session::parse`].
pub(crate) fn load(source: &Source, root: &HostFs) -> Result<Input, Failure> {
    let input = source.read(root)?;
    let domain: Domain = session::parse(&input)?;
    if input.stdin && domain.running {
        log::warn!(
            "{}: this is the XML of a running guest; its definition is what virsh dumpxml --inactive prints",
            domain.name
        );
    }
    Ok(input)
}

/// Says that a topology alone has no rules, where a plan came out empty for that reason.
pub(crate) fn ruleless<'a>(
    global: &Global,
    options: &Options,
    mut plans: impl Iterator<Item = &'a Plan>,
) -> Option<String> {
    let no_rules = session::root(global).is_none() && global.policy.is_none() && options.profile.is_none();
    (no_rules && plans.any(|plan| plan.profile.is_none())).then(|| {
        "virtfit: --topology alone is a host without rules: add --profile fit, or --policy FILE".to_string()
    })
}

/// Returns the exit code: 3 where a guest is refused, and with `--exit-code` where one would
/// change.
pub(crate) fn exit(plans: &[&Plan], options: &Options) -> Exit {
    let any = |verdict: Verdict| plans.iter().any(|plan| plan.verdict == verdict);
    if any(Verdict::Refused) || (options.exit_code && any(Verdict::Tuned)) {
        Exit::No
    } else {
        Exit::Done
    }
}

/// Returns the warnings of a plan as JSON: of the policy, and of CPU sets that this host lacks.
pub(crate) fn warnings(session: &Session) -> Vec<Reason> {
    let last_good = (session.policy == PolicyRead::LastGood).then_some(Choice::LastGoodPolicy.into());
    let sets = session.view.sets.notes.iter().cloned().map(Reason::from);
    last_good.into_iter().chain(sets).collect()
}

/// Returns the change as a unified diff; empty where nothing changes.
pub(crate) fn diff(text: &str, guest: &Decided, style: &Style) -> String {
    match guest.xml() {
        Some(xml) => unified(text, xml, &guest.domain.name, style),
        None => String::new(),
    }
}

/// Words the reasons of a refusal, for stderr.
pub(crate) fn refusal(plan: &Plan) -> Vec<String> {
    if plan.verdict != Verdict::Refused {
        return Vec::new();
    }
    if plan.reasons.is_empty() {
        return vec![format!("virtfit: {}: refused", plan.guest)];
    }
    plan.reasons
        .iter()
        .map(|reason| format!("virtfit: {}", reason.with_guest(&plan.guest)))
        .collect()
}
