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
//! names the reason before the hook's `release` is called (`qemuProcessStop`). libvirt's child that
//! is to become QEMU writes into the log by itself, so its complaint may come after that line, and
//! also after `release`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use crate::hostfs::HostFs;
use crate::types::target::Family::{
    self, Cells, CpuCache, CpuFeatures, CpuMode, Devices, Iothreads, KvmFeatures, MemoryBacking, MemoryNodes,
    Topology,
};

/// Folder of libvirt's logs of guests.
const FOLDER: &str = "/var/log/libvirt/qemu";
/// Longest end of a log that is read, in bytes: room for a long command line and for many lines of
/// QEMU.
const TAIL: u64 = 64 << 10;
/// Longest reason that is logged, in characters.
const LONGEST: usize = 160;

/// Launch of QEMU that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// First complaint of QEMU, whole.
    Said(String),
    /// QEMU did not fail by itself: libvirt gave the launch up, before it let QEMU run or later.
    GivenUp,
    /// Nothing in the log says why the launch failed.
    Silent,
}

/// Returns the failure of a guest's last launch; `None`: the launch did not fail, there is no log
/// of it, or it is not later than `since`.
pub(crate) fn last_failure(root: &HostFs, guest: &str, since: Option<SystemTime>) -> Option<Failure> {
    match tail(root, guest, since) {
        Ok(text) => failure(&text),
        Err(error) => {
            log::debug!("{guest}: QEMU's log: {error}");
            None
        }
    }
}

/// Reads the end of a guest's log; empty if nothing was written to it after `since`.
fn tail(root: &HostFs, guest: &str, since: Option<SystemTime>) -> io::Result<String> {
    if guest.contains('/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut file = File::open(root.locate(Path::new(&format!("{FOLDER}/{guest}.log")), true)?)?;
    let meta = file.metadata()?;
    if since.is_some_and(|since| meta.modified().is_ok_and(|written| written <= since)) {
        return Ok(String::new());
    }
    let length = meta.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn failure(log: &str) -> Option<Failure> {
    let (_, launch) = log.rsplit_once(": starting up ")?;
    // Skipped: the rest of this line, and the command, of which all lines but the last end in a
    // backslash.
    let lines = launch
        .lines()
        .skip(1)
        .skip_while(|line| line.ends_with('\\'))
        .skip(1);
    let mut said = Vec::new();
    let (mut given_up, mut failed) = (false, false);
    // Other processes write into the log too, so the line of the end need not be its last.
    for line in lines {
        if line.contains(": shutting down, reason=") {
            failed |= line.ends_with("reason=failed");
        } else if is_given_up(line) {
            given_up = true;
        } else {
            said.push(line.trim());
        }
    }
    failed.then(|| match complaint(&said) {
        _ if given_up => Failure::GivenUp,
        Some(said) => Failure::Said(said),
        None => Failure::Silent,
    })
}

/// Returns whether a line shows that libvirt gave the launch up: its child that is to become QEMU
/// complains (`libvirt: error : libvirtd quit during handshake`, where libvirt failed to set up
/// control groups, the device filter or labels), or QEMU was told to end.
fn is_given_up(line: &str) -> bool {
    let line = without_program(line);
    line.starts_with("libvirt: ") || line.starts_with("terminating on signal")
}

/// Returns the first line that explains an end, without the time and the program's name.
fn complaint(lines: &[&str]) -> Option<String> {
    lines.iter().find_map(|line| words(line)).map(str::to_string)
}

/// Cuts a complaint for people: at most [`LONGEST`] characters, of its beginning and, as the cause
/// stands there, of its end.
pub(crate) fn short(said: &str) -> String {
    let count = said.chars().count();
    if count <= LONGEST {
        return said.to_string();
    }
    let beginning: String = said.chars().take(LONGEST / 2).collect();
    let end: String = said.chars().skip(count - LONGEST / 2).collect();
    format!("{beginning}…{end}")
}

/// Returns the words of a line without time and program; `None`: the line explains no end.
fn words(line: &str) -> Option<&str> {
    let line = without_program(line);
    let line = line.strip_prefix("error: ").unwrap_or(line).trim();
    // Lines of libvirt itself begin with a time in UTC, for example those about tainted domains.
    let by_libvirt = line.get(..31).is_some_and(|time| time.contains("+0000: "));
    let means_nothing = by_libvirt
        || line.is_empty()
        || line.starts_with("warning: ")
        || line.starts_with("char device redirected");
    (!means_nothing).then_some(line)
}

/// Returns a line without the time and QEMU's name at its beginning.
fn without_program(line: &str) -> &str {
    // `-msg timestamp=on`: 2026-01-01T10:00:00.000000Z.
    let line = match line.split_once("Z ") {
        Some((time, rest)) if time.starts_with(|c: char| c.is_ascii_digit()) && time.contains('T') => rest,
        _ => line,
    };
    let by_qemu = |program: &str| (program.contains("qemu") || program == "kvm") && !program.contains(' ');
    match line.split_once(": ") {
        Some((program, rest)) if by_qemu(program) => rest,
        _ => line,
    }
}

/// Kinds of changes that can make QEMU complain.
type Kinds = &'static [Family];
const CPU: Kinds = &[CpuMode, CpuFeatures, CpuCache, KvmFeatures, Topology];
const MEMORY: Kinds = &[MemoryBacking, MemoryNodes, Cells];
const DISKS: Kinds = &[Devices, Iothreads];
/// Options of QEMU, and the kinds that can make QEMU complain of each. `-device` is looked at more
/// closely. An option that is not here has nothing that virtfit writes.
const OPTIONS: [(&str, Kinds); 10] = [
    ("-cpu ", CPU),
    ("-accel ", CPU),
    ("-machine ", &[CpuMode, KvmFeatures, MemoryBacking]),
    ("-smp ", &[Topology, Cells]),
    ("-numa ", &[Cells, Topology, MemoryNodes, MemoryBacking]),
    ("-m ", MEMORY),
    ("-mem-", MEMORY),
    ("-object ", &[MemoryBacking, Cells, MemoryNodes, Iothreads]),
    ("-blockdev ", DISKS),
    ("-drive ", DISKS),
];
/// Devices whose properties virtfit writes, and the kinds of these.
const DRIVERS: [(&str, Kinds); 8] = [
    ("virtio-blk", DISKS),
    ("virtio-scsi", DISKS),
    ("virtio-balloon", DISKS),
    ("scsi-hd", DISKS),
    ("scsi-cd", DISKS),
    ("scsi-block", DISKS),
    ("dimm", MEMORY),
    ("virtio-mem", MEMORY),
];
/// Words of complaints without an option, and the kinds that can cause each.
const WORDS: [(&str, Kinds); 12] = [
    ("MSR", CPU),
    ("KVM", CPU),
    ("kvm", CPU),
    ("CPU", CPU),
    ("cpu", CPU),
    ("guest RAM", MEMORY),
    ("guest memory", MEMORY),
    ("mlockall", MEMORY),
    ("huge page", MEMORY),
    ("hugepages", MEMORY),
    ("allocate memory", MEMORY),
    ("Address already in use", &[]),
];

/// Returns those of virtfit's changes, by kind, that can have caused a complaint. One of an unknown
/// kind may have been caused by any of them.
pub(crate) fn suspects(said: &str, kinds: &[Family]) -> Vec<Family> {
    if is_of_an_image(said) {
        return Vec::new();
    }
    let containing = |table: &[(&str, Kinds)], text: &str| -> Option<Kinds> {
        let found = table.iter().find(|(word, _)| text.contains(word));
        found.map(|(_, kinds)| *kinds)
    };
    let possible: Option<Kinds> = match said.strip_prefix("-device ") {
        Some(device) => Some(containing(&DRIVERS, device).unwrap_or_default()),
        None if said.starts_with('-') => {
            let option = OPTIONS.iter().find(|(option, _)| said.starts_with(option));
            Some(option.map(|(_, kinds)| *kinds).unwrap_or_default())
        }
        None => containing(&WORDS, said),
    };
    let can = |kind: &Family| possible.is_none_or(|possible| possible.contains(kind));
    kinds.iter().copied().filter(can).collect()
}

/// Returns whether a complaint is about a thing that virtfit never changes: an image that is
/// missing, locked, or may not be opened.
fn is_of_an_image(said: &str) -> bool {
    let images = ["could not open ", "failed to get ", "failed to lock "];
    let lower = said.to_ascii_lowercase();
    let told = |part: &&str| lower.contains(*part);
    // `Invalid argument` is different: without O_DIRECT, or with io=native, opening an image fails
    // though it is there.
    images.iter().any(told) && !said.contains("Invalid argument")
}

/// Returns whether a complaint is about KVM or the CPU: only then is a CPU mode suspected. A device
/// that is busy may be free the next time.
pub(crate) fn is_of_cpu(said: &str) -> bool {
    // QEMU names the option of a device that it complains of, with texts from the guest's XML: an
    // alias or a host's name may hold any word.
    let of_a_device = said.starts_with('-') && !said.starts_with("-cpu ") && !said.starts_with("-accel ");
    if of_a_device {
        return false;
    }
    let cpu = ["MSR", "KVM", "kvm", "CPU", "cpu"];
    cpu.iter().any(|part| said.contains(part))
}

/// Returns whether a complaint is about memory that is not there.
pub(crate) fn is_of_pages(said: &str) -> bool {
    let words = [
        "backing store",
        "allocate memory",
        "preallocat",
        "hugepages",
        "huge page",
    ];
    words.iter().any(|part| said.contains(part))
}

#[cfg(test)]
mod tests;
