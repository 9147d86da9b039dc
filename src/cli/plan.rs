//! `virtfit plan`: what would change for guests, and why.

use std::io::{self, IsTerminal};

use crate::cli::args::{Global, Options, PlanArgs};
use crate::cli::input::{self, Input, Source};
use crate::cli::session::{self, Decided, Session};
use crate::cli::{Exit, Failure, Outcome, guest, output};
use crate::ledger::claims;
use crate::plan::{Plan, Verdict};
use crate::render::diff::unified;
use crate::render::{self, Style};
use crate::root::Root;

/// Runs it.
///
/// # Errors
/// An input, the host or the policy is broken.
pub fn run(global: &Global, args: &PlanArgs) -> Result<Outcome, Failure> {
    if args.inputs.is_empty() && io::stdin().is_terminal() {
        return all(global, &args.options);
    }
    let mut sources: Vec<Source> = args.inputs.iter().map(|word| Source::of(word)).collect();
    if sources.is_empty() {
        sources.push(Source::Stdin);
    }
    if sources.iter().filter(|source| **source == Source::Stdin).count() > 1 {
        return Err(Failure::Usage("stdin can be read once: give - once".into()));
    }
    let root = session::root(global);
    let words = args.inputs.iter().map(|word| word.to_string_lossy());
    let words = words.chain(args.inputs.is_empty().then(|| "-".into()));
    let inputs = words.zip(sources.iter().map(|source| load(source, &root)));
    // One of several that is broken does not hide the others; one alone is told before policy and host are read.
    let mut failed = Vec::new();
    let mut loaded = Vec::new();
    for (word, input) in inputs {
        match input {
            Ok(input) => loaded.push((word, input)),
            Err(error) if sources.len() > 1 => failed.push(error),
            Err(error) => return Err(error),
        }
    }
    let session = Session::open(global)?;
    let mut guests = Vec::new();
    for (word, input) in &loaded {
        let options = &args.options;
        match session.decide(input, options.scope.into(), options.profile.as_deref()) {
            Ok(decided) => guests.push((word, input, decided)),
            Err(error) if sources.len() > 1 => failed.push(error),
            Err(error) => return Err(error),
        }
    }
    let plans: Vec<&Plan> = guests.iter().map(|(.., guest)| guest.plan()).collect();
    let told = failed.iter().map(|error| format!("virtfit: {}", error.message()));
    let mut outcome = Outcome {
        exit: match failed.is_empty() {
            true => exit(&plans, &args.options),
            false => Exit::Broken,
        },
        stderr: told.collect(),
        ..Outcome::default()
    };
    let style = output::style(global.color);
    if args.options.json {
        outcome.stdout = match plans.as_slice() {
            [plan] if sources.len() == 1 => json(plan)?,
            plans => json(plans)?,
        };
        return Ok(outcome);
    }
    for (index, (word, input, guest)) in guests.iter().enumerate() {
        if args.options.diff {
            outcome.stdout.push_str(&diff(input, guest, &style));
            outcome.stderr.extend(refusal(guest.plan()));
            continue;
        }
        if index > 0 {
            outcome.stdout.push('\n');
        }
        let taken = session.view.taken(&guest.domain);
        let housekeeping = &session.view.sets.housekeeping;
        let text = render::plan::text_as(
            word,
            guest.plan(),
            &session.view.host,
            housekeeping,
            &taken,
            &style,
        );
        outcome.stdout.push_str(&text);
    }
    Ok(outcome)
}

/// Reads an input, checks that it is a domain, and warns where it is the XML of a running guest: that has what libvirt
/// made of the definition, not the definition.
///
/// # Errors
/// As [`Source::read`] and [`session::parse`].
pub fn load(source: &Source, root: &Root) -> Result<Input, Failure> {
    let input = source.read(root)?;
    let domain = session::parse(&input)?;
    if input.stdin && domain.running {
        log::warn!(
            "{}: this is the XML of a running guest; its definition is what virsh dumpxml --inactive prints",
            domain.name
        );
    }
    Ok(input)
}

/// All guests of the host, a line each. One that is broken does not hide the others.
fn all(global: &Global, options: &Options) -> Result<Outcome, Failure> {
    let root = session::root(global);
    if root.is_none() {
        return Err(Failure::Usage(
            "--topology alone is a host without guests: give a file, -, or --root".into(),
        ));
    }
    let session = Session::open(global)?;
    let style = output::style(global.color);
    let mut outcome = Outcome::default();
    let mut guests = Vec::new();
    let definitions = guest::definitions(&root)?;
    if definitions.is_empty() {
        outcome
            .stderr
            .push("virtfit: no guest is defined on this host".into());
    }
    for name in definitions {
        let file = root.path(claims::path(&name));
        let decided = input::read_file(&file).and_then(|input| {
            let decided = session.decide(&input, options.scope.into(), options.profile.as_deref())?;
            Ok((input, decided))
        });
        match decided {
            Ok(both) => guests.push(both),
            Err(error) => {
                outcome.stderr.push(format!("virtfit: {}", error.message()));
                outcome.exit = Exit::Broken;
            }
        }
    }
    let plans: Vec<&Plan> = guests.iter().map(|(_, guest)| guest.plan()).collect();
    if outcome.exit == Exit::Done {
        outcome.exit = exit(&plans, options);
    }
    if options.json {
        outcome.stdout = json(&plans)?;
        return Ok(outcome);
    }
    if !options.diff {
        let plans: Vec<Plan> = plans.into_iter().cloned().collect();
        outcome.stdout = render::plan::list(&plans, &style);
        return Ok(outcome);
    }
    for (input, guest) in &guests {
        outcome.stdout.push_str(&diff(input, guest, &style));
        outcome.stderr.extend(refusal(guest.plan()));
    }
    Ok(outcome)
}

/// Refused is always no; a change is with `--exit-code`.
pub fn exit(plans: &[&Plan], options: &Options) -> Exit {
    let any = |verdict: Verdict| plans.iter().any(|plan| plan.verdict == verdict);
    if any(Verdict::Refused) || (options.exit_code && any(Verdict::Tuned)) {
        Exit::No
    } else {
        Exit::Done
    }
}

/// One line of JSON.
///
/// # Errors
/// None that is known; serialisation is fallible by type.
pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::at("plan", error))?;
    Ok(text + "\n")
}

/// The change as a unified diff; empty where nothing changes.
pub fn diff(input: &Input, guest: &Decided, style: &Style) -> String {
    match guest.xml() {
        Some(xml) => unified(&input.text, xml, &guest.domain.name, style),
        None => String::new(),
    }
}

/// Why the answer is no, for stderr.
pub fn refusal(plan: &Plan) -> Vec<String> {
    if plan.verdict != Verdict::Refused {
        return Vec::new();
    }
    if plan.reasons.is_empty() {
        return vec![format!("virtfit: {}: refused", plan.guest)];
    }
    plan.reasons
        .iter()
        .map(|reason| format!("virtfit: {}", with_name(&plan.guest, reason)))
        .collect()
}

pub use crate::plan::with_name;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_its_guest_once() {
        for (guest, reason, expected) in [
            ("db", "db needs 4 CPUs", "db needs 4 CPUs"),
            ("db", "needs 4 CPUs", "db needs 4 CPUs"),
            ("db", "no memory", "db: no memory"),
            ("db", "dba holds 4 CPUs", "db: dba holds 4 CPUs"),
            ("db", "db: no", "db: no"),
        ] {
            assert_eq!(with_name(guest, reason), expected);
        }
    }
}
