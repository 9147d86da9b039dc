//! Starts that failed right after virtfit changed a guest, as the daemon remembers them. Only
//! `daemon/starts.rs` writes the file.
//!
//! Part of the host, because decisions depend on the file: a guest that did not start with the
//! host's CPU mode is not given that mode again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::Domain;
use crate::hostfs::HostFs;
use crate::types::cpu_mode::CpuMode;
use crate::types::reason::LeftOut;

/// Folder of the file on the host.
pub(crate) const FOLDER: &str = "/var/lib/virtfit";
/// File's name in that folder.
pub(crate) const NAME: &str = "failed-starts.json";

/// Failed starts of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailedStarts {
    /// Kernel, CPU, QEMU and libvirt that the starts failed with. The daemon forgets all failures
    /// once any of these is another one.
    pub with: String,
    /// Path of QEMU's program, whose size and time are part of `with`.
    pub emulator: String,
    /// Reason for which KVM guests with the host's CPU do not start on this host; `None`: not
    /// known.
    pub host_cpu: Option<String>,
    /// Program of QEMU of which `host_cpu` tells; empty: of any.
    pub host_cpu_of: String,
    /// Guests with a failed start, by UUID.
    pub guests: BTreeMap<String, FailedStart>,
}

/// Failed start of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailedStart {
    /// Guest's name.
    pub name: String,
    /// Digest of the definition, as libvirt stored it after virtfit's last change.
    pub text: String,
    /// Line for the log and `status`, without the guest's name.
    pub said: String,
    /// Reason for which the guest's CPU mode is left as it was; `None`: the CPU mode is not
    /// suspected.
    pub cpu: Option<String>,
    /// `true` if QEMU lacked memory, and the definition has huge pages of virtfit's.
    pub pages: bool,
    /// `true` until the guest has started.
    pub open: bool,
}

impl FailedStarts {
    /// Reads the file; a missing or unreadable file counts as empty.
    pub(crate) fn read(root: &HostFs) -> Self {
        let path = format!("{FOLDER}/{NAME}");
        // The stamp alone is recorded: the file is replaced by another one at each change.
        if !matches!(root.metadata_opt(&path), Ok(Some(_))) {
            return Self::default();
        }
        let text = root.unnoted().read(&path).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Returns the reason for which a guest is not given this CPU mode. `given`: virtfit gave it
    /// one before.
    ///
    /// The host's own reason counts only for guests that get the mode for the first time and list
    /// no CPU features of their own, because with a feature less the same host may start them.
    pub(crate) fn cpu_mode(&self, domain: &Domain, mode: CpuMode, given: bool) -> Option<LeftOut> {
        let own = self.guests.get(&domain.uuid.to_ascii_lowercase());
        if let Some(why) = own.and_then(|guest| guest.cpu.clone()) {
            return Some(LeftOut::CpuModeFailed { why });
        }
        let plain = domain
            .cpu
            .as_ref()
            .is_none_or(|cpu| cpu.features.is_empty() && cpu.mode != "host-passthrough");
        // A program that one guest names says nothing about the others' QEMU.
        let same = self.host_cpu_of.is_empty() || program(&domain.emulator) == self.host_cpu_of;
        let host = self.host_cpu.as_ref().filter(|_| plain && !given && same);
        host.filter(|_| mode == CpuMode::HostPassthrough)
            .map(|why| LeftOut::HostCpuFails { why: why.clone() })
    }
}

/// Returns the path of QEMU's program; `named` is what the definition says, empty: nothing.
pub(crate) fn program(named: &str) -> &str {
    match named {
        "" => "/usr/bin/qemu-system-x86_64",
        named => named,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::Cpu;

    #[test]
    fn a_host_is_doubted_only_for_guests_like_those_that_failed() {
        let mut failed = FailedStarts::default();
        let mut guest = Domain {
            uuid: "AA".into(),
            ..Domain::default()
        };
        let mode = CpuMode::HostPassthrough;
        assert_eq!(failed.cpu_mode(&guest, mode, false), None);
        failed.host_cpu = Some("MSR".into());
        let host = Some(LeftOut::HostCpuFails { why: "MSR".into() });
        assert_eq!(failed.cpu_mode(&guest, mode, false), host);
        for (of, named, told) in [
            ("/usr/bin/qemu-system-x86_64", "", true),
            ("/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-system-x86_64", true),
            ("/opt/old/qemu", "", false),
            ("/opt/old/qemu", "/opt/old/qemu", true),
        ] {
            failed.host_cpu_of = of.into();
            guest.emulator = named.into();
            assert_eq!(
                failed.cpu_mode(&guest, mode, false).is_some(),
                told,
                "{of} {named}"
            );
        }
        failed.host_cpu_of.clear();
        assert_eq!(failed.cpu_mode(&guest, mode, true), None, "it had it before");
        assert_eq!(failed.cpu_mode(&guest, CpuMode::HostModel, false), None);
        guest.cpu = Some(Cpu {
            features: BTreeMap::from([("svm".to_string(), "disable".to_string())]),
            ..Cpu::default()
        });
        assert_eq!(failed.cpu_mode(&guest, mode, false), None, "features of its own");
        let own = FailedStart {
            cpu: Some("MSR".into()),
            ..FailedStart::default()
        };
        failed.guests.insert("aa".into(), own);
        for mode in [mode, CpuMode::HostModel] {
            let why = failed.cpu_mode(&guest, mode, true);
            assert_eq!(why, Some(LeftOut::CpuModeFailed { why: "MSR".into() }));
        }
    }

    #[test]
    fn a_file_that_says_nothing_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostFs::new(dir.path());
        assert_eq!(FailedStarts::read(&root), FailedStarts::default());
        let folder = dir.path().join("var/lib/virtfit");
        std::fs::create_dir_all(&folder).unwrap();
        for (text, host_cpu) in [("", None), ("{}", None), ("{\"host_cpu\":\"MSR\"}", Some("MSR"))] {
            std::fs::write(folder.join(NAME), text).unwrap();
            assert_eq!(FailedStarts::read(&root).host_cpu.as_deref(), host_cpu, "{text}");
        }
    }
}
