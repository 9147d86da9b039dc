//! libvirt's side of the hook: whether a file of virtfit is where libvirt looks, and whether
//! libvirt calls it.
//!
//! libvirt executes `hooks/qemu` and every executable file in `hooks/qemu.d`. It looks for them
//! when it starts and at a reload, so a hook that was installed later may be in its place without
//! being called. The process that answers the hook leaves a mark ([`hook_calls`]); a guest that
//! started without one proves that the hook is not called.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::host::libvirt_daemon;
use crate::hostfs::HostFs;
use crate::ledger::running::Running;
use crate::ledger::{hook_calls, reservation};
use crate::status::note::{Code, Note};
use crate::types::shell_word::file_word;

/// Folder of libvirt's configuration. Without it the host has no libvirt that could call a hook.
const LIBVIRT: &str = "/etc/libvirt";
/// Hook that is a single file.
const MAIN: &str = "/etc/libvirt/hooks/qemu";
/// Folder of hooks.
const FOLDER: &str = "/etc/libvirt/hooks/qemu.d";
/// Word by which virtfit's files, and scripts that call them, are recognised.
const WORD: &str = "virtfit";
/// Accuracy with which times of files and of processes can be compared.
const SLACK: Duration = Duration::from_secs(2);
/// Time a libvirt that started may take to call the hook for guests it finds running.
const RECONNECT: Duration = Duration::from_secs(10);

/// File of virtfit where libvirt looks.
pub(crate) struct Installed {
    pub path: String,
    executable: bool,
    /// Time at which the file was put there.
    since: SystemTime,
}

/// Returns a note on what keeps libvirt from calling the hook; `None` if nothing is known to.
/// `guests`: those that run.
pub(crate) fn note(root: &HostFs, guests: &[Running], now: SystemTime) -> Option<Note> {
    if !root.exists(LIBVIRT) {
        return None;
    }
    let found = installed(root);
    let best = found.iter().find(|file| file.executable).or(found.first());
    let Some(hook) = best else {
        let said = "libvirt has no hook of virtfit's: guests start without a decision. Install virtfit again, or make the link";
        let link = format!(
            "mkdir -p {FOLDER} && ln -sf /usr/bin/virtfit-hook {FOLDER}/50-virtfit && systemctl reload {}",
            daemon_name(root)
        );
        return Some(Note::with_command(Code::HookMissing, said, link));
    };
    if !hook.executable {
        let target = root
            .resolve(&hook.path)
            .unwrap_or_else(|_| hook.path.clone().into());
        let (target, daemon) = (target.display(), daemon_name(root));
        let reload = format!("systemctl reload {daemon}");
        let (what, command) = match root.metadata(&hook.path).is_ok() {
            true => (
                "cannot be executed, so libvirt does not call it".into(),
                format!("chmod +x {} && {reload}", file_word(&target.to_string())),
            ),
            false => (
                format!("leads to {target}, which is not there: install virtfit again, then"),
                reload,
            ),
        };
        let said = format!("guests start without a decision: {} {what}", hook.path);
        return Some(Note::with_command(Code::HookNotExecutable, said, command));
    }
    called(root, hook, guests, now)
}

/// Returns the name of the daemon that runs, or of the usual one.
pub(crate) fn daemon_name(root: &HostFs) -> String {
    let daemons = libvirt_daemon::running(root);
    daemons
        .first()
        .map_or_else(|| "libvirtd".into(), |daemon| daemon.name.clone())
}

/// Lists virtfit's files in libvirt's two places.
pub(crate) fn installed(root: &HostFs) -> Vec<Installed> {
    let names = root.list(FOLDER).unwrap_or_default();
    let all = names.iter().map(|name| format!("{FOLDER}/{name}"));
    [MAIN.to_string()]
        .into_iter()
        .chain(all)
        .filter(|path| root.exists(path) && is_ours(root, path))
        .map(|path| {
            let executable = is_executable(root, &path);
            // The time of the directory entry counts: a link may lead to a file that is years old.
            let entry = std::fs::symlink_metadata(root.path(&path)).ok();
            let seconds = entry.map_or(0, |entry| entry.ctime()).try_into().unwrap_or(0);
            Installed {
                since: UNIX_EPOCH + Duration::from_secs(seconds),
                executable,
                path,
            }
        })
        .collect()
}

/// Returns whether libvirt can execute a file.
pub(crate) fn is_executable(root: &HostFs, path: &str) -> bool {
    let meta = root.metadata(path).ok();
    meta.is_some_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Recognises a file of virtfit by the entry's name, by the file it leads to, or by its text, where
/// it is a script.
pub(crate) fn is_ours(root: &HostFs, path: &str) -> bool {
    let named = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.contains(WORD))
    };
    let script = || {
        let text = root.read_bytes(path).unwrap_or_default();
        text.starts_with(b"#!") && text.windows(WORD.len()).any(|word| word == WORD.as_bytes())
    };
    named(Path::new(path)) || root.resolve(path).is_ok_and(|target| named(&target)) || script()
}

/// Finds out if libvirt calls a hook that is in its place.
fn called(root: &HostFs, hook: &Installed, guests: &[Running], now: SystemTime) -> Option<Note> {
    // A mark is proof enough that the hook is called; without a daemon there is nothing to prove.
    // One that ended as it had nothing to do is started by the next client.
    let daemons = libvirt_daemon::running(root);
    let Some(daemon) = daemons.first() else {
        let said = "libvirt does not run: no guest can be started or changed";
        let note = || Note::with_command(Code::LibvirtDown, said, libvirt_daemon::to_start(root));
        return (libvirt_daemon::listens(root) == Some(false)).then(note);
    };
    if daemons
        .iter()
        .any(|daemon| hook_calls::was_called_by(root, daemon.pid))
    {
        return None;
    }
    // A guest that started after the hook was installed proves that it is not called. One that
    // started about then runs without a decision, too.
    let clock = Clock::read(root)?;
    let up = clock.started(root, daemon.pid)?;
    // A guest that started while this libvirt ran was started by it; a guest from before was found
    // running by it. Returns the time at which the hook was to be called.
    let due = |guest: &&Running| {
        let began = clock.started(root, guest.pid)?;
        match began > up {
            true => (began + SLACK > hook.since).then_some(began),
            false => (up > hook.since + SLACK && now > up + RECONNECT).then_some(up),
        }
    };
    let guests = guests.iter().filter(|guest| guest.pid > 0 && !guest.starting);
    let due = guests.filter_map(|guest| Some((guest, due(&guest)?)));
    if let Some((guest, last)) = due.max_by_key(|(_, time)| *time) {
        // A mark goes with its folder, which no daemon was there to make again.
        let kept = root.metadata(hook_calls::FOLDER).map(|meta| meta.created());
        if kept.is_ok_and(|since| since.is_ok_and(|since| since > last + SLACK)) {
            let said = format!(
                "whether libvirt calls virtfit's hook is not known: {} is newer than {} and libvirt's start. Unless it calls it at \
                 the next start",
                hook_calls::FOLDER,
                guest.domain().name
            );
            let reload = format!("systemctl reload {}", daemon.name);
            return Some(Note::with_command(Code::HookNotCalledYet, said, reload));
        }
        let said = format!(
            "libvirt does not call virtfit's hook: {} runs without. Reload it",
            guest.domain().name
        );
        let reload = format!("systemctl reload {}", daemon.name);
        return Some(Note::with_command(Code::HookNotCalled, said, reload));
    }
    // libvirt did not look for hooks since this one was installed.
    (up < hook.since).then(|| {
        let said = format!(
            "the hook was installed after {0} started, and no guest has started since: the first start of one proves that {0} \
             calls it, and ends this note. Unless {0} was reloaded since",
            daemon.name
        );
        let reload = format!("systemctl reload {}", daemon.name);
        Note::with_command(Code::HookNotCalledYet, said, reload)
    })
}

/// Conversion of the kernel's clock ticks to times.
struct Clock {
    boot: SystemTime,
    ticks_a_second: u64,
}

impl Clock {
    /// Reads the time at which the host was booted; `None` where it is unknown.
    fn read(root: &HostFs) -> Option<Self> {
        let stat = root.read("/proc/stat").ok()?;
        let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
            .ok()
            .flatten();
        Some(Self {
            boot: UNIX_EPOCH + Duration::from_secs(line.trim().parse().ok()?),
            ticks_a_second: u64::try_from(ticks.unwrap_or(100))
                .ok()
                .filter(|ticks| *ticks > 0)?,
        })
    }

    /// Returns the time at which a process started.
    fn started(&self, root: &HostFs, pid: u32) -> Option<SystemTime> {
        let stat = root.read(format!("/proc/{pid}/stat")).ok()?;
        let ticks = reservation::start_time(&stat)?;
        let millis = ticks.saturating_mul(1000) / self.ticks_a_second;
        self.boot.checked_add(Duration::from_millis(millis))
    }
}
