//! The daemon's work, without libvirt in it: what the binary `virtfitd` drives. `design.md` section 4 is its contract.

pub mod args;
pub mod bugs;
pub mod calls;
pub mod class;
pub mod define;
pub mod definition;
pub mod earlier;
pub mod floats;
pub mod hooked;
pub mod hooks;
pub mod inflight;
pub mod live;
pub mod memo;
pub mod memory;
pub mod pending;
pub mod questions;
pub mod queue;
pub mod records;
pub mod running;
pub mod seen;
pub mod serve;
pub mod server;
pub mod socket;
pub mod tasks;
pub mod watch;
pub mod worker;
