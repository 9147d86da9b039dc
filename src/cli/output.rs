//! Output: written once, at the end, in the form the reader's screen can show.

use crate::hostfs::at_path::io_words;
use crate::types::printable::{visible, visible_json};
use std::env;
use std::io::{self, IsTerminal, Write};

use crate::cli::args::ColorWhen;
use crate::cli::{Exit, Failure, Outcome};
use crate::render::Style;

/// Width of text that is not for a terminal, and of a terminal whose width is unknown.
const PLAIN_WIDTH: usize = 80;
/// Greatest width of text on a terminal.
const MAX_WIDTH: usize = 100;
/// Greatest width that `COLUMNS` can ask for, where stdout is no terminal.
const MAX_SAID: usize = 1000;

/// Writes stderr, then stdout, and returns the exit code. A reader that went away is no error.
pub(crate) fn write(outcome: &Outcome) -> Exit {
    let mut stderr = io::stderr().lock();
    for line in &outcome.stderr {
        let _ = writeln!(stderr, "{}", visible(line));
    }
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(outcome.stdout.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(stderr, "virtfit: stdout: {}", io_words(&error));
            Exit::Broken
        }
        _ => outcome.exit,
    }
}

/// Makes an answer of JSON.
///
/// # Errors
/// As of [`json_line`].
pub(crate) fn json(value: &impl serde::Serialize) -> Result<Outcome, Failure> {
    Ok(Outcome::answer(json_line(value)?))
}

/// Returns a value as one line of JSON.
///
/// # Errors
/// None that is known; serialisation is fallible by type.
pub(crate) fn json_line<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::at("--json", error))?;
    Ok(visible_json(&text) + "\n")
}

/// Returns the width of text for stdout: the terminal's, else what `COLUMNS` says.
pub(crate) fn columns() -> usize {
    let columns = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    let said = || env::var("COLUMNS").ok()?.trim().parse::<usize>().ok();
    match (columns, said()) {
        (Some(columns), _) if columns > 0 => columns.min(MAX_WIDTH),
        (None, Some(columns)) if columns > 0 => columns.min(MAX_SAID),
        _ => PLAIN_WIDTH,
    }
}

/// Returns the style for the reader of stdout.
pub(crate) fn style(color: ColorWhen) -> Style {
    let terminal = io::stdout().is_terminal();
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    Style {
        width: columns(),
        unicode: is_utf8(|name| env::var(name).ok()),
        color: match color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => terminal && !set("NO_COLOR") && !dumb,
        },
    }
}

/// Returns whether the locale's character set is UTF-8: the first of these variables that is set
/// decides (`locale(7)`).
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_locale_variable_decides() {
        let rows: &[(&[(&str, &str)], bool)] = &[
            (&[], false),
            (&[("LANG", "en_GB.UTF-8")], true),
            (&[("LANG", "C.utf8")], true),
            (&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")], false),
            (&[("LC_ALL", ""), ("LANG", "en_GB.UTF-8")], true),
            (&[("LC_CTYPE", "C.UTF-8"), ("LANG", "C")], true),
        ];
        for (variables, expected) in rows {
            let get = |name: &str| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_string())
            };
            assert_eq!(is_utf8(get), *expected, "{variables:?}");
        }
    }
}
