//! The daemon's work, without libvirt in it: what the binary `virtfitd` drives. `docs/design.md` section 5 describes it.

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
