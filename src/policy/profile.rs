//! Settings of a profile, checked and complete, as the engine and the commands see them.

pub(crate) use crate::types::cpu_mode::CpuMode;
use crate::types::cpulist;
use crate::types::cpulist::CpulistError;
use crate::types::ids::KiB;
use crate::types::idset::VcpuSet;
pub use crate::types::on_no_fit::OnNoFit;

/// Kind of CPUs for vCPUs (`cpus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpus {
    /// One dedicated CPU for each vCPU.
    Dedicated,
    /// All vCPUs float on the shared CPUs.
    Shared,
    /// Some vCPUs are dedicated, the others float.
    Mixed,
    /// Pins of vCPUs stay as they are.
    Keep,
}

/// Use of a core's threads (`smt`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Smt {
    /// Whole cores where the guest's vCPUs can be divided into them.
    Prefer,
    /// Whole cores, or no fit.
    Require,
    /// One vCPU on each core, the other threads withheld.
    Isolate,
}

/// Kinds of core on a hybrid host (`core_kind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreKind {
    /// Fast cores; slow ones where too few fast ones are free.
    Auto,
    /// Fast cores, or no fit.
    Fast,
    /// Slow cores, or no fit.
    Slow,
    /// Any cores, also fast and slow ones at once.
    Any,
}

/// CPUs for vCPU slots that are empty until a vCPU is plugged in (`hotplug`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hotplug {
    /// Held like those of the others where all find a place; otherwise the slots float.
    Auto,
    /// Held like those of the others.
    Hold,
    /// None: the slots float.
    Float,
}

/// Limit of sockets that the guest is shown (`max_sockets`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxSockets {
    /// Sockets that the guest's operating system can use.
    Auto,
    /// Fixed number, at least 1.
    At(u32),
}

/// Topology that the guest sees (`topology`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopologyRule {
    /// Mirrors the chosen CPUs.
    Match,
    /// All vCPUs as cores.
    Cores,
    /// Stays as it is.
    Keep,
}

/// Guest cells and memory binding (`numa`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numa {
    /// Each guest cell on a host node of its own.
    Match,
    /// Cells stay as they are, and the guest is placed as one.
    Keep,
    /// No memory binding.
    Off,
}

/// Limit of host nodes for a guest without cells (`max_nodes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxNodes {
    /// One node where the guest would fit one node of an empty host, else the fewest on which an
    /// empty host could run it.
    Auto,
    /// Fixed number of nodes, at least 1.
    At(u32),
}

/// Page size of the guest's memory (`hugepages`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hugepages {
    /// No huge pages.
    Off,
    /// Largest huge page size that fits, or small pages if none does.
    Any,
    /// Largest huge page size that fits, or no fit.
    Large,
    /// Small pages: another word for [`Hugepages::Off`].
    Small,
    /// Fixed huge page size, or no fit.
    Size(KiB),
}

/// Binding of the guest's memory to host nodes (`memory_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryMode {
    /// Strict with huge pages, preferred without.
    Auto,
    /// libvirt's mode `strict`.
    Strict,
    /// libvirt's mode `preferred`.
    Preferred,
    /// libvirt's mode `restrictive`.
    Restrictive,
    /// No binding is written.
    Off,
}

/// CPUs of emulator threads (`emulator`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulator {
    /// Housekeeping CPUs of the guest's nodes.
    Housekeeping,
    /// One more dedicated CPU.
    Isolate,
    /// CPUs of the guest's vCPUs, without those of real-time vCPUs.
    Guest,
    /// Pins of emulator threads stay as they are.
    Keep,
}

/// Number of iothreads (`iothreads.count`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IothreadCount {
    /// One for each virtio disk and virtio-scsi controller, no more than there are CPUs for them.
    Auto,
    /// Fixed number.
    At(u32),
    /// Iothreads stay as they are.
    Keep,
}

/// CPUs of iothreads (`iothreads.cpus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IothreadCpus {
    /// Housekeeping CPUs of the guest's nodes.
    Housekeeping,
    /// One more dedicated CPU for each iothread.
    Isolate,
    /// CPUs of the guest's vCPUs, without those of real-time vCPUs.
    Guest,
}

/// Value of one disk key: decided by virtfit, left alone, or fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskRule {
    /// Decided by the kind of the disk (`cache` and `io` only).
    Auto,
    /// Stays as it is.
    Keep,
    /// Fixed value (`none`, `native`, `ignore`, `4`, …).
    Value(String),
}

/// Settings of all disks (`disk`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskRules {
    /// `driver@cache`: auto | keep | none | writeback | writethrough | directsync | unsafe.
    pub cache: DiskRule,
    /// `driver@io`: auto | keep | native | threads | `io_uring`.
    pub io: DiskRule,
    /// `driver@discard`: keep | ignore | unmap.
    pub discard: DiskRule,
    /// `driver@queues`: keep | a number.
    pub queues: DiskRule,
}

/// Enlightenments of Hyper-V for Windows guests (`hyperv`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hyperv {
    /// Stay as they are.
    Keep,
    /// Set that management programs agree on, as far as the host offers it.
    Recommended,
}

/// Queues of network interfaces (`net.queues`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetQueues {
    /// Stay as they are.
    Keep,
    /// One for each vCPU.
    Vcpus,
    /// Fixed number, at least 1.
    At(u32),
}

/// List of the guest's vCPUs that is resolved when the guest is known: `""`, `"all"`, `"0,2"`,
/// `"^0"`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VcpuList(pub String);

impl VcpuList {
    /// Returns the vCPUs of the list for a guest with `count` of them; vCPUs the guest does not
    /// have are dropped.
    ///
    /// # Errors
    /// The list is malformed.
    pub fn resolve(&self, count: u32) -> Result<VcpuSet, CpulistError> {
        let all = VcpuSet::first_n(count);
        match self.0.trim() {
            "" | "none" => Ok(VcpuSet::new()),
            "all" => Ok(all),
            list => Ok(cpulist::parse_within(list, &all)?.intersection(&all)),
        }
    }
}

/// Scheduling class of real-time vCPUs (`realtime.scheduler`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// `SCHED_FIFO`.
    Fifo,
    /// `SCHED_RR`.
    Rr,
}

/// Real-time scheduling of vCPUs (`realtime`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realtime {
    /// vCPUs with real-time scheduling; empty: none.
    pub vcpus: VcpuList,
    /// Priority, 1 to 99.
    pub priority: u32,
    /// Scheduling class.
    pub scheduler: Scheduler,
}

/// Feature that is on, off or left alone, with `auto` where virtfit decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Decided by the placement.
    Auto,
    /// Written as on.
    On,
    /// Written as off.
    Off,
    /// Stays as it is.
    Keep,
}

/// Policy of a CPU feature (`features.tsc_deadline`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeaturePolicy {
    /// `policy='require'`.
    Require,
    /// `policy='disable'`.
    Disable,
    /// Stays as it is.
    Keep,
}

/// CPU caches that the guest sees (`features.cache`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheRule {
    /// `<cache mode='passthrough'/>` (with `host-passthrough` only).
    Passthrough,
    /// `<cache level='3' mode='emulate'/>`.
    Emulate,
    /// `<cache mode='disable'/>`.
    Disable,
    /// Stays as it is.
    Keep,
}

/// Weight of passed-through devices in the choice of nodes (`pci_numa`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PciNuma {
    /// Nodes of passed-through devices are preferred.
    Prefer,
    /// All passed-through devices on the guest's nodes, or no fit.
    Require,
    /// Devices have no weight.
    Off,
}

/// Profile with every key decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Canonical name: an alias is resolved to its profile.
    pub name: String,
    /// True if the guest is left alone altogether (`off`, `def`).
    pub off: bool,
    /// Description, for people.
    pub description: String,
    /// Kind of CPUs for vCPUs (`cpus`).
    pub cpus: Cpus,
    /// Dedicated vCPUs where `cpus` is `mixed` (`dedicated_vcpus`).
    pub dedicated_vcpus: VcpuList,
    /// Use of a core's threads (`smt`).
    pub smt: Smt,
    /// Kinds of core on a hybrid host (`core_kind`).
    pub core_kind: CoreKind,
    /// CPUs for empty vCPU slots (`hotplug`).
    pub hotplug: Hotplug,
    /// Topology that the guest sees (`topology`).
    pub topology: TopologyRule,
    /// Limit of sockets that the guest is shown (`max_sockets`).
    pub max_sockets: MaxSockets,
    /// Guest cells and memory binding (`numa`).
    pub numa: Numa,
    /// Limit of host nodes (`max_nodes`).
    pub max_nodes: MaxNodes,
    /// Limit of last-level caches; 0: none (`max_llcs`).
    pub max_llcs: u32,
    /// CPU mode (`cpu_mode`).
    pub cpu_mode: CpuMode,
    /// Page size of the guest's memory (`hugepages`).
    pub hugepages: Hugepages,
    /// Binding of memory to host nodes (`memory_mode`).
    pub memory_mode: MemoryMode,
    /// True if the guest's memory is locked (`locked`).
    pub locked: bool,
    /// CPUs of emulator threads (`emulator`).
    pub emulator: Emulator,
    /// Number of iothreads (`iothreads.count`).
    pub iothread_count: IothreadCount,
    /// Iothreads of each virtio disk (`iothreads.per_disk`).
    pub iothreads_per_disk: u32,
    /// CPUs of iothreads (`iothreads.cpus`).
    pub iothread_cpus: IothreadCpus,
    /// Settings of all disks (`disk`).
    pub disk: DiskRules,
    /// Queues of network interfaces (`net.queues`).
    pub net_queues: NetQueues,
    /// Real-time scheduling (`realtime`).
    pub realtime: Realtime,
    /// KVM's `hint-dedicated` (`kvm.hint_dedicated`).
    pub hint_dedicated: Switch,
    /// KVM's `poll-control` (`kvm.poll_control`).
    pub poll_control: Switch,
    /// Enlightenments of Hyper-V (`hyperv`).
    pub hyperv: Hyperv,
    /// Virtual PMU (`features.pmu`).
    pub pmu: Switch,
    /// CPU feature `tsc-deadline` (`features.tsc_deadline`).
    pub tsc_deadline: FeaturePolicy,
    /// CPU caches that the guest sees (`features.cache`).
    pub cache: CacheRule,
    /// True if the memory balloon is taken out (`devices.memballoon = "none"`).
    pub no_memballoon: bool,
    /// Weight of passed-through devices (`pci_numa`).
    pub pci_numa: PciNuma,
    /// True if nothing the guest can see is changed (`guest_visible = "keep"`).
    pub keep_guest_visible: bool,
    /// Decision where nothing fits (`on_no_fit`).
    pub on_no_fit: OnNoFit,
    /// True if settings of an administrator are replaced (`on_existing = "override"`).
    pub override_existing: bool,
}

impl Profile {
    /// Returns whether vCPUs get CPUs of their own.
    pub fn dedicates(&self) -> bool {
        matches!(self.cpus, Cpus::Dedicated | Cpus::Mixed)
    }

    /// Returns the vCPUs that get a CPU of their own, of a guest with `count` vCPUs.
    ///
    /// # Errors
    /// `dedicated_vcpus` is malformed.
    pub fn dedicated(&self, count: u32) -> Result<VcpuSet, CpulistError> {
        match self.cpus {
            Cpus::Dedicated => Ok(VcpuSet::first_n(count)),
            Cpus::Mixed => self.dedicated_vcpus.resolve(count),
            Cpus::Shared | Cpus::Keep => Ok(VcpuSet::new()),
        }
    }
}
