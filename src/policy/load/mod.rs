//! Policy files below a root path, in their order of precedence, and which of them count.
//!
//! ```text
//! /usr/lib/virtfit/policy.d/*.toml    vendor: settings first, rules last
//! /etc/virtfit/policy.toml
//! /etc/virtfit/policy.d/*.toml        by name; masks the vendor's file of an equal name
//! ```
//! A missing folder or file is fine. A link to `/dev/null` switches a file off.

mod read;
mod replace;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use crate::hostfs::{HostFs, Stamp};
use crate::policy::Policy;
use crate::policy::access::Trusted;
use crate::policy::fragment;
use crate::policy::fragment::Fragment;
use crate::policy::merge::{Tier, merge};
use crate::policy::source::{PolicyErrors, Problem};

use read::{file_text, gone, read, stdin_state, unreadable};

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
