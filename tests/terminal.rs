//! Questions on a terminal before definitions are written, and behaviour without a terminal.
//! libvirt is a script here.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::pty::openpty;

/// Script in the place of `virtfitd call`: it records each request, and accepts every one.
const LIBVIRT: &str = r#"#!/bin/sh
while read -r line; do printf '%s\n' "$line" >>"$(dirname "$0")/asked"; echo '{"ok":true}'; done
"#;
const POLICY: &str = "[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n";

/// Lock: a program that is still being written cannot be executed, and a child of another thread
/// has it open until the child executes another program.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Host of eight CPUs, with the programs beside it.
struct Host(tempfile::TempDir, #[allow(dead_code)] MutexGuard<'static, ()>);

impl Host {
    /// Makes two guests, as an administrator defined them.
    fn new() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let host = Self(tempfile::tempdir().unwrap(), alone);
        // The program looks for virtfitd beside itself.
        fs::copy(env!("CARGO_BIN_EXE_virtfit"), host.path().join("virtfit")).unwrap();
        let libvirt = host.path().join("virtfitd");
        fs::write(&libvirt, LIBVIRT).unwrap();
        fs::set_permissions(&libvirt, fs::Permissions::from_mode(0o755)).unwrap();
        host.write("etc/virtfit/policy.toml", POLICY);
        for (number, name) in ["a", "b"].iter().enumerate() {
            let text = format!(
                "<domain type='kvm'>\n  <name>{name}</name>\n  <uuid>8c1f6f0e-0000-4000-8000-00000000000{number}</uuid>\n  \
                 <memory unit='MiB'>64</memory>\n  <vcpu>2</vcpu>\n  <os><type arch='x86_64' machine='q35'>hvm</type></os>\n\
                 </domain>\n"
            );
            host.write(&format!("etc/libvirt/qemu/{name}.xml"), &text);
        }
        host
    }

    /// Makes the two guests as virtfit leaves them.
    fn tuned() -> Self {
        let host = Self::new();
        for name in ["a", "b"] {
            let tuned = host.run(&["rewrite", name], None);
            assert!(tuned.status.success(), "{tuned:?}");
            let text = String::from_utf8(tuned.stdout).unwrap();
            assert!(text.contains("<vcpupin"), "{text}");
            host.write(&format!("etc/libvirt/qemu/{name}.xml"), &text);
        }
        host
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join("host").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs the program with what is typed, or without a terminal.
    fn run(&self, words: &[&str], typed: Option<&str>) -> Output {
        let terminal = openpty(None, None).unwrap();
        let stdin = match typed {
            None => Stdio::null(),
            Some(typed) => {
                fs::File::from(terminal.master.try_clone().unwrap())
                    .write_all(typed.as_bytes())
                    .unwrap();
                Stdio::from(terminal.slave)
            }
        };
        Command::new(self.path().join("virtfit"))
            .arg("--root")
            .arg(self.path().join("host"))
            .args(["--topology", "node:1 core:4 pu:2"])
            .args(words)
            .env_remove("VIRTFIT_ROOT")
            .env("LC_ALL", "C")
            .stdin(stdin)
            .output()
            .unwrap()
    }

    /// Counts the definitions libvirt was given.
    fn defines(&self) -> usize {
        let asked = fs::read_to_string(self.path().join("asked")).unwrap_or_default();
        asked.matches("\"call\":\"define\"").count()
    }
}

#[test]
fn all_guests_are_asked_for_and_one_is_not() {
    // words, typed, question, defines, answer
    let rows = [
        (
            &["revert", "--all"][..],
            Some("y\n"),
            "Revert 2 guests? [y/N]",
            2,
            "a: reverted",
        ),
        (
            &["revert", "--all"],
            Some("yes\n"),
            "Revert 2 guests? [y/N]",
            2,
            "b: reverted",
        ),
        (
            &["revert", "--all"],
            Some("n\n"),
            "a\nb\nRevert 2 guests? [y/N]",
            0,
            "Nothing was written.\n",
        ),
        (
            &["revert", "--all"],
            Some("\n"),
            "Revert 2 guests? [y/N]",
            0,
            "Nothing was written.\n",
        ),
        // The typed input ends here.
        (
            &["revert", "--all"],
            Some("\x04"),
            "Revert 2 guests? [y/N]",
            0,
            "Nothing was written.\n",
        ),
        (&["revert", "--all", "--yes"], Some("n\n"), "", 2, "a: reverted"),
        (&["revert", "--all", "-y"], None, "", 2, "a: reverted"),
        (&["revert", "a"], None, "", 1, "a: reverted"),
        (&["revert", "a"], Some("n\n"), "", 1, "a: reverted"),
    ];
    for row in rows {
        let (words, typed, question, defines, answer) = row;
        let host = Host::tuned();
        let ran = host.run(words, typed);
        let (stdout, stderr) = (
            String::from_utf8(ran.stdout).unwrap(),
            String::from_utf8(ran.stderr).unwrap(),
        );
        assert_eq!(ran.status.code(), Some(0), "{row:?}: {stderr}");
        assert!(stdout.contains(answer), "{row:?}: {stdout}");
        assert!(stderr.contains(question), "{row:?}: {stderr}");
        assert_eq!(
            stderr.contains("[y/N]"),
            !question.is_empty(),
            "{row:?}: {stderr}"
        );
        assert_eq!(host.defines(), defines, "{row:?}");
    }
}

#[test]
fn nothing_to_revert_is_not_asked_for() {
    let host = Host::new();
    let ran = host.run(&["revert", "--all"], Some("y\n"));
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), "Nothing to revert.\n");
    assert_eq!(String::from_utf8(ran.stderr).unwrap(), "");
    assert_eq!(host.defines(), 0);
}

#[test]
fn apply_asks_before_it_writes() {
    for (words, typed, asks, defines) in [
        (&["apply", "--all"][..], Some("n\n"), true, 0),
        (&["apply", "--all"], Some("y\n"), true, 2),
        (&["apply", "a"], Some("n\n"), true, 0),
        (&["apply", "--all", "-y"], Some("n\n"), false, 2),
        (&["apply", "--all", "--yes"], None, false, 2),
        (&["apply", "a"], None, false, 1),
        (&["apply", "a", "b"], Some("n\n"), true, 0),
    ] {
        let host = Host::new();
        let ran = host.run(words, typed);
        let stderr = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(0), "{words:?} {typed:?}: {stderr}");
        assert_eq!(stderr.contains("? [y/N]"), asks, "{words:?} {typed:?}: {stderr}");
        assert_eq!(host.defines(), defines, "{words:?} {typed:?}");
    }
}

/// A cron job or `ssh host virtfit …` cannot be asked: several guests change only with `--yes`.
#[test]
fn without_a_terminal_several_guests_need_yes() {
    for (words, code, defines) in [
        (&["apply", "--all"][..], 2, 0),
        (&["apply", "a", "b"], 2, 0),
        (&["apply", "--all", "--dry-run"], 0, 0),
        (&["apply", "--offline", "--all"], 2, 0),
        (&["revert", "--all"], 2, 0),
        (&["apply", "--all", "-y"], 0, 2),
    ] {
        let host = if words[0] == "revert" {
            Host::tuned()
        } else {
            Host::new()
        };
        let ran = host.run(words, None);
        let stderr = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(code), "{words:?}: {stderr}");
        assert_eq!(stderr.contains("--yes"), code == 2, "{words:?}: {stderr}");
        assert_eq!(host.defines(), defines, "{words:?}");
        let file = fs::read_to_string(host.path().join("host/etc/libvirt/qemu/a.xml")).unwrap();
        assert_eq!(file.contains("virtfit"), words[0] == "revert", "{words:?}");
    }
}
