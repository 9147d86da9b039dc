//! Built-in profiles: the table of `docs/policy.md`, "Built-in profiles".

use crate::policy::profile::{
    CacheRule, CoreKind, CpuMode, Cpus, DiskRule, DiskRules, Emulator, FeaturePolicy, Hotplug, Hugepages,
    Hyperv, IothreadCount, IothreadCpus, MaxNodes, MaxSockets, MemoryMode, NetQueues, Numa, OnNoFit, PciNuma,
    Profile, Realtime, Scheduler, Smt, Switch, TopologyRule, VcpuList,
};
use crate::policy::value::Scalar;

/// Name of the profile from which every other profile inherits in the end.
pub(crate) const BASE: &str = "fit";
/// Name of the profile that leaves a guest alone.
pub(crate) const OFF: &str = "off";

/// Aliases of built-in profiles, as the paper names them: (alias, profile). A profile of a policy
/// file that has an alias as its own name takes precedence.
pub(crate) const ALIASES: &[(&str, &str)] = &[("vtune", BASE), ("def", OFF)];

/// Built-in profile: `fit` with some keys changed.
pub(crate) struct Builtin {
    /// Profile's name.
    pub name: &'static str,
    /// Description that `profile list` prints.
    pub description: &'static str,
    /// Keys that differ from `fit`, by their paths.
    pub keys: &'static [(&'static str, Value)],
}

/// Value in the table of built-in profiles.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    /// TOML string.
    Word(&'static str),
    /// TOML integer.
    Count(i64),
    /// TOML `true`.
    Yes,
}

impl From<Value> for Scalar {
    fn from(value: Value) -> Self {
        match value {
            Value::Word(word) => Self::text(word),
            Value::Count(count) => Self::Int(count),
            Value::Yes => Self::Bool(true),
        }
    }
}

use Value::{Count, Word, Yes};

/// Built-in profiles, `fit` first.
pub(crate) static BUILTINS: &[Builtin] = &[
    Builtin {
        name: BASE,
        description: "CPUs of its own, topology to match, huge pages",
        keys: &[],
    },
    Builtin {
        name: "pin",
        description: "fit, all vCPUs shown as cores (for comparison)",
        keys: &[("topology", Word("cores"))],
    },
    Builtin {
        name: "pin_def",
        description: "fit, the topology left as it is (for comparison)",
        keys: &[("topology", Word("keep"))],
    },
    Builtin {
        name: OFF,
        description: "the guest is left alone",
        keys: &[],
    },
    Builtin {
        name: "local",
        description: "the safe first step: floats on one node",
        keys: &[
            ("guest_visible", Word("keep")),
            ("cpus", Word("shared")),
            ("max_nodes", Count(1)),
            ("emulator", Word("guest")),
            ("iothreads.cpus", Word("guest")),
            ("memory_mode", Word("preferred")),
            ("hugepages", Word("off")),
            ("disk.cache", Word("keep")),
            ("disk.io", Word("keep")),
            ("disk.discard", Word("keep")),
            ("disk.queues", Word("keep")),
        ],
    },
    Builtin {
        name: "shared",
        description: "floats on the shared set",
        keys: &[("cpus", Word("shared"))],
    },
    Builtin {
        name: "isolated",
        description: "fit, each vCPU alone on its core, or no start",
        keys: &[("smt", Word("isolate")), ("on_no_fit", Word("refuse"))],
    },
    Builtin {
        name: "realtime",
        description: "fit, each vCPU alone on its core, all but 0 in real time, or no start",
        keys: &[
            ("smt", Word("isolate")),
            ("realtime.vcpus", Word("^0")),
            ("locked", Yes),
            ("emulator", Word("isolate")),
            ("features.pmu", Word("off")),
            ("features.tsc_deadline", Word("require")),
            ("devices.memballoon", Word("none")),
            ("on_no_fit", Word("refuse")),
        ],
    },
];

impl Default for Profile {
    /// Returns the profile `fit`, which has the default of every key.
    fn default() -> Self {
        Self {
            name: BASE.into(),
            off: false,
            description: String::new(),
            cpus: Cpus::Dedicated,
            dedicated_vcpus: VcpuList::default(),
            smt: Smt::Prefer,
            core_kind: CoreKind::Auto,
            hotplug: Hotplug::Auto,
            topology: TopologyRule::Match,
            max_sockets: MaxSockets::Auto,
            numa: Numa::Match,
            max_nodes: MaxNodes::Auto,
            max_llcs: 0,
            cpu_mode: CpuMode::HostPassthrough,
            hugepages: Hugepages::Any,
            memory_mode: MemoryMode::Auto,
            locked: false,
            emulator: Emulator::Housekeeping,
            iothread_count: IothreadCount::Auto,
            iothreads_per_disk: 1,
            iothread_cpus: IothreadCpus::Housekeeping,
            disk: DiskRules {
                cache: DiskRule::Auto,
                io: DiskRule::Auto,
                discard: DiskRule::Keep,
                queues: DiskRule::Keep,
            },
            net_queues: NetQueues::Keep,
            realtime: Realtime {
                vcpus: VcpuList::default(),
                priority: 1,
                scheduler: Scheduler::Fifo,
            },
            hint_dedicated: Switch::Auto,
            poll_control: Switch::Keep,
            hyperv: Hyperv::Keep,
            pmu: Switch::Keep,
            tsc_deadline: FeaturePolicy::Keep,
            cache: CacheRule::Keep,
            no_memballoon: false,
            pci_numa: PciNuma::Prefer,
            keep_guest_visible: false,
            on_no_fit: OnNoFit::RunShared,
            override_existing: false,
        }
    }
}
