//! CPUs as cpulists in JSON, the form people read and `taskset` takes.

use serde::{Deserialize as _, Deserializer, Serializer};

use crate::types::cpulist;
use crate::types::idset::CpuSet;

/// Writes a cpulist, `0-3,16`.
pub(crate) fn serialize<S: Serializer>(cpus: &CpuSet, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(cpus)
}

/// Reads a cpulist.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<CpuSet, D::Error> {
    let text = String::deserialize(from)?;
    cpulist::parse(&text).map_err(serde::de::Error::custom)
}
