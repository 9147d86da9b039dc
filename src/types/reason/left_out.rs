//! Reasons why a part of a profile is left out.

use std::fmt;

use crate::types::ids::{KiB, NodeId};
use crate::types::plural::list;
use crate::types::reason::amounts::{MemoryHolders, beside};
use crate::types::reason::outcome::Excludes;

reasons! {
    /// Reason why a part of a profile is left out.
    LeftOut {
        /// The guest's architecture is not the host's.
        Foreign { guest: String, host: String } = "emulated-architecture",
        /// The guest is run by TCG.
        Emulated = "emulated-by-tcg",
        /// The guest is measured at its start (`<launchSecurity>`).
        Measured = "guest-is-measured",
        /// numad chooses the CPUs (`placement='auto'`).
        NumadDecides = "numad-decides",
        /// The guest did not start with the CPU mode.
        CpuModeFailed { why: String } = "cpu-mode-failed",
        /// No guest starts with the host's CPU on this host.
        HostCpuFails { why: String } = "host-cpu-fails",
        /// Given pins put guest cores on shared or split cores.
        PinsSplitCores = "pins-split-cores",
        /// The CPU's cache mode wants the host's own CPU.
        CacheWantsHostCpu = "cache-wants-host-cpu",
        /// The cache mode wants `cpu_mode = "host-passthrough"`.
        WantsPassthrough = "wants-host-passthrough",
        /// `<cpu>` has no mode or model that a feature could be added to.
        NoCpuForFeature = "no-cpu-for-feature",
        /// `<cpu>` has no mode or model.
        NoCpuModel = "no-cpu-model",
        /// Not every vCPU has a dedicated CPU.
        NotAllDedicated = "not-all-dedicated",
        /// vCPUs have no dedicated CPU of their own.
        NoDedicatedCpu = "no-dedicated-cpu",
        /// libvirt takes no more than one preferred node.
        OnePreferredNode = "one-preferred-node",
        /// Running guest: its memory does not fit on the nodes of its vCPUs.
        MemoryStays = "memory-stays",

        /// The XML rules huge pages out.
        HugePagesExcluded { by: Excludes } = "huge-pages-ruled-out",
        /// No hugetlbfs is mounted.
        NoHugetlbfs = "no-hugetlbfs",
        /// The memory is not a whole number of such pages.
        PageDividesNot { memory: KiB, page: KiB } = "page-size-divides-not",
        /// Too few pages are free on the nodes.
        FewPages { need: u64, page: KiB, free: Vec<(NodeId, u64)> } = "few-pages",
        /// Enough pages are free on the nodes, but other definitions ask for them.
        PagesLeft { need: u64, page: KiB, free: Vec<(NodeId, u64)>, asking: MemoryHolders } = "pages-left-to-others",
        /// A memory device is not a whole number of such pages.
        BlockDividesNot { unit: KiB, page: KiB } = "block-size-divides-not",
        /// The guest runs, and keeps the pages it runs with.
        RunsWithItsPages = "runs-with-its-pages",

        /// KVM on this host does not offer it.
        KvmLacks = "kvm-lacks",
        /// Another enlightenment, or the clock, that it needs is off or not offered.
        NeedsAnother = "needs-another",
        /// libvirt keeps no account of the guest's QEMU.
        EmulatorUnknown = "emulator-unknown",
        /// libvirt, QEMU or Linux is too old.
        EmulatorOld = "emulator-old",

        /// The interface has no MAC address of its own by which it could be told from others.
        NoMacOfItsOwn = "no-mac-of-its-own",
        /// QEMU serves the interface, not vhost.
        ServedByQemu = "served-by-qemu",
        /// Interfaces of this kind have no queues that libvirt could open, or not surely.
        NoQueuesOfKind { kind: String } = "no-queues-of-kind",
        /// The network gives host devices, or has no definition that says what it gives.
        NoQueuesOfNetwork { network: String } = "no-queues-of-network",

        /// The image has holes.
        ImageSparse = "image-sparse",
        /// The image's filesystem is not known to take `O_DIRECT`.
        NoDirectIo { fstype: String } = "no-direct-io",
        /// The cache mode wants `O_DIRECT`, which the image's filesystem is not known to take.
        CacheWantsDirectIo = "cache-wants-direct-io",
        /// The `io=native` that stays wants another cache mode.
        NativeStays = "native-stays",
        /// `io=native` wants another cache mode than this one.
        NativeWantsCache { cache: String } = "native-wants-cache",
        /// The image's path is relative.
        ImagePathRelative { path: String } = "image-path-relative",
        /// The host is a topology alone, which has no images.
        ImageElsewhere = "image-elsewhere",
        /// There is no image yet.
        ImageMissing { path: String } = "image-missing",
        /// The image is neither a file nor a block device.
        ImageOfOtherKind { path: String } = "image-of-other-kind",
        /// The image cannot be looked at, for the reason in `error`.
        ImageUnreadable { error: String } = "image-unreadable",
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign { guest, host } => {
                return write!(f, "a {guest} guest on a {host} host is emulated");
            }
            Self::Emulated => "type='qemu' is emulated, not run by KVM",
            Self::Measured => "launchSecurity: the guest is measured",
            Self::NumadDecides => "vcpu placement='auto' was written by hand: numad decides",
            Self::CpuModeFailed { why } => return write!(f, "the guest did not start with it ({why})"),
            Self::HostCpuFails { why } => {
                return write!(f, "KVM with the host's CPU does not start here ({why})");
            }
            Self::PinsSplitCores => "the pins written by hand put guest cores on shared or split cores",
            Self::CacheWantsHostCpu => "its cache mode is passthrough, which only the host's own CPU has",
            Self::WantsPassthrough => "it needs cpu_mode = host-passthrough",
            Self::NoCpuForFeature => "its <cpu> has no mode or model that a feature could be added to",
            Self::NoCpuModel => "its <cpu> has no mode or model",
            Self::NotAllDedicated => "not every vCPU has a dedicated CPU",
            Self::NoDedicatedCpu => "they have no dedicated CPU of their own",
            Self::OnePreferredNode => "libvirt prefers no more than one node",
            Self::MemoryStays => "it does not fit where its vCPUs run, as it was started",
            Self::HugePagesExcluded { by } => return write!(f, "{by} in its XML rules them out"),
            Self::NoHugetlbfs => "no hugetlbfs is mounted on this host",
            Self::PageDividesNot { memory, page } => {
                return write!(f, "{memory} is not a whole number of {page} pages");
            }
            Self::FewPages { need, page, free } => {
                return write!(f, "{need} of {page} needed, {}", pages(free, "free"));
            }
            Self::PagesLeft {
                need,
                page,
                free,
                asking,
            } => {
                let free = pages(free, "left");
                return write!(f, "{need} of {page} needed, {free}{}", beside(asking));
            }
            Self::BlockDividesNot { unit, page } => {
                return write!(f, "a memory device's blocks of {unit} rule {page} pages out");
            }
            Self::RunsWithItsPages => "it runs, and keeps the pages it runs with",
            Self::KvmLacks => "KVM on this host does not offer it",
            Self::NeedsAnother => "what it needs is off or not offered",
            Self::EmulatorUnknown => {
                "libvirt has not told what its QEMU can (/var/cache/libvirt/qemu/capabilities)"
            }
            Self::EmulatorOld => "libvirt, QEMU or Linux is too old",
            Self::NoMacOfItsOwn => "it has no MAC address of its own to tell it by",
            Self::ServedByQemu => "its driver is qemu, not vhost",
            Self::NoQueuesOfKind { kind } => {
                return write!(f, "libvirt opens no queues for type='{kind}', or not surely");
            }
            Self::NoQueuesOfNetwork { network } => {
                return write!(
                    f,
                    "network {network} gives host devices, or /etc/libvirt/qemu/networks does not say what it gives"
                );
            }
            Self::ImageSparse => {
                "the image is sparse: io=native stalls while it grows; allocate it (fallocate)"
            }
            Self::NoDirectIo { fstype } => {
                return write!(f, "the image is on {fstype}, which is not known to take O_DIRECT");
            }
            Self::CacheWantsDirectIo => "its filesystem is not known to take O_DIRECT",
            Self::NativeStays => "its io=native needs cache none or directsync",
            Self::NativeWantsCache { cache } => {
                return write!(f, "it needs cache none or directsync, which is {cache}");
            }
            Self::ImagePathRelative { path } => return write!(f, "'{path}' is no absolute path"),
            Self::ImageElsewhere => "the host is a topology alone: no image was read",
            Self::ImageMissing { path } => return write!(f, "{path} does not exist yet"),
            Self::ImageOfOtherKind { path } => {
                return write!(f, "{path} is neither a file nor a block device");
            }
            Self::ImageUnreadable { error } => error,
        })
    }
}

/// Words how many pages there are: `4 free on node 0 and 1 on node 1`.
fn pages(pages: &[(NodeId, u64)], free: &str) -> String {
    let nodes = pages
        .iter()
        .enumerate()
        .map(|(index, (node, pages))| match index {
            0 => format!("{pages} {free} on node {node}"),
            _ => format!("{pages} on node {node}"),
        });
    list(&nodes.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::LeftOut;

    #[test]
    fn a_filesystem_stands_without_an_article() {
        for fstype in ["overlay", "zfs"] {
            let fstype = fstype.to_string();
            let want = format!("the image is on {fstype}, which is not known to take O_DIRECT");
            assert_eq!(LeftOut::NoDirectIo { fstype }.to_string(), want);
        }
    }
}
