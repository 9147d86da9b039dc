//! QEMU's log of a guest, as libvirt keeps it: shows how the last launch ended, and the errors of
//! QEMU.
//!
//! ```text
//! 2026-01-01 10:00:00.000+0000: starting up libvirt version: 9.0.0, …
//! LC_ALL=C \
//! /usr/bin/qemu-system-x86_64 \
//! -name guest=db,… \
//! -msg timestamp=on
//! qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69
//! 2026-01-01 10:00:01.000+0000: shutting down, reason=failed
//! ```
//! libvirt writes the first line just before QEMU is run (`qemuProcessLaunch`): a start that fails
//! earlier, for example by a missing disk or a hook's veto, leaves nothing here. The last line
//! names the reason before the hook's `release` is called (`qemuProcessStop`).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::hostfs::HostFs;

/// Folder of libvirt's logs of guests.
const FOLDER: &str = "/var/log/libvirt/qemu";
/// Longest end of a log that is read, in bytes: room for a long command line and for many lines of
/// QEMU.
const TAIL: u64 = 64 << 10;
/// Longest reason that is logged, in characters.
const LONGEST: usize = 160;

/// Launch of QEMU that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// First complaint of QEMU; `None`: QEMU ended without one.
    pub said: Option<String>,
}

/// Returns the failure of a guest's last launch; `None`: the launch did not fail, or there is no
/// log of it.
pub fn last_failure(root: &HostFs, guest: &str) -> Option<Failure> {
    match tail(root, guest) {
        Ok(text) => failure(&text),
        Err(error) => {
            log::debug!("{guest}: QEMU's log: {error}");
            None
        }
    }
}

fn tail(root: &HostFs, guest: &str) -> io::Result<String> {
    if guest.contains('/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = File::open(root.path(format!("{FOLDER}/{guest}.log")))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn failure(log: &str) -> Option<Failure> {
    let (_, launch) = log.rsplit_once(": starting up ")?;
    // Skipped: the rest of this line, and the command, of which all lines but the last end in a
    // backslash.
    let mut lines = launch
        .lines()
        .skip(1)
        .skip_while(|line| line.ends_with('\\'))
        .skip(1);
    let mut said = Vec::new();
    let failed = lines.any(|line| {
        let ended = line.contains(": shutting down, reason=");
        if !ended {
            said.push(line.trim());
        }
        ended && line.ends_with("reason=failed")
    });
    failed.then(|| Failure {
        said: complaint(&said),
    })
}

/// Returns the first line that explains an end, without the time and the program's name, and cut at
/// [`LONGEST`].
fn complaint(lines: &[&str]) -> Option<String> {
    let mut rest = lines.iter().filter_map(|line| words(line));
    let first = rest.next()?;
    let short: String = first.chars().take(LONGEST).collect();
    Some(if short.len() < first.len() {
        short + "…"
    } else {
        short
    })
}

/// Returns the words of a line without time and program; `None`: the line explains no end.
fn words(line: &str) -> Option<&str> {
    // `-msg timestamp=on`: 2026-01-01T10:00:00.000000Z.
    let line = match line.split_once("Z ") {
        Some((time, rest)) if time.starts_with(|c: char| c.is_ascii_digit()) && time.contains('T') => rest,
        _ => line,
    };
    let by_qemu = |program: &str| program.contains("qemu") && !program.contains(' ');
    let line = match line.split_once(": ") {
        Some((program, rest)) if by_qemu(program) => rest,
        _ => line,
    };
    let line = line.strip_prefix("error: ").unwrap_or(line).trim();
    // Lines of libvirt itself begin with a time in UTC, for example those about tainted domains.
    let by_libvirt = line.get(..31).is_some_and(|time| time.contains("+0000: "));
    let means_nothing = by_libvirt
        || line.is_empty()
        || line.starts_with("warning: ")
        || line.starts_with("char device redirected")
        || line.starts_with("terminating on signal");
    (!means_nothing).then_some(line)
}

/// Returns whether a complaint is about a thing that virtfit never changes: an image that is
/// missing, locked, or may not be opened.
pub fn is_of_an_image(said: &str) -> bool {
    let images = [
        "Could not open ",
        "Failed to get ",
        "Failed to lock ",
        "could not open ",
    ];
    let told = |part: &&str| said.contains(*part);
    // `Invalid argument` is different: without O_DIRECT, or with io=native, opening an image fails
    // though it is there.
    images.iter().any(told) && !said.contains("Invalid argument")
}

/// Returns whether a complaint is about KVM or the CPU: only then is a CPU mode suspected. A device
/// that is busy may be free the next time.
pub fn is_of_cpu(said: &str) -> bool {
    // QEMU names the option of a device that it complains of, with texts from the guest's XML: an
    // alias or a host's name may hold any word.
    let of_a_device = said.starts_with('-') && !said.starts_with("-cpu ") && !said.starts_with("-accel ");
    if of_a_device {
        return false;
    }
    let cpu = ["MSR", "KVM", "kvm", "CPU", "cpu"];
    cpu.iter().any(|part| said.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "2026-01-01 10:00:00.000+0000: starting up libvirt version: 9.0.0, qemu version: 7.2\nLC_ALL=C \\\n\
                         /usr/bin/qemu-system-x86_64 \\\n-name guest=db \\\n-msg timestamp=on\n";
    const FAILED: &str = "2026-01-01 10:00:01.000+0000: shutting down, reason=failed\n";

    #[test]
    fn the_last_launch_and_the_first_complaint_count() {
        let msr = "2026-01-01T10:00:00.500000Z qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\n\
                   qemu-system-x86_64: ../kvm.c:3183: kvm_buf_set_msrs: Assertion `ret' failed.\n";
        let warning = "2026-01-01 10:00:00.100+0000: Domain id=1 is tainted: high-privileges\nqemu-system-x86_64: warning: host doesn't support requested feature\nchar device redirected to /dev/pts/1\n";
        let stopped = "2026-01-01 10:00:01.000+0000: shutting down, reason=destroyed\n";
        let said = |said: &str| {
            Some(Failure {
                said: Some(said.into()),
            })
        };
        for (log, want) in [
            (String::new(), None),
            (START.into(), None),
            (format!("{START}{stopped}"), None),
            (format!("{START}{FAILED}"), Some(Failure { said: None })),
            (
                format!("{START}{warning}{msr}{FAILED}"),
                said("failed to set MSR 0x10a to 0x69"),
            ),
            (format!("{START}{msr}{FAILED}{START}{stopped}"), None),
            (
                format!("{START}{stopped}{START}fork: no\n{FAILED}"),
                said("fork: no"),
            ),
            // A command of one line.
            (
                format!("x: starting up libvirt\n/usr/bin/qemu -S\n{msr}{FAILED}"),
                said("failed to set MSR 0x10a to 0x69"),
            ),
        ] {
            assert_eq!(failure(&log), want, "{log}");
        }
        let long = format!("{START}{}\n{FAILED}", "é".repeat(500));
        let cut = failure(&long)
            .and_then(|failure| failure.said)
            .unwrap_or_default();
        assert_eq!(cut.chars().count(), LONGEST + 1);
    }

    #[test]
    fn complaints_of_images_and_cpus_are_known() {
        for (said, image, cpu) in [
            ("failed to set MSR 0x10a to 0x69", false, true),
            ("-accel kvm: CPU model is not supported", false, true),
            (
                "-chardev socket,id=charua-cpu,host=kvm: Failed to connect to 'kvm:5599'",
                false,
                false,
            ),
            (
                "-blockdev …: Could not open '/x.raw': Permission denied",
                true,
                false,
            ),
            ("-device …: Failed to get \"write\" lock", true, false),
            (
                "-blockdev …: Could not open '/x.raw': Invalid argument",
                false,
                false,
            ),
            (
                "unable to map backing store for guest RAM: Cannot allocate memory",
                false,
                false,
            ),
        ] {
            assert_eq!((is_of_an_image(said), is_of_cpu(said)), (image, cpu), "{said}");
        }
    }
}
