//! Policy files below a root path, in their order of precedence, and which of them count.
//!
//! ```text
//! /usr/lib/virtfit/policy.d/*.toml    vendor: settings first, rules last
//! /etc/virtfit/policy.toml
//! /etc/virtfit/policy.d/*.toml        by name; masks the vendor's file of an equal name
//! ```
//! A missing folder or file is fine. A link to `/dev/null` switches a file off.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;
use std::time::SystemTime;

use nix::libc;

use crate::hostfs::at_path::{cause, io_words};
use crate::hostfs::{HostFs, Stamp};
use crate::policy::Policy;
use crate::policy::access::Trusted;
use crate::policy::fragment;
use crate::policy::fragment::{Fragment, MAX_BYTES};
use crate::policy::merge::{Tier, merge};
use crate::policy::source::{PolicyErrors, Problem};

/// Vendor's folder.
pub(crate) const VENDOR_DIR: &str = "/usr/lib/virtfit/policy.d";
/// Administrator's file.
pub(crate) const MAIN_FILE: &str = "/etc/virtfit/policy.toml";
/// Folder of [`MAIN_FILE`].
pub(crate) const MAIN_DIR: &str = "/etc/virtfit";
/// Administrator's folder.
pub(crate) const DROP_IN_DIR: &str = "/etc/virtfit/policy.d";

/// Word that means stdin where a policy file is named.
pub(crate) const STDIN: &str = "-";
/// Name of stdin in messages.
pub(crate) const STDIN_SHOWN: &str = "stdin";

/// Error about a path at which no policy file is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: no place of a policy file: {MAIN_FILE}, or a name that ends in .toml in {DROP_IN_DIR}")]
pub(crate) struct NoPlace(String);

/// State of one policy file.
#[derive(Debug, Clone)]
pub enum State {
    /// Text of a file that counts.
    Used(String),
    /// Masked by another file of the same name, whose path this is.
    Masked(String),
    /// Switched off: a link to `/dev/null`.
    Removed,
    /// Unreadable, for this reason.
    Unreadable(Problem),
}

/// One policy file.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    /// Path on the host (without the root), as messages name it.
    pub path: String,
    /// Tier in the order of precedence.
    pub tier: Tier,
    pub state: State,
}

/// All policy files in the order in which their settings are applied, and folders that cannot be
/// read.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Files, including those that do not count.
    pub files: Vec<PolicyFile>,
    /// Problems of folders that cannot be read and of names that are not UTF-8.
    pub problems: Vec<Problem>,
    /// Time of the last change of any of the files or folders. A folder changes when a file in it
    /// appears or disappears.
    pub changed_at: Option<SystemTime>,
    /// Warnings about files and folders that other users than root may write.
    pub warnings: Vec<String>,
}

impl Files {
    /// Reads the policy files of a host.
    pub fn of(root: &HostFs) -> Self {
        let mut out = Self::default();
        // Times are read before the texts, so that a file that changes in between counts as changed
        // later than it was read.
        for path in [VENDOR_DIR, MAIN_DIR, MAIN_FILE, DROP_IN_DIR] {
            out.note_change_of(root, path);
        }
        let vendor = out.folder(root, VENDOR_DIR);
        let own = out.folder(root, DROP_IN_DIR);
        for (folder, names) in [(VENDOR_DIR, &vendor), (DROP_IN_DIR, &own)] {
            names
                .keys()
                .for_each(|name| out.note_change_of(root, &format!("{folder}/{name}")));
        }
        // The vendor's files come first, so that every other file overrides their settings.
        for name in vendor.keys() {
            let path = format!("{VENDOR_DIR}/{name}");
            let state = match own.get(name) {
                Some(()) => Some(State::Masked(format!("{DROP_IN_DIR}/{name}"))),
                None => read(root, &path),
            };
            out.extend(path, Tier::Vendor, state);
        }
        out.extend(MAIN_FILE.into(), Tier::Main, read(root, MAIN_FILE));
        for name in own.keys() {
            let path = format!("{DROP_IN_DIR}/{name}");
            let state = read(root, &path);
            out.extend(path, Tier::DropIn, state);
        }
        // Files that do not count decide nothing, so only folders and used files are checked for
        // other writers.
        let used = out
            .files
            .iter()
            .filter(|file| matches!(file.state, State::Used(_)));
        let folders = [VENDOR_DIR, MAIN_DIR, DROP_IN_DIR].into_iter();
        let trusted = root.base().map(Trusted::below);
        let warnings = folders
            .chain(used.map(|file| file.path.as_str()))
            .filter_map(|path| {
                let on_disk = root.locate(Path::new(path), true).ok()?;
                trusted?.warning(&on_disk, path)
            });
        out.warnings = warnings.collect();
        out
    }

    /// Reads files named on the command line (`--policy FILE`, `policy check FILE…`) in the order
    /// given, and no folders. Their paths are taken as they are, not below a root.
    pub fn named<P: AsRef<Path>>(paths: &[P]) -> Self {
        let mut out = Self::default();
        for path in paths {
            let path = path.as_ref();
            if path == Path::new(STDIN) {
                out.push(STDIN_SHOWN.into(), Tier::Main, stdin_state());
                continue;
            }
            out.note_change(path);
            let shown = path.display().to_string();
            let state = match file_text(path, &shown) {
                // `/dev/null` is how a shell user says "no policy at all".
                _ if path == Path::new("/dev/null") => State::Removed,
                Ok(text) => State::Used(text),
                Err(Some(problem)) => State::Unreadable(problem),
                Err(None) => gone(&shown),
            };
            if matches!(state, State::Used(_)) {
                out.warnings.extend(Trusted::own().warning(path, &shown));
            }
            out.push(shown, Tier::Main, state);
        }
        out
    }

    /// Reads the policy files of a host, with another file in place of the one at `place`, which
    /// need not exist. `file` is a path as of [`Files::named`].
    ///
    /// # Errors
    /// `place` is no path of a policy file.
    pub(crate) fn with(root: &HostFs, file: &Path, place: &Path) -> Result<Self, NoPlace> {
        let no_place = || NoPlace(place.display().to_string());
        let folder = place.parent().and_then(Path::to_str).ok_or_else(no_place)?;
        let name = place
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(no_place)?;
        let is_toml = name.ends_with(".toml") && !name.starts_with('.');
        let tier = match folder {
            _ if place == Path::new(MAIN_FILE) => Tier::Main,
            DROP_IN_DIR if is_toml => Tier::DropIn,
            _ => return Err(no_place()),
        };
        let path = format!("{folder}/{name}");
        let mut out = Self::of(root);
        let mut one = Self::named(&[file]);
        out.files.retain(|file| file.path != path);
        // A problem with the text that is replaced is mended by the new one.
        out.problems.retain(|problem| problem.path != path);
        for mut new in one.files.drain(..) {
            new.tier = tier;
            if tier == Tier::DropIn {
                let vendors = format!("{VENDOR_DIR}/{name}");
                let masked = out.files.iter_mut().filter(|file| file.path == vendors);
                masked.for_each(|file| file.state = State::Masked(new.path.clone()));
            }
            let after = |file: &&PolicyFile| (file.tier, file.path.as_str()) > (tier, path.as_str());
            let at = out.files.iter().position(|file| after(&file));
            out.files.insert(at.unwrap_or(out.files.len()), new);
        }
        out.warnings.extend(one.warnings);
        Ok(out)
    }

    /// Takes one text as the whole policy, for callers that have read it already.
    pub fn text(path: &str, text: &str) -> Self {
        let mut out = Self::default();
        out.push(path.into(), Tier::Main, State::Used(text.into()));
        out
    }

    /// Parses the files and merges them into one policy.
    ///
    /// # Errors
    /// All problems in all files, in the order of files and lines.
    pub fn policy(&self) -> Result<Policy, PolicyErrors> {
        let mut problems = self.problems.clone();
        let mut fragments = Vec::new();
        for file in &self.files {
            match &file.state {
                State::Used(text) => {
                    let (fragment, found) = fragment::parse(text, &file.path);
                    problems.extend(found);
                    fragments.push((file.tier, fragment));
                }
                State::Unreadable(problem) => {
                    problems.push(problem.clone());
                    let broken = Fragment {
                        broken: true,
                        ..Fragment::default()
                    };
                    fragments.push((file.tier, broken));
                }
                State::Masked(_) | State::Removed => {}
            }
        }
        match merge(&fragments, problems) {
            Ok(policy) => Ok(Policy {
                changed_at: self.changed_at,
                warnings: self.warnings.clone(),
                ..policy
            }),
            Err(problems) => Err(PolicyErrors(self.ordered(problems))),
        }
    }

    /// Takes the last change of a path of the host, and of the target of a link, into
    /// [`Files::changed_at`].
    fn note_change_of(&mut self, root: &HostFs, path: &str) {
        for follow in [false, true] {
            if let Ok(on_disk) = root.locate(Path::new(path), follow) {
                self.note_change(&on_disk);
            }
        }
    }

    /// Takes the last change of a path of this machine as [`Files::note_change_of`] does.
    fn note_change(&mut self, path: &Path) {
        let found = [fs::symlink_metadata(path), fs::metadata(path)];
        for meta in found.iter().flatten() {
            self.changed_at = self.changed_at.max(Stamp::of(meta).last_change());
        }
    }

    fn ordered(&self, mut problems: Vec<Problem>) -> Vec<Problem> {
        problems.sort_by_key(|problem| {
            let file = self.files.iter().position(|file| file.path == problem.path);
            (
                file.unwrap_or(usize::MAX),
                problem
                    .place
                    .as_ref()
                    .map_or(0, crate::policy::source::Place::start),
            )
        });
        problems
    }

    fn push(&mut self, path: String, tier: Tier, state: State) {
        self.files.push(PolicyFile { path, tier, state });
    }

    /// Adds a file; `None`: it was deleted since its folder was read, and is left out.
    fn extend(&mut self, path: String, tier: Tier, state: Option<State>) {
        if let Some(state) = state {
            self.push(path, tier, state);
        }
    }

    /// Returns the names `*.toml` in a folder, sorted. Hidden files are left out: editors and
    /// package managers leave their spare copies under such names.
    fn folder(&mut self, root: &HostFs, folder: &str) -> BTreeMap<String, ()> {
        let mut names = BTreeMap::new();
        let entries = match root.locate(Path::new(folder), true).and_then(fs::read_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return names,
            Err(error) => {
                self.problems.push(unreadable(folder, &error));
                return names;
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) => match entry.file_name().into_string() {
                    Ok(name) if name.ends_with(".toml") && !name.starts_with('.') => {
                        names.insert(name, ());
                    }
                    Ok(_) => {}
                    Err(name) => {
                        let path = format!("{folder}/{}", name.to_string_lossy());
                        if path.ends_with(".toml") {
                            let problem = Problem::file(&path, "the file's name is not UTF-8");
                            self.problems.push(problem.next("rename it"));
                        }
                    }
                },
                Err(error) => self.problems.push(unreadable(folder, &error)),
            }
        }
        names
    }
}

/// Reads a file into its state; `None` where there is no file.
fn read(root: &HostFs, path: &str) -> Option<State> {
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
fn stdin_state() -> State {
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
fn file_text(path: &Path, shown: &str) -> Result<String, Option<Problem>> {
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

fn gone(path: &str) -> State {
    State::Unreadable(Problem::file(path, "there is no such file"))
}

fn unreadable(path: &str, error: &io::Error) -> Problem {
    let next = match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root, or make it readable",
        io::ErrorKind::NotADirectory => "a part of the path is a file where a folder is expected",
        _ => "mend the file or take it away",
    };
    let reason = io_words(cause(error)).to_lowercase();
    Problem::file(path, format!("cannot be read: {reason}")).next(next)
}
