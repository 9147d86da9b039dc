//! Words of the policy for each choice: one table for each enum, read in both directions.

use crate::policy::Strategy;
use crate::policy::profile::{
    CacheRule, CoreKind, CpuMode, Cpus, Emulator, FeaturePolicy, Hotplug, Hyperv, IothreadCpus, MemoryMode,
    Numa, OnNoFit, PciNuma, Scheduler, Smt, TopologyRule,
};

/// Setting whose value is one of a few words.
pub(crate) trait Named: Copy + PartialEq + 'static {
    /// Words with their values, in the order in which messages list them.
    const NAMES: &'static [(&'static str, Self)];

    /// Returns the value of a word.
    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }

    /// Returns the word for a value.
    fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, value)| *value == self)
            .map_or("", |(name, _)| name)
    }
}

macro_rules! named {
    ($type:ty: $($name:literal => $variant:ident),+ $(,)?) => {
        impl Named for $type {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, <$type>::$variant)),+];
        }
    };
}

named!(Cpus: "dedicated" => Dedicated, "shared" => Shared, "mixed" => Mixed, "keep" => Keep);
named!(Smt: "prefer" => Prefer, "require" => Require, "isolate" => Isolate);
named!(CoreKind: "auto" => Auto, "fast" => Fast, "slow" => Slow, "any" => Any);
named!(Hyperv: "keep" => Keep, "recommended" => Recommended);
named!(Hotplug: "auto" => Auto, "hold" => Hold, "float" => Float);
named!(TopologyRule: "match" => Match, "cores" => Cores, "keep" => Keep);
named!(Numa: "match" => Match, "keep" => Keep, "off" => Off);
named!(CpuMode: "host-passthrough" => HostPassthrough, "host-model" => HostModel, "keep" => Keep);
named!(MemoryMode: "auto" => Auto, "strict" => Strict, "preferred" => Preferred,
    "restrictive" => Restrictive, "off" => Off);
named!(Emulator: "housekeeping" => Housekeeping, "isolate" => Isolate, "guest" => Guest, "keep" => Keep);
named!(IothreadCpus: "housekeeping" => Housekeeping, "isolate" => Isolate, "guest" => Guest);
named!(Scheduler: "fifo" => Fifo, "rr" => Rr);
named!(FeaturePolicy: "keep" => Keep, "require" => Require, "disable" => Disable);
named!(CacheRule: "keep" => Keep, "passthrough" => Passthrough, "emulate" => Emulate, "disable" => Disable);
named!(PciNuma: "prefer" => Prefer, "require" => Require, "off" => Off);
named!(OnNoFit: "run-shared" => RunShared, "refuse" => Refuse, "run-untuned" => RunUntuned);
named!(Strategy: "pack" => Pack, "spread" => Spread);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_both_ways() {
        for (name, value) in OnNoFit::NAMES {
            assert_eq!(OnNoFit::from_name(name), Some(*value));
            assert_eq!(value.name(), *name);
            assert_eq!(value.as_str(), *name);
        }
        assert_eq!(Cpus::from_name("Dedicated"), None);
    }
}
