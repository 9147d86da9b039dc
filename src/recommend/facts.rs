//! Facts that a recommendation depends on.

use crate::domain::Passthrough;
use crate::host::kernel;
use crate::hostfs::HostFs;
use crate::libvirt::definitions::Definition;
use crate::rewrite;
use crate::types::setting::Target;
use crate::xml::Document;

/// Links that name what systemd starts at boot, the administrator's first (systemd(1)).
const DEFAULT_TARGETS: [&str; 2] = [
    "/etc/systemd/system/default.target",
    "/usr/lib/systemd/system/default.target",
];
/// Links that name the display manager (systemd.special(7)).
const DISPLAY_MANAGER: &str = "/etc/systemd/system/display-manager.service";

/// Purpose of the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Setting {
    /// People sit at the host: it starts a graphical session.
    pub desktop: bool,
    /// The kernel is one for real time.
    pub realtime: bool,
}

impl Setting {
    /// Reads the purpose of a host.
    pub(crate) fn read(root: &HostFs) -> Self {
        let graphical = DEFAULT_TARGETS
            .iter()
            .find_map(|path| root.read_link(path).ok())
            .is_some_and(|target| target.ends_with("graphical.target"));
        Self {
            // Servers often keep the graphical target without anything to show.
            desktop: graphical && root.exists(DISPLAY_MANAGER),
            realtime: kernel::is_realtime(root),
        }
    }
}

/// Returns why virtfit had better leave a guest alone; `None`: it may be tuned.
pub(crate) fn to_leave(definition: &Definition) -> Option<&'static str> {
    let domain = &definition.domain;
    if !matches!(domain.kind.as_str(), "kvm" | "qemu") {
        return Some("no guest of QEMU");
    }
    if domain.vcpu_placement_auto {
        return Some("numad places it (placement='auto')");
    }
    is_pinned_by_hand(definition).then_some("pinned by hand, and that stays")
}

/// Returns whether an administrator pinned vCPUs.
fn is_pinned_by_hand(definition: &Definition) -> bool {
    let domain = &definition.domain;
    let record = Document::parse(&definition.file.text).ok();
    let record = record.and_then(|document| rewrite::provenance(&document).ok().flatten());
    let ours = |target: &Target| {
        let owned = record.iter().flat_map(|record| &record.owned);
        owned.into_iter().any(|owned| owned.target == *target)
    };
    let by_hand = |id| !ours(&Target::VcpuPin(id));
    domain.vcpupins.keys().copied().any(by_hand)
        || (domain.vcpu_cpuset.is_some() && !ours(&Target::VcpuCpuset))
}

/// Returns whether a PCI device or mdev is passed through to a guest.
pub(crate) fn has_device(definition: &Definition) -> bool {
    let mut devices = definition.domain.passthrough.iter();
    devices.any(|device| matches!(device, Passthrough::Pci(_) | Passthrough::Mdev(_)))
}
