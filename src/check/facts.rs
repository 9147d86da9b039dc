//! Facts that checks read: files below the root, each once, and the guests that are defined.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::check::mend::{self, Family};
use crate::domain::{Domain, Passthrough};
use crate::host::kernel;
use crate::hostfs::HostFs;
use crate::ledger::live_pins::Records;
use crate::ledger::running::Running;
use crate::ledger::status;
use crate::libvirt::definitions;
use crate::policy::profile::Hugepages;
use crate::policy::{Profile, select};
use crate::snapshot::Snapshot;
use crate::status::Found;
use crate::types::ids::HostCpu;
use crate::types::idset::CpuSet;

const CPU: &str = "/sys/devices/system/cpu";

/// Guest that is defined on the host.
#[derive(Debug)]
pub(super) struct Guest {
    pub domain: Domain,
    /// libvirt starts the guest by itself.
    pub autostart: bool,
    /// Profile by rule or request; `None`: virtfit leaves it alone.
    pub profile: Option<String>,
}

/// Facts of one host.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub view: &'a Snapshot,
    pub found: Found,
    /// Distribution, for cures.
    pub family: Family,
    /// Guests that are defined; none where their definitions cannot be read.
    pub guests: Vec<Guest>,
    /// Definitions can be read.
    pub knows_guests: bool,
    /// Guests that run.
    pub running: Vec<Running>,
    /// Texts by path, as they were read first.
    texts: RefCell<BTreeMap<String, Option<String>>>,
    /// Names in folders.
    lists: RefCell<BTreeMap<String, Vec<String>>>,
}

impl<'a> Facts<'a> {
    /// Reads the guests of a snapshot's host.
    pub(super) fn gather(view: &'a Snapshot, found: Found, knows_guests: bool) -> Self {
        let root = &view.root;
        let names = match knows_guests {
            true => definitions::names(root).unwrap_or_default(),
            false => Vec::new(),
        };
        // A definition that cannot be read is `plan`'s and `status`'s to tell.
        let read = |name: &String| definitions::read(root, name, &view.reading).ok();
        let guests = names.iter().filter_map(read).map(|definition| {
            let profile = select::tuning(&view.policy, &definition.domain, definition.autostart);
            Guest {
                profile: profile.map(|profile| profile.name.clone()),
                autostart: definition.autostart,
                domain: definition.domain,
            }
        });
        let records = Records::read(root, &mut Vec::new());
        let texts = view.reading.running.iter();
        let texts = texts.filter_map(|name| root.read(status::path(name)).ok());
        Self {
            guests: guests.collect(),
            running: texts
                .filter_map(|text| Running::parse(&text, &records).ok())
                .collect(),
            view,
            found,
            family: mend::family(root),
            knows_guests,
            texts: RefCell::default(),
            lists: RefCell::default(),
        }
    }

    /// Returns the root below which the host is read.
    pub(super) fn root(&self) -> &HostFs {
        &self.view.root
    }

    /// Reads a small file, trimmed; `None` where it is absent or cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        if let Some(known) = self.texts.borrow().get(path) {
            return known.clone();
        }
        let text = kernel::text(self.root(), path).ok().flatten();
        self.texts.borrow_mut().insert(path.into(), text.clone());
        text
    }

    /// Reads a whole number.
    pub(super) fn number(&self, path: &str) -> Option<i64> {
        self.text(path)?.parse().ok()
    }

    /// Reads a cpulist.
    pub(super) fn cpus(&self, path: &str) -> Option<CpuSet> {
        kernel::cpulist(&self.text(path)?)
    }

    /// Reads a mask of CPUs in hexadecimal.
    pub(super) fn mask(&self, path: &str) -> Option<CpuSet> {
        kernel::cpumask(&self.text(path)?)
    }

    /// Lists the names in a folder; none where there is no such folder.
    pub(super) fn list(&self, folder: &str) -> Vec<String> {
        if let Some(known) = self.lists.borrow().get(folder) {
            return known.clone();
        }
        let names = self.root().list(folder).unwrap_or_default();
        self.lists.borrow_mut().insert(folder.into(), names.clone());
        names
    }

    /// Returns whether a file, folder or link is there.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.root().exists(path)
    }

    /// Reads the value of a module's parameter.
    pub(super) fn parameter(&self, module: &str, name: &str) -> Option<String> {
        self.text(&format!("/sys/module/{module}/parameters/{name}"))
    }

    /// Reads a file in the folder of a CPU.
    pub(super) fn of_cpu(&self, cpu: HostCpu, file: &str) -> Option<String> {
        self.text(&format!("{CPU}/cpu{cpu}/{file}"))
    }

    /// Returns the value of an option of the kernel's command line; the empty text for one without
    /// a value.
    pub(super) fn boot_option(&self, name: &str) -> Option<String> {
        let line = self.text("/proc/cmdline")?;
        let mut options = line.split_whitespace().rev();
        options.find_map(|option| {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            (key == name).then(|| value.to_string())
        })
    }

    /// Returns the kernel's version, major and minor.
    pub(super) fn kernel(&self) -> Option<(u32, u32)> {
        let text = self.text("/proc/sys/kernel/osrelease")?;
        let mut parts = text.split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// Returns whether a unit of systemd is started at boot: a link of any target wants it.
    pub(super) fn is_enabled(&self, unit: &str) -> bool {
        const UNITS: &str = "/etc/systemd/system";
        let folders = self.list(UNITS);
        let mut wants = folders
            .iter()
            .filter(|name| name.ends_with(".wants") || name.ends_with(".requires"));
        wants.any(|folder| self.exists(&format!("{UNITS}/{folder}/{unit}")))
    }

    /// Returns whether a service runs: systemd keeps a cgroup for it as long as it does.
    pub(super) fn runs(&self, unit: &str) -> bool {
        ["", "/systemd", "/unified"]
            .iter()
            .any(|tree| self.exists(&format!("/sys/fs/cgroup{tree}/system.slice/{unit}")))
    }

    /// Returns whether a host device is passed through to any guest.
    pub(super) fn has_passthrough(&self) -> bool {
        let mut all = self.guests.iter().flat_map(|guest| &guest.domain.passthrough);
        all.any(|device| matches!(device, Passthrough::Pci(_) | Passthrough::Mdev(_)))
    }

    /// Returns the CPUs that a profile's vCPUs may have.
    pub(super) fn cpus_of(&self, profile: &Profile) -> CpuSet {
        let view = self.view;
        match profile.dedicates() {
            true => view.sets.dedicated.clone(),
            false => view.sets.shared_now(&view.host, &CpuSet::new()),
        }
    }

    /// Says why a check of guests has found none.
    pub(super) fn no_guest(&self, what: &str) -> String {
        match self.knows_guests {
            true => what.into(),
            false => "definitions are root's to read".into(),
        }
    }

    /// Lists the guests that have a profile.
    pub(super) fn guests_of(&self, profile: &Profile) -> impl Iterator<Item = &Guest> {
        let name = profile.name.clone();
        let of = move |guest: &&Guest| guest.profile.as_deref() == Some(name.as_str());
        self.guests.iter().filter(of)
    }
}

/// Returns whether a profile gives guests huge pages where it can.
pub(super) fn wants_pages(profile: &Profile) -> bool {
    !matches!(profile.hugepages, Hugepages::Off | Hugepages::Small)
}

/// Returns whether a profile gives vCPUs a real-time class.
pub(super) fn is_realtime(profile: &Profile) -> bool {
    !matches!(profile.realtime.vcpus.0.trim(), "" | "none")
}
