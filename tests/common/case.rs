//! Parts that several test programs share: cases, throw-away host roots, trees as data.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

// A test with both has it twice.
#[allow(clippy::duplicate_mod)]
#[path = "feed.rs"]
mod feed;
use feed::feed;

/// Returns the `fixtures` folder.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Lists the folders of all cases, by name.
pub fn cases() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(fixtures().join("cases"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    all.sort();
    all
}

/// Cases with something that libvirt 9.0 does not know yet; it leaves it out of what it stores.
pub const NEWER: [&str; 1] = ["iothreads-per-disk"];

/// Returns a folder's last name.
pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Copies a tree over another. Symbolic links stay links; a file replaces what was there.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
            continue;
        }
        if target.symlink_metadata().is_ok() {
            fs::remove_file(&target).unwrap();
        }
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), &target).unwrap();
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Reads all files of a tree: path below it, and the bytes (of a link: its target).
pub fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, folder: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = path.symlink_metadata().unwrap().file_type();
            let below = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if kind.is_dir() {
                walk(root, &path, out);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                out.insert(below, target.to_string_lossy().into_owned().into_bytes());
            } else if kind.is_file() {
                out.insert(below, fs::read(&path).unwrap());
            } else {
                out.insert(below, b"(neither file nor link)".to_vec());
            }
        }
    }
    let mut out = BTreeMap::new();
    if root.is_dir() {
        walk(root, root, &mut out);
    }
    out
}

/// Case set up in a folder of its own: `root` is the host, `work` the current folder with the
/// case's files.
pub struct Stage {
    folder: tempfile::TempDir,
    /// Options before a command's words: `--root …`, `--topology …`.
    pub options: Vec<String>,
    /// The case's own words, after the command's.
    pub args: Vec<String>,
}

impl Stage {
    /// Sets a case up.
    pub fn of(case: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stage = Self {
            folder,
            options: Vec::new(),
            args: words(&case.join("args")),
        };
        fs::create_dir(stage.work()).unwrap();
        fs::create_dir(stage.root()).unwrap();
        for entry in fs::read_dir(case).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, stage.work().join(path.file_name().unwrap())).unwrap();
            }
        }
        let topology = ["topology.xml", "topology.txt"]
            .map(|name| case.join(name))
            .into_iter()
            .find(|p| p.exists());
        let base = case.join("host");
        let overlay = case.join("root");
        if base.exists() {
            let name = fs::read_to_string(&base).unwrap();
            copy_tree(&fixtures().join("hosts").join(name.trim()), &stage.root());
        }
        if overlay.exists() {
            copy_tree(&overlay, &stage.root());
        }
        let mut options = Vec::new();
        if topology.is_none() || overlay.exists() {
            options.push("--root".to_string());
            options.push(stage.root().to_string_lossy().into_owned());
        }
        match topology {
            Some(path) if path.ends_with("topology.xml") => {
                options.extend(["--topology".to_string(), "./topology.xml".to_string()]);
            }
            Some(path) => {
                let line = fs::read_to_string(path).unwrap();
                options.extend(["--topology".to_string(), line.trim().to_string()]);
            }
            None => assert!(base.exists(), "{}: neither host nor topology", case.display()),
        }
        Self { options, ..stage }
    }

    /// Returns the root of the host.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Returns the current folder of the commands.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// Runs a command as [`Stage::run`] does, without the case's own words: for commands that do
    /// not have those options.
    pub fn run_without_args(&self, words: &[&str], stdin: &[u8]) -> Output {
        let plain: Vec<&str> = self
            .options
            .iter()
            .map(String::as_str)
            .chain(words.iter().copied())
            .collect();
        self.spawn(&plain, stdin)
    }

    /// Runs `virtfit OPTIONS WORDS ARGS` with this on its standard input.
    pub fn run(&self, words: &[&str], stdin: &[u8]) -> Output {
        let args = self.args.iter().map(String::as_str);
        let all: Vec<&str> = words.iter().copied().chain(args).collect();
        self.run_without_args(&all, stdin)
    }

    fn spawn(&self, words: &[&str], stdin: &[u8]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtfit"));
        command
            .args(words)
            .current_dir(self.work())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8");
        feed(&mut command, stdin)
    }

    /// Replaces this run's own paths by `ROOT` and `WORK`.
    pub fn normalise(&self, bytes: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return bytes.to_vec();
        };
        let root = self.root().to_string_lossy().into_owned();
        let work = self.work().to_string_lossy().into_owned();
        text.replace(&root, "ROOT").replace(&work, "WORK").into_bytes()
    }
}

/// Splits a file into words at white space; none where there is no file.
pub fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(str::to_string).collect()
}
