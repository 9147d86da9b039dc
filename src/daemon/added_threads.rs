//! Iothreads that are added to guests while these run (`virsh iothreadadd --live`). No hook tells
//! of them; libvirt writes the guest's status file.

use std::collections::BTreeMap;

use crate::hostfs::HostFs;
use crate::hostfs::stems::stems;
use crate::ledger::status;
use crate::xml::Document;

/// Numbers of iothreads of running guests, by name.
#[derive(Debug, Default)]
pub(crate) struct IothreadCounts(BTreeMap<String, usize>);

impl IothreadCounts {
    /// Counts those of all guests that run now.
    pub(crate) fn load(root: &HostFs) -> Self {
        let mut counts = Self::default();
        for name in stems(root, status::FOLDER, "xml").unwrap_or_default() {
            counts.has_more(root, &name);
        }
        counts
    }

    /// Notes that a guest's status file was written; returns whether it has more iothreads than
    /// before. The first file of a guest has all that it starts with.
    pub(crate) fn has_more(&mut self, root: &HostFs, name: &str) -> bool {
        let Some(count) = count(&root.read(status::path(name)).unwrap_or_default()) else {
            return false;
        };
        let before = self.0.insert(name.into(), count);
        before.is_some_and(|before| before < count)
    }

    /// Forgets a guest that ended.
    pub(crate) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }
}

fn count(status: &str) -> Option<usize> {
    let document = Document::parse(status).ok()?;
    let ids = document.root().child("domain")?.child("iothreadids");
    Some(ids.map_or(0, |ids| ids.children_named("iothread").count()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn more_iothreads_than_before_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run/libvirt/qemu");
        std::fs::create_dir_all(&folder).unwrap();
        let root = HostFs::new(dir.path());
        let mut counts = IothreadCounts::default();
        for (ids, more) in [
            ("", false),
            ("<iothread id='1'/>", true),
            ("<iothread id='1'/>", false),
            ("<iothread id='1'/><iothread id='2'/>", true),
            ("", false),
        ] {
            let text = format!("<domstatus><domain><iothreadids>{ids}</iothreadids></domain></domstatus>");
            std::fs::write(folder.join("g.xml"), text).unwrap();
            assert_eq!(counts.has_more(&root, "g"), more, "{ids}");
        }
        assert!(!counts.has_more(&root, "gone"));
        counts.forget("g");
        assert!(!counts.has_more(&root, "g"), "a first look");
    }
}
