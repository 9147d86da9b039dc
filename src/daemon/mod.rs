//! Work of the daemon, without libvirt in it; the binary `virtfitd` drives it. `docs/design.md`
//! section 5 describes it.

pub(crate) mod added_threads;
pub mod args;
pub(crate) mod definitions;
pub(crate) mod earlier_pins;
pub(crate) mod history;
pub mod hook_answers;
pub mod in_flight;
pub(crate) mod kept_records;
pub(crate) mod launch;
pub(crate) mod page_pools;
pub(crate) mod pending;
pub(crate) mod questions;
pub(crate) mod queue;
pub(crate) mod records;
pub mod run;
pub mod server;
pub(crate) mod socket;
pub(crate) mod starts;
pub(crate) mod tasks;
pub(crate) mod turns;
pub(crate) mod unhooked;
pub(crate) mod untried;
pub(crate) mod watch;
pub(crate) mod worker;
