//! libvirt, for commands that change definitions. `virtfit` itself does not link it, as that would
//! slow the hook down: it asks `virtfitd call`, a child process.

use std::time::{Duration, Instant};

use crate::cli::args::Global;
use crate::host::running_hooks;
use crate::hostfs::HostFs;
use crate::ledger::{claims, reservation, status};
use crate::libvirt::Hypervisor;
use crate::libvirt::child::ChildHypervisor;
use crate::libvirt::definitions::Definition;

/// libvirt behind a child that is started with the first request.
pub fn connect(global: &Global) -> Box<dyn Hypervisor> {
    Box::new(ChildHypervisor::new(Some(&global.connect)))
}

/// How long a guest that libvirt is busy with is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Redefines a guest that was read as `definition`, unless libvirt stays busy with it or somebody
/// was quicker.
///
/// # Errors
/// Why not, for the user.
pub fn redefine(
    root: &HostFs,
    libvirt: &mut dyn Hypervisor,
    definition: &Definition,
    xml: &str,
) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    while let Some(why) = in_flight(root, &definition.domain.uuid, &definition.name) {
        if Instant::now() >= until {
            return Err(format!("{why}: try again in a moment"));
        }
        std::thread::sleep(PAUSE);
    }
    unchanged(root, definition)?;
    libvirt
        .redefine(&definition.text, xml)
        .map_err(|error| error.to_string())
}

/// What libvirt is doing with a guest that must not be touched now: it would wait for that with all
/// of its list locked. A guest that is being started has a reservation, and no status file yet; one
/// that a hook runs for may have both.
fn in_flight(root: &HostFs, uuid: &str, name: &str) -> Option<&'static str> {
    let reserved = !uuid.is_empty() && root.exists(reservation::path(uuid));
    if reserved && !root.exists(status::path(name)) {
        return Some("is being started");
    }
    if crate::libvirt::definition_file::Definition::is_being_written(root, name) {
        return Some("is being redefined by somebody else");
    }
    let hooked = running_hooks::guests(root).contains(name);
    hooked.then_some("is what libvirt runs a hook for")
}

/// libvirt can only replace a definition, whatever it is by then: look right before.
///
/// # Errors
/// Its file is gone or says something else now.
fn unchanged(root: &HostFs, definition: &Definition) -> Result<(), String> {
    match root.read(claims::path(&definition.name)) {
        Ok(now) if now == definition.text => Ok(()),
        Ok(_) => Err("its definition changed meanwhile: try again".into()),
        Err(_) => Err("its definition is gone".into()),
    }
}
