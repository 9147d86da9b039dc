//! Facts of one guest on this host, for the engine.

use crate::domain::Domain;
use crate::hostfs::HostFs;
use crate::types::devices::GuestFacts;

use crate::host::Host;
use crate::host::devices::{device_nodes, file_name, tap_networks};
use crate::host::images::image_facts;

/// Reads a guest's devices, images, autostart link and status file. Files that cannot be read count
/// as absent.
pub(crate) fn gather(root: &HostFs, host: &Host, domain: &Domain) -> GuestFacts {
    let named = file_name(&domain.name);
    let exists = |dir: &str| named && root.exists(format!("{dir}/{}.xml", domain.name));
    let (devices, device_cells) = device_nodes(root, host, domain);
    GuestFacts {
        devices,
        device_cells,
        tap_networks: tap_networks(root, domain),
        disks: image_facts(root, domain),
        autostart: exists("/etc/libvirt/qemu/autostart"),
        running: exists("/run/libvirt/qemu"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn autostart_and_running_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let autostart = dir.path().join("etc/libvirt/qemu/autostart");
        std::fs::create_dir_all(&autostart).unwrap();
        std::os::unix::fs::symlink("/etc/libvirt/qemu/db.xml", autostart.join("db.xml")).unwrap();
        let running = dir.path().join("run/libvirt/qemu");
        std::fs::create_dir_all(&running).unwrap();
        std::fs::write(running.join("web.xml"), "<domstatus/>").unwrap();
        let root = HostFs::new(dir.path());
        for (name, want) in [
            ("db", (true, false)),
            ("web", (false, true)),
            ("none", (false, false)),
            ("../autostart/db", (false, false)),
            ("", (false, false)),
        ] {
            let domain = Domain {
                name: name.into(),
                ..Domain::default()
            };
            let facts = gather(&root, &Host::default(), &domain);
            assert_eq!((facts.autostart, facts.running), want, "{name}");
        }
    }
}
