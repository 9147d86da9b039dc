//! Work of the daemon, without libvirt in it; the binary `virtfitd` drives it. `docs/design.md`
//! section 5 describes it.

pub mod args;
pub mod definitions;
pub mod earlier_pins;
pub mod history;
pub mod hook_answers;
pub mod in_flight;
pub mod kept_records;
pub mod launch;
pub mod pending;
pub mod questions;
pub mod queue;
pub mod records;
pub mod run;
pub mod server;
pub mod socket;
pub mod starts;
pub mod tasks;
pub mod turns;
pub mod unhooked;
pub mod untried;
pub mod watch;
pub mod worker;
