//! A profile's settings, checked and complete: what engine and CLI see of the policy.

pub use crate::types::cpu_mode::CpuMode;
use crate::types::cpulist;
use crate::types::cpulist::CpulistError;
use crate::types::ids::KiB;
use crate::types::idset::VcpuSet;
pub use crate::types::on_no_fit::OnNoFit;

/// Where vCPUs go (`cpus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpus {
    /// Each vCPU gets one CPU of its own.
    Dedicated,
    /// All float on the shared set.
    Shared,
    /// Some dedicated, the others float.
    Mixed,
    /// vCPU pins are left alone.
    Keep,
}

/// What siblings are used for (`smt`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Smt {
    /// Whole cores where the guest's shape allows.
    Prefer,
    /// Whole cores or no fit.
    Require,
    /// One vCPU a core, siblings withheld.
    Isolate,
}

/// What topology the guest is shown (`topology`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopologyRule {
    /// Mirrors the CPUs chosen.
    Match,
    /// All vCPUs as cores.
    Cores,
    /// Left as it is.
    Keep,
}

/// Guest NUMA (`numa`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numa {
    /// Guest cells, each on a host node.
    Match,
    /// Cells stay as they are, the guest is placed as one.
    Keep,
    /// No memory binding.
    Off,
}

/// `max_nodes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxNodes {
    /// 1 when the guest fits an empty node, else the fewest that can.
    Auto,
    /// At most so many, at least 1.
    At(u32),
}

/// `hugepages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hugepages {
    /// None.
    Off,
    /// The largest that fits, small pages if none does.
    Any,
    /// The largest huge page size that fits, or no fit.
    Large,
    /// Small pages are a requirement: like off, but an existing hand-written huge page setting is
    /// no fit under override.
    Small,
    /// This size, or no fit.
    Size(KiB),
}

/// `memory_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryMode {
    /// Strict with huge pages, preferred without.
    Auto,
    /// `strict`.
    Strict,
    /// `preferred`.
    Preferred,
    /// `restrictive`.
    Restrictive,
    /// Nothing is written.
    Off,
}

/// Where emulator threads go (`emulator`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emulator {
    /// Housekeeping CPUs of the guest's nodes.
    Housekeeping,
    /// One more dedicated CPU.
    Isolate,
    /// The guest's own CPUs less real-time ones.
    Guest,
    /// Left alone.
    Keep,
}

/// How many iothreads (`iothreads.count`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IothreadCount {
    /// One a disk, no more than CPUs for them.
    Auto,
    /// So many.
    At(u32),
    /// Left alone.
    Keep,
}

/// Where iothreads go (`iothreads.cpus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IothreadCpus {
    /// Housekeeping CPUs of the guest's nodes.
    Housekeeping,
    /// One more dedicated CPU each.
    Isolate,
    /// The guest's own CPUs less real-time ones.
    Guest,
}

/// One of the disk keys: a fixed value, decided by virtfit, or left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskRule {
    /// Decided by the disk's kind (cache, io only).
    Auto,
    /// Left alone.
    Keep,
    /// This value (`none`, `native`, `ignore`, `4`, …).
    Value(String),
}

/// `disk = { … }`.
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

/// A list over the guest's vCPUs that is resolved when the guest is known: `""`, `"all"`, `"0,2"`,
/// `"^0"`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VcpuList(pub String);

impl VcpuList {
    /// The vCPUs meant for a guest with `count` of them; those it does not have are dropped.
    ///
    /// # Errors
    /// The list does not parse.
    pub fn resolve(&self, count: u32) -> Result<VcpuSet, CpulistError> {
        let all = VcpuSet::first_n(count);
        match self.0.trim() {
            "" | "none" => Ok(VcpuSet::new()),
            "all" => Ok(all),
            list => Ok(cpulist::parse_within(list, &all)?.intersection(&all)),
        }
    }
}

/// `realtime.scheduler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// SCHED_FIFO.
    Fifo,
    /// SCHED_RR.
    Rr,
}

/// `realtime = { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realtime {
    /// Which vCPUs; empty: off.
    pub vcpus: VcpuList,
    /// 1 to 99.
    pub priority: u32,
    /// Scheduling class.
    pub scheduler: Scheduler,
}

/// `on`, `off` or `keep`, with `auto` where virtfit decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Decided by the placement.
    Auto,
    /// Written as on.
    On,
    /// Written as off.
    Off,
    /// Left alone.
    Keep,
}

/// `features.tsc_deadline`: a CPU feature policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeaturePolicy {
    /// `policy='require'`.
    Require,
    /// `policy='disable'`.
    Disable,
    /// Left alone.
    Keep,
}

/// `features.cache`: what caches the guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheRule {
    /// `<cache mode='passthrough'/>` (host-passthrough only).
    Passthrough,
    /// `<cache level='3' mode='emulate'/>`.
    Emulate,
    /// `<cache mode='disable'/>`.
    Disable,
    /// Left alone.
    Keep,
}

/// `pci_numa`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PciNuma {
    /// Nodes of passed-through devices are better.
    Prefer,
    /// All passed-through devices local, or no fit.
    Require,
    /// Not looked at.
    Off,
}

/// A profile with every key decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name as the policy or the built-in table has it (an alias is resolved to what it stands
    /// for).
    pub name: String,
    /// The guest is left alone altogether (`off`, `def`).
    pub off: bool,
    /// For people.
    pub description: String,
    /// `cpus`.
    pub cpus: Cpus,
    /// `dedicated_vcpus`, with mixed.
    pub dedicated_vcpus: VcpuList,
    /// `smt`.
    pub smt: Smt,
    /// `topology`.
    pub topology: TopologyRule,
    /// `numa`.
    pub numa: Numa,
    /// `max_nodes`.
    pub max_nodes: MaxNodes,
    /// `max_llcs`; 0: any.
    pub max_llcs: u32,
    /// `cpu_mode`.
    pub cpu_mode: CpuMode,
    /// `hugepages`.
    pub hugepages: Hugepages,
    /// `memory_mode`.
    pub memory_mode: MemoryMode,
    /// `locked`.
    pub locked: bool,
    /// `emulator`.
    pub emulator: Emulator,
    /// `iothreads.count`.
    pub iothread_count: IothreadCount,
    /// `iothreads.cpus`.
    pub iothread_cpus: IothreadCpus,
    /// `disk`.
    pub disk: DiskRules,
    /// `realtime`.
    pub realtime: Realtime,
    /// `kvm.hint_dedicated`.
    pub hint_dedicated: Switch,
    /// `kvm.poll_control`.
    pub poll_control: Switch,
    /// `features.pmu`.
    pub pmu: Switch,
    /// `features.tsc_deadline`.
    pub tsc_deadline: FeaturePolicy,
    /// `features.cache`.
    pub cache: CacheRule,
    /// `devices.memballoon`: true = `none`, false = keep.
    pub no_memballoon: bool,
    /// `pci_numa`.
    pub pci_numa: PciNuma,
    /// `guest_visible = "keep"`.
    pub keep_guest_visible: bool,
    /// `on_no_fit`.
    pub on_no_fit: OnNoFit,
    /// `on_existing = "override"`.
    pub override_existing: bool,
}
