//! Every key of `[host]` and `[profile.NAME]`: how it is read, how it is printed, what it accepts.
//!
//! One table each is all there is: parsing, merging, printing, digest and "did you mean" go through it.

use super::names::Named;
use super::profile::{
    CacheRule, CpuMode, Cpus, DiskRule, Emulator, FeaturePolicy, Hugepages, IothreadCount, IothreadCpus,
    MaxNodes, MemoryMode, Numa, OnNoFit, PciNuma, Profile, Scheduler, Smt, Switch, TopologyRule,
};
use super::value::{
    Fault, Scalar, boolean, choice, either, number, page_size, quoted, size, size_text, vcpu_list, word,
};
use super::{HostPolicy, Requests, ReservedMemory, SetRule, Strategy};
use crate::cpulist;

/// One key: a table's key is `table.key`.
pub struct Key<T: 'static> {
    /// Its name.
    pub path: &'static str,
    /// What it accepts, for messages: follows "expected".
    pub expected: fn() -> String,
    /// Puts a value into the settings.
    pub set: fn(&mut T, &Scalar) -> Result<(), Fault>,
    /// The value in its one form; `set` takes it back.
    pub get: fn(&T) -> Scalar,
}

/// Words in the policy that will mean something later.
pub const RESERVED: [&str; 7] = [
    "host_tasks",
    "irqs",
    "governor",
    "host_cpus",
    "core_kind",
    "overcommit",
    "net",
];

/// The most iothreads a profile may ask for; more is a slip of the fingers.
const MOST_IOTHREADS: u32 = 1024;
/// The most queues of a virtio device (QEMU's `VIRTIO_QUEUE_MAX`).
const MOST_QUEUES: u32 = 1024;

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

macro_rules! choice_key {
    ($path:literal, $type:ty, $($field:ident).+) => {
        Key {
            path: $path,
            expected: names_of::<$type>,
            set: |to, value| { to.$($field).+ = choice::<$type>(value)?; Ok(()) },
            get: |from| Scalar::text(from.$($field).+.name()),
        }
    };
}

macro_rules! flag_key {
    ($path:literal, $field:ident, $on:literal, $off:literal) => {
        Key {
            path: $path,
            expected: || words_of(&[$off, $on]),
            set: |to, value| {
                to.$field = word(value, [$off, $on].into_iter())? == $on;
                Ok(())
            },
            get: |from| Scalar::text(if from.$field { $on } else { $off }),
        }
    };
}

macro_rules! bool_key {
    ($path:literal, $field:ident) => {
        Key {
            path: $path,
            expected: || "true or false".into(),
            set: |to, value| {
                to.$field = boolean(value)?;
                Ok(())
            },
            get: |from| Scalar::Bool(from.$field),
        }
    };
}

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

macro_rules! set_key {
    ($field:ident, $cores:literal) => {
        Key {
            path: stringify!($field),
            expected: || {
                let cores = if $cores {
                    "whole cores a node (a number from 1), "
                } else {
                    ""
                };
                format!("a cpulist such as \"0-3,16\", {cores}\"auto\" or \"none\"")
            },
            set: |to, value| {
                to.$field = set_rule(value, $cores)?;
                Ok(())
            },
            get: |from| set_text(&from.$field),
        }
    };
}

/// The keys of `[host]`, but `reserved_hugepages`, whose own keys are page sizes.
pub static HOST: &[Key<HostPolicy>] = &[
    set_key!(housekeeping, true),
    set_key!(dedicated, false),
    set_key!(shared, true),
    bool_key!("share_cores", share_cores),
    Key {
        path: "reserved_memory",
        expected: || "\"auto\" or a size such as \"512M\", \"4G\" or \"0\"".into(),
        set: |to, value| {
            to.reserved_memory = match value {
                Scalar::Text(text) if text == "auto" => ReservedMemory::Auto,
                Scalar::Text(text) => ReservedMemory::At(size(text)?),
                Scalar::Int(0) => return Err(Fault::meant("\"0\"")),
                _ => return Err(Fault::default()),
            };
            Ok(())
        },
        get: |from| match from.reserved_memory {
            ReservedMemory::Auto => Scalar::text("auto"),
            ReservedMemory::At(size) => Scalar::text(size_text(size)),
        },
    },
    choice_key!("strategy", Strategy, strategy),
    flag_key!("unmanaged", confine_unmanaged, "confine", "leave"),
    choice_key!("requests", Requests, requests),
    flag_key!("mode", observe, "observe", "enforce"),
    flag_key!("on_policy_change", apply_policy_change, "apply", "report"),
];

/// The keys of a profile, but `inherits`, which is no setting of its own.
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
    choice_key!("topology", TopologyRule, topology),
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
    switch_key!("features.pmu", pmu, &["keep", "on", "off"]),
    choice_key!("features.tsc_deadline", FeaturePolicy, tsc_deadline),
    choice_key!("features.cache", CacheRule, cache),
    flag_key!("devices.memballoon", no_memballoon, "none", "keep"),
    choice_key!("pci_numa", PciNuma, pci_numa),
    flag_key!("guest_visible", keep_guest_visible, "keep", "change"),
    choice_key!("on_no_fit", OnNoFit, on_no_fit),
    flag_key!("on_existing", override_existing, "override", "keep"),
];

const HUGEPAGES: &[&str] = &["off", "any", "large", "small"];

/// The key with this name.
pub fn find<T>(keys: &'static [Key<T>], path: &str) -> Option<&'static Key<T>> {
    keys.iter().find(|key| key.path == path)
}

/// The keys of a nested table, without the table's name; empty where there is no such table.
pub fn members<T>(keys: &'static [Key<T>], table: &str) -> Vec<&'static str> {
    keys.iter()
        .filter_map(|key| {
            key.path
                .split_once('.')
                .filter(|(owner, _)| *owner == table)
                .map(|(_, own)| own)
        })
        .collect()
}

/// The names that may stand directly in a section: plain keys and tables.
pub fn top_names<T>(keys: &'static [Key<T>]) -> Vec<&'static str> {
    let mut names: Vec<&str> = keys
        .iter()
        .map(|key| key.path.split_once('.').map_or(key.path, |(table, _)| table))
        .collect();
    names.dedup();
    names
}

fn names_of<E: Named>() -> String {
    either(&E::NAMES.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>())
}

fn words_of(words: &[&str]) -> String {
    either(&words.iter().map(|word| quoted(word)).collect::<Vec<_>>())
}

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

fn set_rule(value: &Scalar, cores: bool) -> Result<SetRule, Fault> {
    match value {
        Scalar::Text(text) => match text.trim() {
            "auto" => Ok(SetRule::Auto),
            "none" | "" => Ok(SetRule::Cpus(Default::default())),
            list if list.starts_with('^') => Err(Fault {
                problem: Some("an exclusion needs something to take it from, as in \"0-31,^0\"".into()),
                suggestion: None,
                offset: text.find('^'),
            }),
            list if list.starts_with(|c: char| c.is_alphabetic()) => {
                Err(word(value, ["auto", "none"].into_iter())
                    .err()
                    .unwrap_or_default())
            }
            _ => Ok(SetRule::Cpus(cpulist::parse(text)?)),
        },
        Scalar::Int(0) => Err(Fault::meant("\"none\"")),
        Scalar::Int(_) if cores => Ok(SetRule::CoresPerNode(number(value, 1, cpulist::MAX_ID + 1)?)),
        Scalar::Int(number) => Err(Fault {
            problem: Some("only housekeeping and shared are counted in cores".into()),
            suggestion: u32::try_from(*number).ok().map(|cpu| format!("\"{cpu}\"")),
            offset: None,
        }),
        Scalar::Bool(_) => Err(Fault::default()),
    }
}

fn set_text(rule: &SetRule) -> Scalar {
    match rule {
        SetRule::Auto => Scalar::text("auto"),
        SetRule::CoresPerNode(cores) => Scalar::Int((*cores).into()),
        SetRule::Cpus(cpus) if cpus.is_empty() => Scalar::text("none"),
        SetRule::Cpus(cpus) => Scalar::text(cpus.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Every value of the contract, and some that are not in it.
    #[test]
    fn profile_values() {
        let text = |word: &str| Scalar::text(word);
        let good = [
            ("cpus", "dedicated shared mixed keep"),
            ("smt", "prefer require isolate"),
            ("topology", "match cores keep"),
            ("numa", "match keep off"),
            ("cpu_mode", "host-passthrough host-model keep"),
            ("hugepages", "off any large small 2M 1G"),
            ("memory_mode", "auto strict preferred restrictive off"),
            ("emulator", "housekeeping isolate guest keep"),
            ("iothreads.count", "auto keep"),
            ("iothreads.cpus", "housekeeping isolate guest"),
            (
                "disk.cache",
                "auto keep none writeback writethrough directsync unsafe",
            ),
            ("disk.io", "auto keep native threads io_uring"),
            ("disk.discard", "keep ignore unmap"),
            ("disk.queues", "keep"),
            ("realtime.scheduler", "fifo rr"),
            ("realtime.vcpus", "all 0-3 ^0"),
            ("kvm.hint_dedicated", "auto on off keep"),
            ("kvm.poll_control", "on off keep"),
            ("features.pmu", "on off keep"),
            ("features.tsc_deadline", "keep require disable"),
            ("features.cache", "keep passthrough emulate disable"),
            ("devices.memballoon", "keep none"),
            ("pci_numa", "prefer require off"),
            ("guest_visible", "change keep"),
            ("on_no_fit", "run-shared refuse run-untuned"),
            ("on_existing", "keep override"),
            ("max_nodes", "auto"),
        ];
        for (path, words) in good {
            let key = find(PROFILE, path).unwrap();
            for word in words.split(' ') {
                let mut profile = Profile::default();
                assert_eq!((key.set)(&mut profile, &text(word)), Ok(()), "{path} = {word}");
                assert_eq!((key.get)(&profile), text(word), "{path}");
            }
            for bad in [
                text("nonsense"),
                Scalar::Bool(true),
                Scalar::Int(-1),
                text("AUTO"),
            ] {
                assert!(
                    (key.set)(&mut Profile::default(), &bad).is_err(),
                    "{path} = {bad}"
                );
            }
        }
    }

    #[test]
    fn numbers_have_their_ranges() {
        for (path, good, bad) in [
            ("max_nodes", [1, 9], [0, -1]),
            ("max_llcs", [0, 4], [-1, 1 << 40]),
            ("iothreads.count", [0, 8], [-1, 1025]),
            ("disk.queues", [1, 16], [0, 1025]),
            ("realtime.priority", [1, 99], [0, 100]),
        ] {
            let key = find(PROFILE, path).unwrap();
            for n in good {
                let mut profile = Profile::default();
                assert_eq!((key.set)(&mut profile, &Scalar::Int(n)), Ok(()), "{path} = {n}");
                assert_eq!((key.get)(&profile), Scalar::Int(n), "{path}");
            }
            for n in bad {
                assert!(
                    (key.set)(&mut Profile::default(), &Scalar::Int(n)).is_err(),
                    "{path} = {n}"
                );
            }
        }
    }

    #[test]
    fn host_values_read_back() {
        for (path, value) in [
            ("housekeeping", Scalar::text("0-1,16")),
            ("housekeeping", Scalar::Int(2)),
            ("housekeeping", Scalar::text("none")),
            ("dedicated", Scalar::text("2-7")),
            ("shared", Scalar::Int(1)),
            ("share_cores", Scalar::Bool(false)),
            ("reserved_memory", Scalar::text("2G")),
            ("reserved_memory", Scalar::text("0")),
            ("strategy", Scalar::text("spread")),
            ("unmanaged", Scalar::text("confine")),
            ("requests", Scalar::text("none")),
            ("mode", Scalar::text("observe")),
            ("on_policy_change", Scalar::text("apply")),
        ] {
            let key = find(HOST, path).unwrap();
            let mut host = HostPolicy::default();
            assert_eq!((key.set)(&mut host, &value), Ok(()), "{path} = {value}");
            assert_eq!((key.get)(&host), value, "{path}");
            assert_ne!(host, HostPolicy::default(), "{path}");
        }
        for (path, value) in [
            ("housekeeping", Scalar::Int(0)),
            ("housekeeping", Scalar::text("^0")),
            ("housekeeping", Scalar::text("atuo")),
            ("dedicated", Scalar::Int(2)),
            ("shared", Scalar::text("0-3,x")),
            ("reserved_memory", Scalar::Int(0)),
            ("reserved_memory", Scalar::text("10 %")),
        ] {
            let key = find(HOST, path).unwrap();
            assert!(
                (key.set)(&mut HostPolicy::default(), &value).is_err(),
                "{path} = {value}"
            );
        }
    }

    #[test]
    fn every_key_sets_what_it_gets() {
        for key in PROFILE {
            let mut profile = Profile::default();
            let value = (key.get)(&profile);
            assert_eq!((key.set)(&mut profile, &value), Ok(()), "{}", key.path);
            assert_eq!(profile, Profile::default(), "{}", key.path);
        }
        for key in HOST {
            let mut host = HostPolicy::default();
            let value = (key.get)(&host);
            assert_eq!((key.set)(&mut host, &value), Ok(()), "{}", key.path);
            assert_eq!(host, HostPolicy::default(), "{}", key.path);
        }
    }
}
