//! `virtfit map`: the host drawn, with who sits where.

use std::fs;
use std::path::Path;

use crate::cli::args::{Global, MapArgs};
use crate::cli::chosen::{self, Purpose};
use crate::cli::session::{self, Session};
use crate::cli::{Exit, Failure, Outcome, output, status};
use crate::engine::Question;
use crate::map;
use crate::render;
use crate::status::Status;
use crate::types::plan::{Scope, Verdict};

/// Runs the command. Exit 3: the guest that is named is refused.
///
/// # Errors
/// Host or policy cannot be read, an ordinary user cannot ask the daemon, or there is no guest that
/// is named.
pub(crate) fn run(global: &Global, args: &MapArgs) -> Result<Outcome, Failure> {
    let root = session::root(global);
    let session = Session::open_to_show(global, true)?;
    let status = match root.is_none() || global.assume_empty {
        true => Status::default(),
        false => status::seen(&session)?.0,
    };
    let mut outcome = Outcome {
        stderr: session.policy_errors.clone(),
        ..Outcome::default()
    };
    let mut map = map::of(&session.view, &status);
    if let Some(guest) = &args.guest {
        let root = session::host(global)?;
        let words = std::slice::from_ref(guest);
        let found = chosen::read(&root, words, &session.view.reading, Purpose::Show)?;
        let [definition] = found.definitions.as_slice() else {
            let word = guest.to_string_lossy();
            return Err(Failure::Usage(format!(
                "{word}: several guests; virtfit map takes one"
            )));
        };
        let ask = Question::of(Scope::Boot);
        let decision = session.view.decide(&definition.file.text, ask);
        let decision = decision.map_err(|error| Failure::at(&definition.file.name, error))?;
        map.plan(&session.view, &definition.domain, decision.plan());
        if decision.plan().verdict == Verdict::Refused {
            outcome.exit = Exit::No;
        }
    }
    outcome.stdout = match &args.svg {
        Some(file) => image(file, render::map::svg(&map))?,
        None if args.json => output::json_line(&map)?,
        None => render::map::text(&map, &output::style(global.color)),
    };
    Ok(outcome)
}

/// Writes the image to a file; returns it where it is for stdout.
fn image(file: &Path, svg: String) -> Result<String, Failure> {
    if file == Path::new("-") {
        return Ok(svg);
    }
    fs::write(file, svg).map_err(|error| Failure::io(file.display(), &error))?;
    Ok(String::new())
}
