//! Data types without a room of their own, for use in every room.
pub mod cpu_mode;
pub mod cpulist;
pub mod devices;
pub mod digest;
pub mod guest_thread;
pub mod ids;
pub mod idset;
pub mod live_change;
pub mod on_no_fit;
pub mod plan;
pub mod plural;
pub mod printable;
pub mod reason;
pub mod setting;
pub mod subject;
pub mod topology;
pub mod uuid;
