//! `virtfit rewrite`: the tuned XML on stdout.

use crate::cli::args::{Global, RewriteArgs};
use crate::cli::input::Source;
use crate::cli::plan;
use crate::cli::session::{self, Session};
use crate::cli::{Failure, Outcome, output};
use crate::engine::Decision;
use crate::render::json::PlanJson;

/// Runs the command.
///
/// # Errors
/// The input, the host or the policy is broken.
pub(crate) fn run(global: &Global, args: &RewriteArgs) -> Result<Outcome, Failure> {
    let options = &args.options;
    let source = one_source(args.input.as_deref(), "rewrite")?;
    let input = plan::load(&source, &session::root(global))?;
    let session = Session::open(global)?;
    let decided = session.decide(&input, options.scope.into(), options.profile.as_deref())?;
    let decided = decided.of(&source);
    let stdout = if options.json {
        output::json_line(&PlanJson::new(decided.plan(), &plan::warnings(&session)))?
    } else if options.diff {
        plan::diff(&input.text, &decided, &output::style(global.color))
    } else {
        match &decided.decision {
            Decision::Tuned { xml, .. } => xml.clone(),
            Decision::Unchanged(_) => input.text.clone(),
            Decision::Refused(_) => String::new(),
        }
    };
    let mut stderr = plan::refusal(decided.plan());
    stderr.extend(plan::ruleless(global, options, [decided.plan()].into_iter()));
    Ok(Outcome {
        stdout,
        stderr,
        exit: plan::exit(&[decided.plan()], options),
    })
}

/// Returns the one input of a command that takes one. Only `-` is stdin: a command without a word
/// would wait for a pipe that has no writer.
///
/// # Errors
/// There is no word.
pub(crate) fn one_source(word: Option<&std::ffi::OsStr>, command: &str) -> Result<Source, Failure> {
    match word {
        Some(word) => Ok(Source::of(word)),
        None => Err(Failure::Usage(format!(
            "{command} what? Give a guest, a file, or - for XML on stdin"
        ))),
    }
}
