//! Structure of the host in a file, for hooks that find no daemon: hwloc takes seconds for a host
//! of 4,096 CPUs, and a hook has one second.
//!
//! ```text
//! /run/virtfit/host   virtfit-host 1 PROGRAM BOOT DIGEST\n, then JSON: the mark by which a change of the host is seen, and the host
//! ```
//! The file is written completely, with mode 0600, by the process that read the host as root: the
//! daemon, `virtfit`, a hook. It counts as absent if another user owns it or may write it, if it is
//! of another version or program or of an earlier boot, if it is truncated or changed, and if its
//! host contradicts itself. Changes of the host since are found by [`crate::host::cached`].

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::Host;
use crate::host::libvirt_process;
use crate::hostfs::HostFs;
use crate::hostfs::atomic::AtomicDir;
use crate::types::digest;
use crate::types::idset::CpuSet;
use crate::version::VERSION;

/// Folder of the file.
const FOLDER: &str = "/run/virtfit";
/// File's name in that folder.
const NAME: &str = "host";
/// Name of the file that the process has locked that reads the host.
const LOCK: &str = "host.lock";
/// Largest size that is read, in bytes: a host of 16,384 CPUs takes about 2 MiB.
const MAX_BYTES: u64 = 16 << 20;

/// Process that reads the host to write the file.
#[derive(Debug)]
pub(crate) enum Reader {
    /// This process, as long as it has the lock.
    First(Flock<File>),
    /// Another process.
    Other,
}

/// Finds out which process is to read the host. `None`: the host keeps no file, or the lock cannot
/// be taken.
pub(crate) fn reader(root: &HostFs) -> Option<Reader> {
    head(root)?;
    let folder = AtomicDir::new(root.path(FOLDER), 0o755);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let open = || options.open(folder.path().join(LOCK));
    let file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => folder.make().and_then(|()| open()),
        file => file,
    };
    match Flock::lock(file.ok()?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Some(Reader::First(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Some(Reader::Other),
        Err(_) => None,
    }
}

/// Identifies the file that is there: inode, and time of the last write in nanoseconds.
pub(crate) fn id(root: &HostFs) -> Option<(u64, i64, i64)> {
    let meta = std::fs::symlink_metadata(root.path(FOLDER).join(NAME)).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

/// Writes a host and its mark; a failure is only a line in the debug log.
pub(crate) fn write<M: Serialize>(root: &HostFs, mark: &M, host: &Host) {
    let Some(head) = head(root) else {
        return;
    };
    let written = serde_json::to_string(&(mark, host))
        .map_err(std::io::Error::from)
        .and_then(|body| {
            let text = format!("{head} {}\n{body}", digest::of(&body));
            AtomicDir::new(root.path(FOLDER), 0o755).write(NAME, &text)
        });
    if let Err(error) = written {
        log::debug!("{FOLDER}/{NAME}: {error}: hooks without a daemon read the host by themselves");
    }
}

/// Returns whether there is a kept host, readable or not.
pub(crate) fn is_there(root: &HostFs) -> bool {
    root.exists(format!("{FOLDER}/{NAME}"))
}

/// Reads host and mark; `None`: there is no file that can be trusted.
pub(crate) fn read<M: DeserializeOwned>(root: &HostFs) -> Option<(M, Host)> {
    let text = text(root)?;
    let (first, body) = text.split_once('\n')?;
    if first != format!("{} {}", head(root)?, digest::of(body)) {
        return None;
    }
    let (mark, host): (M, Host) = serde_json::from_str(body).ok()?;
    is_sound(&host).then_some((mark, host))
}

/// Returns the first line without the digest; `None` if the host has no boot id.
fn head(root: &HostFs) -> Option<String> {
    let boot = libvirt_process::boot_id(root).filter(|boot| !boot.is_empty())?;
    let program = VERSION.replace(char::is_whitespace, "_");
    Some(format!("virtfit-host 1 {program} {boot}"))
}

/// Reads the file's text, if only root, or the user this process runs as, can have written it.
fn text(root: &HostFs) -> Option<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(root.path(FOLDER).join(NAME))
        .ok()?;
    let meta = file.metadata().ok()?;
    let ours = meta.uid() == 0 || meta.uid() == nix::unistd::geteuid().as_raw();
    if !meta.is_file() || !ours || meta.mode() & 0o022 != 0 || meta.len() > MAX_BYTES {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns `true` for a host that placement can work with: indices exist, each CPU is in one core,
/// each core on a node.
fn is_sound(host: &Host) -> bool {
    let mut seen = CpuSet::new();
    let mut count = 0;
    for core in &host.cores {
        if core.cpus.is_empty() || core.llc >= host.llcs.len() || host.node(core.node).is_none() {
            return false;
        }
        count += core.cpus.len();
        seen.extend_from(&core.cpus.iter().copied().collect());
    }
    count > 0 && seen.len() == count && seen == host.online
}
