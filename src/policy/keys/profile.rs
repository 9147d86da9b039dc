//! Keys of a profile.

use crate::policy::keys::Key;
use crate::policy::keys::kinds::{bool_key, choice_key, flag_key, names_of, words_of};
use crate::policy::profile::{
    CacheRule, CoreKind, CpuMode, Cpus, DiskRule, Emulator, FeaturePolicy, Hotplug, Hugepages, Hyperv,
    IothreadCount, IothreadCpus, MaxNodes, MaxSockets, MemoryMode, NetQueues, Numa, OnNoFit, PciNuma,
    Profile, Scheduler, Smt, Switch, TopologyRule,
};
use crate::policy::value::{
    Fault, Scalar, boolean, choice, number, page_size, quoted, size_text, vcpu_list, word,
};

/// Limit of a profile's iothread count; a larger number is taken for a typing error.
const MOST_IOTHREADS: u32 = 1024;
/// Limit of the iothreads of one disk; more serve no disk that there is.
const MOST_PER_DISK: u32 = 64;
/// Limit of a virtio device's queues (QEMU's `VIRTIO_QUEUE_MAX`).
const MOST_QUEUES: u32 = 1024;
/// Limit of an interface's queues (the kernel's `MAX_TAP_QUEUES`).
const MOST_NET_QUEUES: u32 = 256;

const CACHE: &[&str] = &[
    "auto",
    "keep",
    "none",
    "writeback",
    "writethrough",
    "directsync",
    "unsafe",
];
const IO: &[&str] = &["auto", "keep", "native", "threads", "io_uring"];
const DISCARD: &[&str] = &["keep", "ignore", "unmap"];
const HUGEPAGES: &[&str] = &["off", "any", "large", "small"];

/// Key for a [`Switch`]: on, off or keep, some with `auto`.
macro_rules! switch_key {
    ($path:literal, $field:ident, $words:expr) => {
        Key {
            path: $path,
            expected: || words_of($words),
            set: |to, value| {
                to.$field = switch(word(value, $words.iter().copied())?);
                Ok(())
            },
            get: |from| Scalar::text(switch_text(from.$field)),
        }
    };
}

/// Key for a setting of all disks.
macro_rules! disk_key {
    ($path:literal, $field:ident, $words:expr) => {
        Key {
            path: $path,
            expected: || words_of($words),
            set: |to, value| {
                to.disk.$field = disk_rule(word(value, $words.iter().copied())?);
                Ok(())
            },
            get: |from| Scalar::text(disk_text(&from.disk.$field)),
        }
    };
}

/// Key for a list of the guest's vCPUs.
macro_rules! list_key {
    ($path:literal, $expected:literal, $($field:ident).+) => {
        Key {
            path: $path,
            expected: || $expected.into(),
            set: |to, value| { to.$($field).+ = vcpu_list(value)?; Ok(()) },
            get: |from| Scalar::text(from.$($field).+.0.clone()),
        }
    };
}

/// Keys of a profile, except `inherits`, which is no setting.
pub static PROFILE: &[Key<Profile>] = &[
    Key {
        path: "description",
        expected: || "a text".into(),
        set: |to, value| match value {
            Scalar::Text(text) => {
                to.description.clone_from(text);
                Ok(())
            }
            _ => Err(Fault::default()),
        },
        get: |from| Scalar::text(from.description.clone()),
    },
    choice_key!("cpus", Cpus, cpus),
    list_key!(
        "dedicated_vcpus",
        "a cpulist over the guest's vCPUs such as \"0-3\", \"^0\" (all but 0) or \"\"",
        dedicated_vcpus
    ),
    choice_key!("smt", Smt, smt),
    choice_key!("core_kind", CoreKind, core_kind),
    choice_key!("hotplug", Hotplug, hotplug),
    choice_key!("topology", TopologyRule, topology),
    Key {
        path: "max_sockets",
        expected: || "\"auto\" or a number from 1".into(),
        set: |to, value| {
            to.max_sockets = match value {
                Scalar::Text(text) if text == "auto" => MaxSockets::Auto,
                value => MaxSockets::At(number(value, 1, u32::MAX)?),
            };
            Ok(())
        },
        get: |from| match from.max_sockets {
            MaxSockets::Auto => Scalar::text("auto"),
            MaxSockets::At(most) => Scalar::Int(most.into()),
        },
    },
    choice_key!("numa", Numa, numa),
    Key {
        path: "max_nodes",
        expected: || "\"auto\" or a number from 1".into(),
        set: |to, value| {
            to.max_nodes = match value {
                Scalar::Text(text) if text == "auto" => MaxNodes::Auto,
                value => MaxNodes::At(number(value, 1, u32::MAX)?),
            };
            Ok(())
        },
        get: |from| match from.max_nodes {
            MaxNodes::Auto => Scalar::text("auto"),
            MaxNodes::At(most) => Scalar::Int(most.into()),
        },
    },
    Key {
        path: "max_llcs",
        expected: || "a number from 0 (0: any)".into(),
        set: |to, value| {
            to.max_llcs = number(value, 0, u32::MAX)?;
            Ok(())
        },
        get: |from| Scalar::Int(from.max_llcs.into()),
    },
    choice_key!("cpu_mode", CpuMode, cpu_mode),
    Key {
        path: "hugepages",
        expected: || format!("{} or a page size such as \"2M\", \"1G\"", quoted_list(HUGEPAGES)),
        set: |to, value| {
            to.hugepages = match (word(value, HUGEPAGES.iter().copied()), value) {
                (Ok("off"), _) => Hugepages::Off,
                (Ok("any"), _) => Hugepages::Any,
                (Ok("large"), _) => Hugepages::Large,
                (Ok(_), _) => Hugepages::Small,
                (Err(_), Scalar::Text(text)) if text.starts_with(|c: char| c.is_ascii_digit()) => {
                    Hugepages::Size(page_size(text)?)
                }
                (Err(fault), _) => return Err(fault),
            };
            Ok(())
        },
        get: |from| match from.hugepages {
            Hugepages::Off => Scalar::text("off"),
            Hugepages::Any => Scalar::text("any"),
            Hugepages::Large => Scalar::text("large"),
            Hugepages::Small => Scalar::text("small"),
            Hugepages::Size(size) => Scalar::text(size_text(size)),
        },
    },
    choice_key!("memory_mode", MemoryMode, memory_mode),
    bool_key!("locked", locked),
    choice_key!("emulator", Emulator, emulator),
    Key {
        path: "iothreads.count",
        expected: || format!("\"auto\", \"keep\" or a number from 0 to {MOST_IOTHREADS}"),
        set: |to, value| {
            to.iothread_count = match value {
                Scalar::Text(text) if text == "auto" => IothreadCount::Auto,
                Scalar::Text(text) if text == "keep" => IothreadCount::Keep,
                value => IothreadCount::At(number(value, 0, MOST_IOTHREADS)?),
            };
            Ok(())
        },
        get: |from| match from.iothread_count {
            IothreadCount::Auto => Scalar::text("auto"),
            IothreadCount::Keep => Scalar::text("keep"),
            IothreadCount::At(count) => Scalar::Int(count.into()),
        },
    },
    Key {
        path: "iothreads.per_disk",
        expected: || format!("a number from 1 to {MOST_PER_DISK}"),
        set: |to, value| {
            to.iothreads_per_disk = number(value, 1, MOST_PER_DISK)?;
            Ok(())
        },
        get: |from| Scalar::Int(from.iothreads_per_disk.into()),
    },
    choice_key!("iothreads.cpus", IothreadCpus, iothread_cpus),
    disk_key!("disk.cache", cache, CACHE),
    disk_key!("disk.io", io, IO),
    disk_key!("disk.discard", discard, DISCARD),
    Key {
        path: "disk.queues",
        expected: || format!("\"keep\" or a number from 1 to {MOST_QUEUES}"),
        set: |to, value| {
            to.disk.queues = match value {
                Scalar::Text(text) if text == "keep" => DiskRule::Keep,
                value => DiskRule::Value(number(value, 1, MOST_QUEUES)?.to_string()),
            };
            Ok(())
        },
        get: |from| match &from.disk.queues {
            DiskRule::Value(queues) => queues.parse().map_or(Scalar::text("keep"), Scalar::Int),
            _ => Scalar::text("keep"),
        },
    },
    Key {
        path: "net.queues",
        expected: || format!("\"keep\", \"vcpus\" or a number from 1 to {MOST_NET_QUEUES}"),
        set: |to, value| {
            to.net_queues = match value {
                Scalar::Text(text) if text == "keep" => NetQueues::Keep,
                Scalar::Text(text) if text == "vcpus" => NetQueues::Vcpus,
                value => NetQueues::At(number(value, 1, MOST_NET_QUEUES)?),
            };
            Ok(())
        },
        get: |from| match from.net_queues {
            NetQueues::Keep => Scalar::text("keep"),
            NetQueues::Vcpus => Scalar::text("vcpus"),
            NetQueues::At(queues) => Scalar::Int(queues.into()),
        },
    },
    list_key!(
        "realtime.vcpus",
        "\"\" (off), \"all\" or a cpulist over the guest's vCPUs such as \"^0\"",
        realtime.vcpus
    ),
    Key {
        path: "realtime.priority",
        expected: || "a number from 1 to 99".into(),
        set: |to, value| {
            to.realtime.priority = number(value, 1, 99)?;
            Ok(())
        },
        get: |from| Scalar::Int(from.realtime.priority.into()),
    },
    choice_key!("realtime.scheduler", Scheduler, realtime.scheduler),
    switch_key!(
        "kvm.hint_dedicated",
        hint_dedicated,
        &["auto", "on", "off", "keep"]
    ),
    switch_key!("kvm.poll_control", poll_control, &["keep", "on", "off"]),
    choice_key!("hyperv", Hyperv, hyperv),
    switch_key!("features.pmu", pmu, &["keep", "on", "off"]),
    choice_key!("features.tsc_deadline", FeaturePolicy, tsc_deadline),
    choice_key!("features.cache", CacheRule, cache),
    flag_key!("devices.memballoon", no_memballoon, "none", "keep"),
    choice_key!("pci_numa", PciNuma, pci_numa),
    flag_key!("guest_visible", keep_guest_visible, "keep", "change"),
    choice_key!("on_no_fit", OnNoFit, on_no_fit),
    flag_key!("on_existing", override_existing, "override", "keep"),
];

fn quoted_list(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| quoted(word))
        .collect::<Vec<_>>()
        .join(", ")
}

fn switch(word: &str) -> Switch {
    match word {
        "auto" => Switch::Auto,
        "on" => Switch::On,
        "off" => Switch::Off,
        _ => Switch::Keep,
    }
}

fn switch_text(switch: Switch) -> &'static str {
    match switch {
        Switch::Auto => "auto",
        Switch::On => "on",
        Switch::Off => "off",
        Switch::Keep => "keep",
    }
}

fn disk_rule(word: &str) -> DiskRule {
    match word {
        "auto" => DiskRule::Auto,
        "keep" => DiskRule::Keep,
        value => DiskRule::Value(value.to_string()),
    }
}

fn disk_text(rule: &DiskRule) -> &str {
    match rule {
        DiskRule::Auto => "auto",
        DiskRule::Keep => "keep",
        DiskRule::Value(value) => value,
    }
}
