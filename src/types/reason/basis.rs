//! Reasons why a value is written into the XML, taken out of it, or left there.

use std::fmt;

use crate::types::ids::{HostCpu, NodeId};
use crate::types::idset::CpuSet;
use crate::types::plural::join;
use crate::types::reason::left_out::LeftOut;
use crate::types::reason::shape::Unmirrored;

reasons! {
    /// Reason for a value: a short clause without a full stop.
    Basis {
        /// The profile asks for the value.
        ByProfile = "by-profile",
        /// The profile asked for the value before.
        NoLongerSet = "profile-no-longer-sets-it",
        /// An administrator wrote the value.
        ByHand = "kept",
        /// An option of QEMU in the XML rules the value.
        QemuOption { option: &'static str } = "qemu-option",
        /// The guest has its shape, and the value is part of it.
        ItsShape = "its-shape",
        /// The value names CPUs or nodes of another host.
        OfAnotherHost = "of-another-host",

        /// vCPUs: pins take the value's place.
        PinsInstead = "pins-instead",
        /// vCPU: it floats.
        Floats = "floats",
        /// vCPU: it has a core of its own.
        CoreEach = "core-each",
        /// vCPU: it has a core of its own, whose siblings no guest gets.
        CoreEachWithheld = "core-each-siblings-withheld",
        /// vCPU: it has a free CPU on a core with others.
        AnyFreeCpu = "any-free-cpu",
        /// vCPU: it shares a core with its siblings in the guest.
        SiblingsTogether = "siblings-together",
        /// vCPUs: they are scheduled in real time.
        Realtime = "real-time",

        /// Emulator threads: a CPU of their own.
        OwnCpu = "own-cpu",
        /// Iothreads: a CPU of its own for each.
        OwnCpuEach = "own-cpu-each",
        /// Threads: on the guest's own CPUs.
        GuestsCpus = "guests-cpus",
        /// Threads: on the guest's own CPUs, as the host has no housekeeping.
        GuestsCpusForLack = "guests-cpus-for-lack",
        /// Threads: on housekeeping CPUs of these nodes.
        HousekeepingNear { nodes: Vec<NodeId> } = "housekeeping-near",
        /// Threads: on housekeeping CPUs of other nodes than the guest's.
        HousekeepingFar = "housekeeping-far",
        /// Threads: on housekeeping CPUs of other nodes, as threads of other guests are pinned to
        /// those of the guest's nodes.
        HousekeepingElsewhere = "housekeeping-elsewhere",
        /// Threads: on housekeeping CPUs.
        Housekeeping = "housekeeping",

        /// Iothreads: as many as disks, and no more than CPUs.
        OneADisk = "one-a-disk",
        /// The iothread is gone.
        IothreadGone = "iothread-gone",
        /// Disk: served by an iothread.
        OffTheEmulator = "off-the-emulator",
        /// Disk: several iothreads take the value's place.
        SeveralInstead = "several-instead",
        /// Controller: its disks are served by an iothread.
        DisksOffTheEmulator = "disks-off-the-emulator",
        /// Device: there is no iothread to serve it.
        NoIothreads = "no-iothreads",
        /// Disk: its image is a block device.
        BlockDevice = "block-device",
        /// Disk: its image is a raw file with all blocks allocated.
        PreallocatedFile = "preallocated-file",
        /// Disk: `io=native` cannot stay beside the cache mode.
        NativeNeedsDirect = "native-needs-direct-io",

        /// Interface: a queue for each vCPU.
        QueueAVcpu = "queue-a-vcpu",

        /// Memory: on the nodes of the vCPUs.
        WhereVcpusRun = "where-vcpus-run",
        /// Memory: also on nodes without vCPUs, as those of the vCPUs have none for it.
        MemoryElsewhere = "memory-elsewhere",
        /// Memory: each guest cell on a node.
        NodeACell = "node-a-cell",
        /// Memory: bound to no node, as the guest floats.
        BoundToNoNode = "bound-to-no-node",
        /// Guest cell: the binding of the whole guest takes the value's place.
        NumatuneInstead = "numatune-instead",
        /// Huge pages: the largest size that is mounted.
        LargestPage = "largest-page",
        /// Huge pages: the largest size that fits; `larger`: the reason against the next one.
        LargestPageThatFits { larger: Box<LeftOut> } = "largest-page-that-fits",
        /// Huge pages: another size than the guest came with.
        NoPagesOfItsSize = "no-pages-of-its-size",
        /// Huge pages: none, as this host has none for the guest.
        NoPagesHere = "no-pages-here",
        /// Memory: locked.
        NeverSwapped = "never-swapped",
        /// Memory: not merged with that of others.
        NotMerged = "not-merged",
        /// Memory: shared with a vhost-user device.
        VhostUser = "vhost-user",

        /// Guest cells: one for each of these nodes.
        CellANode { nodes: Vec<NodeId> } = "cell-a-node",
        /// Expander bus: in the cell that is on the node of its devices.
        DevicesNode { node: NodeId } = "devices-node",
        /// Topology: mirrors these cores, counted from 0 on each node; `on_nodes`: nodes are named.
        Mirrors { cores: Vec<(NodeId, Vec<u32>)>, on_nodes: bool } = "mirrors-cores",
        /// Topology: each core is shown as a socket, as nothing mirrors the place.
        CoreASocket { why: Unmirrored } = "core-a-socket",
        /// Topology: each last-level cache is shown as a socket, as nothing mirrors the place.
        CacheASocket { why: Unmirrored } = "cache-a-socket",
        /// Topology: one socket, with what is not real in it.
        OneSocket { why: Unmirrored } = "one-socket",
        /// Topology: shown as cores, though some vCPUs share one.
        ShownAsCores = "shown-as-cores",
        /// Topology: some vCPUs float, so no siblings are shown.
        NoSiblings = "no-siblings",
        /// CPU feature: an AMD guest sees threads only with it.
        AmdThreads = "amd-threads",
        /// Hyper-V: Windows asks for it.
        WindowsGuest = "windows-guest",
        /// KVM hint: each vCPU has an isolated CPU of its own.
        IsolatedCpus = "isolated-cpus",
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByProfile => "profile",
            Self::NoLongerSet => "set before, and not now",
            Self::ByHand => "yours, kept (on_existing = keep)",
            Self::QemuOption { option } if option.starts_with('-') => {
                return write!(f, "yours, kept: {option} in qemu:commandline rules it");
            }
            Self::QemuOption { option } => return write!(f, "yours, kept: {option} rules it"),
            Self::ItsShape => "the shape it was given",
            Self::OfAnotherHost => "another host's CPUs or nodes; this one has no such",
            Self::PinsInstead => "pins take its place",
            Self::Floats => "floats on shared CPUs",
            Self::CoreEach => "a core each",
            Self::CoreEachWithheld => "a core each, siblings withheld",
            Self::AnyFreeCpu => "any free CPU, cores shared",
            Self::SiblingsTogether => "whole cores, siblings together",
            Self::Realtime => "real time on dedicated CPUs",
            Self::OwnCpu => "a dedicated CPU of its own",
            Self::OwnCpuEach => "a dedicated CPU each",
            Self::GuestsCpus => "the guest's own CPUs",
            Self::GuestsCpusForLack => "the guest's own CPUs; the host has no housekeeping",
            Self::HousekeepingNear { nodes } => {
                return write!(f, "housekeeping of node {}", join(nodes));
            }
            Self::HousekeepingFar => "housekeeping; none of it on its nodes",
            Self::HousekeepingElsewhere => {
                "housekeeping of other nodes; other guests are pinned to that of its own"
            }
            Self::Housekeeping => "housekeeping",
            Self::OneADisk => "one a disk, at most one a CPU",
            Self::IothreadGone => "that iothread is gone",
            Self::OffTheEmulator => "off the emulator thread",
            Self::SeveralInstead => "several iothreads take its place",
            Self::DisksOffTheEmulator => "its disks off the emulator thread",
            Self::NoIothreads => "there are no iothreads",
            Self::BlockDevice => "a block device",
            Self::PreallocatedFile => "a pre-allocated raw file",
            Self::NativeNeedsDirect => "native needs cache none or directsync",
            Self::QueueAVcpu => "one a vCPU",
            Self::WhereVcpusRun => "where the vCPUs run",
            Self::MemoryElsewhere => "near the vCPUs, where there is memory for it",
            Self::NodeACell => "a node a cell",
            Self::BoundToNoNode => "it floats: bound to no node",
            Self::NumatuneInstead => "numatune takes its place",
            Self::LargestPage => "the largest mounted",
            Self::LargestPageThatFits { larger } => return write!(f, "the largest that fits; {larger}"),
            Self::NoPagesOfItsSize => "this host has no pages of the size it came with",
            Self::NoPagesHere => "this host has no huge pages for it",
            Self::NeverSwapped => "memory is never swapped",
            Self::NotMerged => "its pages are not merged with others",
            Self::VhostUser => "a vhost-user device reads the guest's memory",
            Self::CellANode { nodes } => {
                return write!(f, "one cell a node it runs on ({})", join(nodes));
            }
            Self::DevicesNode { node } => return write!(f, "its devices are on node {node}"),
            Self::Mirrors { cores, on_nodes } => {
                let part = |(node, cores): &(NodeId, Vec<u32>)| match on_nodes {
                    true => format!("{} of node {node}", numbered(cores)),
                    false => numbered(cores),
                };
                let parts: Vec<String> = cores.iter().map(part).collect();
                return write!(f, "mirrors {}", parts.join(", "));
            }
            Self::CoreASocket { why } => return write!(f, "each core a socket: {why}"),
            Self::CacheASocket { why } => return write!(f, "each cache a socket: {why}"),
            Self::OneSocket { why } => return write!(f, "one socket: {why}"),
            Self::ShownAsCores => "shown as cores, though some share one: there are too few free",
            Self::NoSiblings => "some vCPUs float: no siblings to show",
            Self::AmdThreads => "an AMD guest sees threads only with it",
            Self::WindowsGuest => "for Windows",
            Self::IsolatedCpus => "every vCPU has an isolated CPU of its own",
        })
    }
}

/// Lists cores: `core 3`, `cores 1-2,5`.
fn numbered(cores: &[u32]) -> String {
    // Sets print their ranges, and cores have no ids of their own.
    let set: CpuSet = cores.iter().copied().map(HostCpu).collect();
    format!("core{} {set}", if set.len() == 1 { "" } else { "s" })
}
