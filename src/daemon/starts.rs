//! Starts that fail right after virtfit changed a guest, and what follows from such a failure.
//!
//! ```text
//! virtfit defines a guest ───────────► the definition is untried
//! the guest starts ──────────────────► tried: no later failure is blamed on virtfit
//! others define the guest ───────────► theirs: no blame, and what failed before may be tried again
//! QEMU's launch fails while untried ─► logged once, kept for `status`; a CPU mode among the changes is taken back if QEMU
//!                                      complains of KVM or the CPU
//! the guest starts without that mode ► the host's CPU does not start here: other guests do not get it either
//! kernel, QEMU or libvirt is another ► all of it is forgotten
//! ```
//! A start that fails before QEMU is run (a missing disk, a hook's veto), one that libvirt itself
//! gives up, one that ends without a word in QEMU's log, and a complaint about a thing that none of
//! virtfit's changes can cause are never blamed on virtfit ([`crate::daemon::launch`]).

use std::collections::BTreeMap;

use crate::daemon::launch::{self, Failure};
use crate::daemon::records::Records;
use crate::daemon::untried::{self, Untried};
use crate::domain::Domain;
use crate::host::failed_starts::{FOLDER, FailedStart, FailedStarts, NAME, program};
use crate::hostfs::HostFs;
use crate::hostfs::at_path::io_words;
use crate::hostfs::atomic::AtomicDir;
use crate::ledger::live_pins::Records as LiveRecords;
use crate::ledger::status;
use crate::libvirt::definition_file::DefinitionFile;
use crate::types::guest_word::guest_word;
use crate::types::ids::KiB;
use crate::types::plan::{Change, Plan};
use crate::types::setting::{Target, Value};
use crate::types::target::Family;
use crate::xml::Document;

/// Number of kinds that a log line names.
const MOST: usize = 3;

/// Consequence of a guest's release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// There is nothing to do.
    Nothing,
    /// Failed launch after which the definition is to be examined again.
    Examine,
    /// Failed launch of which nothing in QEMU's log says why: the log may not be whole yet.
    Unexplained,
}

/// Untried definitions and failed starts.
#[derive(Debug)]
pub(crate) struct Starts {
    root: HostFs,
    untried: Records<Untried>,
    failed: FailedStarts,
}

impl Starts {
    /// Reads the records, and forgets failures that happened with another kernel, CPU, QEMU or
    /// libvirt.
    pub(crate) fn load(root: &HostFs) -> Self {
        AtomicDir::new(root.path(FOLDER), 0o700).sweep();
        let mut starts = Self {
            root: root.clone(),
            untried: Records::load(root),
            failed: FailedStarts::read(root),
        };
        starts.check_host();
        starts.catch_up();
        starts
    }

    /// Follows up on what happened while no daemon ran: definitions that were announced, guests
    /// that started, and starts that failed.
    fn catch_up(&mut self) {
        let untried = self.untried.iter().map(|(uuid, untried)| (uuid, &untried.name));
        let failed = self.failed.guests.iter().filter(|(_, failed)| failed.open);
        let failed = failed.map(|(uuid, failed)| (uuid, &failed.name));
        let all: BTreeMap<String, String> = untried
            .chain(failed)
            .map(|(uuid, name)| (uuid.clone(), name.clone()))
            .collect();
        for (uuid, name) in all {
            if let Ok(Some(definition)) = DefinitionFile::read(&self.root, &name) {
                self.is_untried(&definition, &uuid);
            }
            let status = self.root.read(status::path(&name));
            let status = status.map(|text| status::parse(&text, KiB(0), &LiveRecords::default()));
            match status {
                // Its hook tells of the end of its start.
                Ok(Ok(found)) if found.holder.starting => {}
                Ok(_) => {
                    self.found_running(&uuid);
                }
                Err(_) => {
                    self.released(&uuid, true);
                }
            }
        }
    }

    /// Writes the records again whose files were removed by others; returns their number.
    pub(crate) fn write_again(&mut self) -> usize {
        let is_lost = self.failed != FailedStarts::default() && !self.root.exists(format!("{FOLDER}/{NAME}"));
        if is_lost {
            self.save();
        }
        self.untried.write_again() + usize::from(is_lost)
    }

    /// Forgets all failures where kernel, CPU, QEMU or libvirt is not the one they happened with.
    pub(crate) fn check_host(&mut self) {
        if self.failed.with.is_empty() || self.failed.with == state(&self.root, &self.failed.emulator) {
            return;
        }
        log::info!(
            "kernel, QEMU or libvirt is another one: what failed to start is tried as the policy says"
        );
        self.failed = FailedStarts::default();
        self.save();
    }

    /// Notes that virtfit defined a guest; `stored` is the definition as libvirt keeps it.
    pub(crate) fn defined(&mut self, stored: &DefinitionFile, domain: &Domain, plan: &Plan) {
        let uuid = domain.uuid.to_ascii_lowercase();
        let untried = Untried {
            text: stored.digest.clone(),
            ..Untried::of(self.untried.get(&uuid), domain, plan)
        };
        let takes_pages_out =
            |change: &Change| change.target == Target::Hugepages && change.to == Value::Absent;
        if self.failed.guests.get(&uuid).is_some_and(|failed| failed.pages)
            && plan.changes.iter().any(takes_pages_out)
        {
            log::info!(
                "{}: the huge pages that it lacked are taken out: start it again",
                domain.name
            );
            self.failed.guests.remove(&uuid);
            self.save();
        }
        self.is_written(&uuid, untried);
    }

    /// Returns whether a definition is virtfit's own and untried. One that `virtfit apply`
    /// announced is noted.
    pub(crate) fn is_untried(&mut self, definition: &DefinitionFile, uuid: &str) -> bool {
        let uuid = uuid.to_ascii_lowercase();
        let Some(announced) = self.untried.read_again(&uuid) else {
            return false;
        };
        let record = match &announced.record {
            Some(record) => record,
            None => return announced.text == definition.digest,
        };
        if untried::record_of(&definition.text).as_ref() != Some(record) {
            return false;
        }
        let untried = Untried {
            text: definition.digest.clone(),
            record: None,
            ..announced.clone()
        };
        self.is_written(&uuid, untried);
        true
    }

    fn is_written(&mut self, uuid: &str, untried: Untried) {
        if let Some(failed) = self.failed.guests.get_mut(uuid) {
            failed.text.clone_from(&untried.text);
            self.save();
        }
        self.untried.put(uuid, untried);
    }

    /// Notes that another program wrote a guest's definition.
    pub(crate) fn written_by_others(&mut self, uuid: &str) {
        let uuid = uuid.to_ascii_lowercase();
        self.untried.remove(&uuid);
        if self.failed.guests.remove(&uuid).is_some() {
            self.save();
        }
    }

    /// Forgets a definition that is gone.
    pub(crate) fn forget(&mut self, name: &str) {
        let gone = self.untried.iter().filter(|(_, untried)| untried.name == name);
        let gone: Vec<String> = gone.map(|(uuid, _)| uuid.clone()).collect();
        gone.iter().for_each(|uuid| self.untried.remove(uuid));
        let before = self.failed.guests.len();
        self.failed.guests.retain(|_, failed| failed.name != name);
        if self.failed.guests.len() != before {
            self.save();
        }
    }

    /// Notes that a guest started. Returns true where other definitions have to be examined: the
    /// host's CPU was the reason why the guest did not start before.
    pub(crate) fn started(&mut self, uuid: &str) -> bool {
        let uuid = uuid.to_ascii_lowercase();
        let tried = self.untried.get(&uuid).cloned();
        self.untried.remove(&uuid);
        let Some(failed) = self.failed.guests.get_mut(&uuid).filter(|failed| failed.open) else {
            return false;
        };
        failed.open = false;
        let why = failed.cpu.clone();
        // The guest now runs with everything else that virtfit wrote.
        let without = tried.filter(|tried| tried.plain && tried.text == failed.text);
        let known = self.failed.host_cpu.is_some();
        let found = why.filter(|_| without.is_some() && !known);
        if let Some(why) = &found {
            log::warn!(
                "KVM with the host's CPU does not start on this host ({why}): guests keep their CPU mode until kernel, QEMU or \
                 libvirt is another one"
            );
            self.failed.host_cpu = Some(why.clone());
            let of = without
                .map(|tried| self.emulator_of(&tried.name))
                .unwrap_or_default();
            self.failed.host_cpu_of.clone_from(&of);
            for (other, untried) in self.untried.iter() {
                let alike = untried.plain && untried.kinds.contains(&Family::CpuMode);
                if alike && self.emulator_of(&untried.name) == of {
                    let entry = FailedStart {
                        name: untried.name.clone(),
                        text: untried.text.clone(),
                        cpu: Some(why.clone()),
                        ..FailedStart::default()
                    };
                    self.failed.guests.entry(other.clone()).or_insert(entry);
                }
            }
        }
        self.save();
        found.is_some()
    }

    /// Returns the path of the emulator of a guest's definition; empty where it cannot be read.
    fn emulator_of(&self, name: &str) -> String {
        let definition = DefinitionFile::read(&self.root, name).ok().flatten();
        definition.map_or_else(String::new, |definition| emulator(&definition.text))
    }

    /// Notes that a guest was found running, with this definition or an earlier one. Returns true
    /// as [`Starts::started`] does.
    pub(crate) fn found_running(&mut self, uuid: &str) -> bool {
        let uuid = uuid.to_ascii_lowercase();
        let tried = |untried: &Untried| {
            let definition = DefinitionFile::read(&self.root, &untried.name).ok().flatten();
            let written = definition.filter(|definition| definition.digest == untried.text);
            let written = written.and_then(|definition| definition.modified);
            let started = status::started_at(&self.root, &untried.name);
            matches!((written, started), (Some(written), Some(started)) if written < started)
        };
        if self.untried.get(&uuid).is_none_or(tried) {
            return self.started(&uuid);
        }
        // It runs with an earlier definition; the failure of a later start would be open again.
        if let Some(failed) = self.failed.guests.get_mut(&uuid).filter(|failed| failed.open) {
            failed.open = false;
            self.save();
        }
        false
    }

    /// Notes that libvirt released a guest. With `log_is_whole`, what QEMU's log does not say now
    /// is said no more.
    pub(crate) fn released(&mut self, uuid: &str, log_is_whole: bool) -> Release {
        let uuid = uuid.to_ascii_lowercase();
        let Some(untried) = self.untried.get(&uuid).cloned() else {
            return Release::Nothing;
        };
        // Only a launch of exactly the text that virtfit wrote is blamed on virtfit.
        let Ok(Some(definition)) = DefinitionFile::read(&self.root, &untried.name) else {
            return Release::Nothing;
        };
        if definition.digest != untried.text {
            return Release::Nothing;
        }
        let Some(failure) = launch::last_failure(&self.root, &untried.name, definition.modified) else {
            return Release::Nothing;
        };
        // Either may have any cause, a signal or a control group that could not be set up: nothing
        // follows from it, also not for an earlier failure.
        let qemu = match failure {
            Failure::GivenUp => {
                log::debug!("{}: libvirt gave its start up", untried.name);
                return Release::Nothing;
            }
            Failure::Silent if log_is_whole => {
                log::info!(
                    "{}: QEMU ended without a word: no change of virtfit's is suspected",
                    untried.name
                );
                return Release::Nothing;
            }
            Failure::Silent => return Release::Unexplained,
            Failure::Said(qemu) => qemu,
        };
        // Changes that cannot be the cause are not named.
        let untried = Untried {
            kinds: launch::suspects(&qemu, &untried.kinds),
            ..untried
        };
        let short = launch::short(&qemu);
        if untried.kinds.is_empty() {
            log::debug!(
                "{}: failed to start for a reason of its own: {qemu}",
                untried.name
            );
            self.not_its_cpu_mode(&uuid, &untried.name, &short);
            return Release::Nothing;
        }
        // The CPU mode is taken back if it was among the changes and QEMU complains of it.
        let cpu = launch::is_of_cpu(&qemu) && untried.kinds.first() == Some(&Family::CpuMode);
        let said = said(&untried, &uuid, &short, cpu);
        let earlier = self.failed.guests.get(&uuid);
        let news = earlier.is_none_or(|earlier| !earlier.open || earlier.said != said);
        if news {
            log::warn!("{}: {said}", untried.name);
        }
        // All failures are kept with the state of the host they happened on, as another state may
        // end them.
        if self.failed.with.is_empty() {
            self.failed.emulator = emulator(&definition.text);
            self.failed.with = state(&self.root, &self.failed.emulator);
        }
        let entry = FailedStart {
            name: untried.name.clone(),
            text: definition.digest.clone(),
            said,
            pages: launch::is_of_pages(&qemu) && untried.kinds.contains(&Family::MemoryBacking),
            cpu: earlier
                .and_then(|earlier| earlier.cpu.clone())
                .or_else(|| cpu.then(|| format!("QEMU: {short}"))),
            open: true,
        };
        let examine = cpu || entry.pages;
        self.failed.guests.insert(uuid, entry);
        self.save();
        match examine {
            true => Release::Examine,
            false => Release::Nothing,
        }
    }

    /// Notes that a guest whose CPU mode was taken back fails to start with its own one too: the
    /// failure is not virtfit's any more.
    fn not_its_cpu_mode(&mut self, uuid: &str, name: &str, qemu: &str) {
        let failed = self.failed.guests.get_mut(uuid);
        let Some(failed) = failed.filter(|failed| failed.open && failed.cpu.is_some()) else {
            return;
        };
        failed.open = false;
        log::warn!(
            "{name}: fails to start with its own CPU mode too (QEMU: {qemu}): that is not for virtfit's change"
        );
        self.save();
    }

    fn save(&self) {
        let folder = AtomicDir::new(self.root.path(FOLDER), 0o700);
        let written = match self.failed == FailedStarts::default() {
            true => folder.remove(NAME).map(drop),
            false => serde_json::to_string(&self.failed)
                .map_err(std::io::Error::from)
                .and_then(|text| folder.write(NAME, &(text + "\n"))),
        };
        if let Err(error) = written {
            log::warn!(
                "{FOLDER}/{NAME}: {}: failed starts are not remembered",
                io_words(&error)
            );
        }
    }
}

/// Builds the line for the log and for `status`, without the guest's name.
fn said(untried: &Untried, uuid: &str, qemu: &str, cpu: bool) -> String {
    let mut kinds: Vec<&str> = untried.kinds.iter().map(|kind| kind.words()).collect();
    let more = kinds.len().saturating_sub(MOST);
    kinds.truncate(MOST);
    let mut what = kinds.join(", ");
    if more > 0 {
        what = format!("{what} and {more} more");
    }
    let back = match cpu {
        true => format!(
            "its {} is taken back, start it again; all of it: ",
            Family::CpuMode.words()
        ),
        false => String::new(),
    };
    format!(
        "failed to start after virtfit changed {what} (QEMU: {qemu}): {back}virtfit revert {}",
        guest_word(&untried.name, uuid)
    )
}

/// Returns the path of the emulator that a definition names.
fn emulator(definition: &str) -> String {
    let document = Document::parse(definition).ok();
    let named = document.as_ref().and_then(|document| {
        let devices = document.root().child("devices")?;
        Some(devices.child("emulator")?.text().trim().to_string())
    });
    program(named.as_deref().unwrap_or_default()).into()
}

/// Describes kernel, CPU, QEMU and libvirt: they decide whether a guest starts with the host's CPU.
fn state(root: &HostFs, emulator: &str) -> String {
    let text = |path: &str| root.read(path).unwrap_or_default().trim().to_string();
    let cpuinfo = text("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(String::new, |(_, value)| value.trim().to_string())
    };
    let stamp = |path: &str| {
        let meta = root.metadata(path).ok();
        let modified = meta.as_ref().and_then(|meta| meta.modified().ok());
        let age = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let seconds = age.map_or(0, |age| age.as_secs());
        format!("{path} {} {seconds}", meta.map_or(0, |meta| meta.len()))
    };
    let daemons = ["/usr/sbin/libvirtd", "/usr/sbin/virtqemud"];
    let mut parts = vec![
        text("/proc/sys/kernel/osrelease"),
        text("/proc/sys/kernel/version"),
        field("model name"),
        field("microcode"),
        text("/sys/module/kvm/parameters/ignore_msrs"),
        stamp(emulator),
    ];
    parts.extend(daemons.map(stamp));
    parts.join("; ")
}
