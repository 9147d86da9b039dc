//! Data without a room of its own: what any room may take from.
pub mod cpulist;
pub mod devices;
pub mod digest;
pub mod ids;
pub mod idset;
pub mod plan;
pub mod plural;
pub mod setting;
pub mod uuid;
