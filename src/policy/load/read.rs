//! Reads one policy file of the host, one named on the command line, or stdin.

use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use nix::libc;

use crate::hostfs::HostFs;
use crate::hostfs::at_path::{cause, io_words};
use crate::policy::fragment;
use crate::policy::fragment::MAX_BYTES;
use crate::policy::load::{STDIN_SHOWN, State};
use crate::policy::source::Problem;

/// Reads a file into its state; `None` where there is no file.
pub(super) fn read(root: &HostFs, path: &str) -> Option<State> {
    let target = match root.resolve(path) {
        Ok(target) => target,
        Err(error) => return Some(State::Unreadable(unresolved(path, &error))),
    };
    if target == Path::new("/dev/null") {
        return Some(State::Removed);
    }
    // Links below another root were followed already; no path may lead out of it.
    let on_disk = match root.locate(&target, true) {
        Ok(on_disk) => on_disk,
        Err(error) => return Some(State::Unreadable(unresolved(path, &error))),
    };
    match file_text(&on_disk, path) {
        Ok(text) => Some(State::Used(text)),
        Err(Some(problem)) => Some(State::Unreadable(problem)),
        // The link exists, its target does not.
        Err(None) => root.read_link(path).ok().map(|link| {
            State::Unreadable(
                Problem::file(
                    path,
                    format!("the link points to {}, which does not exist", link.display()),
                )
                .next("mend the link, or let it point to /dev/null to switch the file off"),
            )
        }),
    }
}

/// Returns the text on stdin, which is read once: host, policy and advice may each ask for it.
pub(super) fn stdin_state() -> State {
    static TEXT: OnceLock<State> = OnceLock::new();
    let read = || match bounded_text(io::stdin().lock(), STDIN_SHOWN) {
        Ok(text) => State::Used(text),
        Err(problem) => State::Unreadable(problem),
    };
    TEXT.get_or_init(read).clone()
}

/// Builds the problem of a path whose links cannot be followed.
fn unresolved(path: &str, error: &io::Error) -> Problem {
    match cause(error).raw_os_error() {
        Some(libc::ELOOP) => Problem::file(path, "too many symbolic links in a row").next("mend the link"),
        _ => unreadable(path, error),
    }
}

/// Reads a regular file's text; `Err(None)` where there is no file.
pub(super) fn file_text(path: &Path, shown: &str) -> Result<String, Option<Problem>> {
    let kind = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(None),
        Err(error) => return Err(Some(unreadable(shown, &error))),
    };
    // The kind is checked before the file is opened: opening a FIFO waits for a writer.
    if !kind.is_file() {
        let what = if kind.is_dir() {
            "a folder"
        } else {
            "no regular file"
        };
        return Err(Some(
            Problem::file(shown, format!("{what}, where a policy file is expected"))
                .next("a policy is a regular file whose name ends in .toml"),
        ));
    }
    let file = fs::File::open(path).map_err(|error| Some(unreadable(shown, &error)))?;
    bounded_text(file, shown).map_err(Some)
}

/// Reads text of up to [`MAX_BYTES`].
fn bounded_text(from: impl Read, shown: &str) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(shown, &error))?;
    if bytes.len() > MAX_BYTES {
        return Err(fragment::too_large(shown));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let source = std::sync::Arc::new(crate::policy::source::Source::new(shown, &text));
        // Both texts are equal up to the bad byte, except that a byte order mark was taken off one.
        let good = good
            - if text.starts_with('\u{feff}') {
                3.min(good)
            } else {
                0
            };
        let place = crate::policy::source::Place::new(&source, good..good + '\u{fffd}'.len_utf8());
        Problem::at(place, "not UTF-8").next("save the file in UTF-8")
    })
}

pub(super) fn gone(path: &str) -> State {
    State::Unreadable(Problem::file(path, "there is no such file"))
}

pub(super) fn unreadable(path: &str, error: &io::Error) -> Problem {
    let next = match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root, or make it readable",
        io::ErrorKind::NotADirectory => "a part of the path is a file where a folder is expected",
        _ => "mend the file or take it away",
    };
    let reason = io_words(cause(error)).to_lowercase();
    Problem::file(path, format!("cannot be read: {reason}")).next(next)
}
