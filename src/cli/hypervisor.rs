//! libvirt, for commands that change definitions. `virtfit` itself does not link it, as that would slow the hook down: it asks
//! `virtfitd call`, a child process.

use crate::apply::definitions::Definition;
use crate::cli::args::Global;
use crate::daemon::calls::ChildHypervisor;
use crate::hypervisor::Hypervisor;
use crate::ledger::{claims, reservation, status};
use crate::root::Root;

/// libvirt behind a child that is started with the first request.
pub fn connect(global: &Global) -> Box<dyn Hypervisor> {
    Box::new(ChildHypervisor::new(Some(&global.connect)))
}

/// Redefines a guest that was read as `definition`, unless libvirt is starting it or somebody was quicker.
///
/// # Errors
/// Why not, for the user.
pub fn redefine(
    root: &Root,
    libvirt: &mut dyn Hypervisor,
    definition: &Definition,
    xml: &str,
) -> Result<(), String> {
    in_flight(root, &definition.domain.uuid, &definition.name)?;
    unchanged(root, definition)?;
    libvirt.define(xml).map_err(|error| error.to_string())
}

/// A guest that is just being started must not be touched: libvirt would wait for it with all of its list locked. It has a
/// reservation, and no status file yet.
///
/// # Errors
/// It is; the text says what to do.
fn in_flight(root: &Root, uuid: &str, name: &str) -> Result<(), String> {
    let reserved = root.exists(reservation::path(uuid));
    if !uuid.is_empty() && reserved && !root.exists(status::path(name)) {
        return Err("is being started: try again in a moment".into());
    }
    Ok(())
}

/// libvirt can only replace a definition, whatever it is by then: look right before.
///
/// # Errors
/// Its file is gone or says something else now.
fn unchanged(root: &Root, definition: &Definition) -> Result<(), String> {
    match root.read(claims::path(&definition.name)) {
        Ok(now) if now == definition.text => Ok(()),
        Ok(_) => Err("its definition changed meanwhile: try again".into()),
        Err(_) => Err("its definition is gone".into()),
    }
}
