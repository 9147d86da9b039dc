//! `virtfit daemon`: the daemon in a program that does not link libvirt. `virtfitd` executes it; it
//! is not meant to be typed.

use std::path::Path;

use crate::cli::args::Global;
use crate::cli::{Failure, Outcome, session};
use crate::daemon::run;
use crate::hostfs::HostFs;
use crate::libvirt::child::ChildHypervisor;
use crate::libvirt::connection::SYSTEM;
use crate::snapshot::Sources;

/// Runs the daemon until a signal ends it; `program` is the `virtfitd` that calls libvirt.
///
/// # Errors
/// There is no socket to listen on, or the kernel gives no inotify, eventfd or thread.
pub(crate) fn run(global: &Global, program: &Path) -> Result<Outcome, Failure> {
    // Name by which `ps` and `pgrep` show the process.
    let _ = nix::sys::prctl::set_name(c"virtfitd");
    let place = Sources {
        root: session::named_root(global).map_or_else(HostFs::default, HostFs::new),
        policy: global.policy.clone(),
        topology: global.topology.clone(),
        assume_empty: false,
    };
    let (program, root, uri) = (
        program.to_path_buf(),
        place.root.clone(),
        global.connect.clone().unwrap_or_else(|| SYSTEM.into()),
    );
    let hypervisor = move || -> Box<dyn crate::libvirt::Hypervisor> {
        let mut child = ChildHypervisor::with_program(&program, &root, Some(&uri));
        if let Err(error) = child.start() {
            log::error!("{error}: nothing can be tuned");
        }
        Box::new(child)
    };
    run::run(place, Box::new(hypervisor)).map_err(|error| Failure::Broken(error.to_string()))?;
    Ok(Outcome::default())
}
