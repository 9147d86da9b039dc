//! Programs of QEMU as libvirt knows them: versions, and what KVM offers guests through them.
//!
//! libvirt asks each program once and keeps the answer, with its own version and the kernel's, in
//! `/var/cache/libvirt/qemu/capabilities`. The format is private to libvirt; a file that reads
//! otherwise counts as absent. Each file is replaced when QEMU, libvirt or the kernel changes.

use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::hostfs::HostFs;

/// Folder of libvirt's answers on the host.
const FOLDER: &str = "/var/cache/libvirt/qemu/capabilities";

/// Program of QEMU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulator {
    /// Path of the program.
    pub path: String,
    /// Version of QEMU, as 1,000,000 · major + 1,000 · minor + micro.
    pub qemu: u32,
    /// Version of libvirt that asked, in the same form.
    pub libvirt: u32,
    /// Major version of the kernel then.
    pub kernel: u32,
    /// Enlightenments of Hyper-V that KVM offers; `None`: libvirt before 9.0 does not ask.
    pub hyperv: Option<Vec<String>>,
}

/// Mark of a file: name, size, and time of the last write in nanoseconds.
pub(super) type FileMark = (String, u64, u64);

/// Returns a mark of all answers, which differs once one is replaced.
pub(super) fn mark(root: &HostFs) -> Vec<FileMark> {
    let names = root.list(FOLDER).unwrap_or_default();
    let mark = |name: String| {
        let meta = root.metadata_opt(format!("{FOLDER}/{name}")).ok().flatten()?;
        let time = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some((name, meta.len(), u64::try_from(time.as_nanos()).ok()?))
    };
    names.into_iter().filter_map(mark).collect()
}

/// Reads all answers, by the path of the program. Of a program with several, the one of the newest
/// libvirt counts.
pub(super) fn read(root: &HostFs) -> Vec<Emulator> {
    let names = root.list(FOLDER).unwrap_or_default();
    let answers = names.iter().filter(|name| name.ends_with(".xml"));
    let texts = answers.filter_map(|name| root.read(format!("{FOLDER}/{name}")).ok());
    let mut all: Vec<Emulator> = texts.filter_map(|text| emulator(&text)).collect();
    all.sort_by(|a, b| (&a.path, b.libvirt).cmp(&(&b.path, a.libvirt)));
    all.dedup_by(|later, first| later.path == first.path);
    all
}

fn emulator(text: &str) -> Option<Emulator> {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0)
    };
    let version = |name: &str| element(name)?.parse::<u32>().ok();
    let kernel = element("kernelVersion").and_then(|text| text.split('.').next()?.parse().ok());
    let hyperv = text.split_once("<hypervCapabilities").map(|(_, rest)| {
        let list = rest
            .split_once("</hypervCapabilities>")
            .map_or("", |(list, _)| list);
        let names = list.split("<cap name='").skip(1);
        names
            .filter_map(|rest| Some(rest.split_once('\'')?.0.to_string()))
            .collect()
    });
    Some(Emulator {
        path: element("emulator")?.to_string(),
        qemu: version("version")?,
        libvirt: version("selfvers")?,
        kernel: kernel.unwrap_or(0),
        hyperv,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer(path: &str, libvirt: u32, tail: &str) -> String {
        format!(
            "<qemuCaps>\n  <emulator>{path}</emulator>\n  <selfvers>{libvirt}</selfvers>\n  <flag name='kvm'/>\n  \
             <version>7002022</version>\n  <kernelVersion>6.1.0-13-amd64 #1 SMP</kernelVersion>\n{tail}</qemuCaps>\n"
        )
    }

    #[test]
    fn answers_are_read_and_marked() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostFs::new(dir.path());
        assert!(read(&root).is_empty() && mark(&root).is_empty());
        let folder = dir.path().join(FOLDER.trim_start_matches('/'));
        std::fs::create_dir_all(&folder).unwrap();
        let hyperv = "  <hypervCapabilities supported='yes'>\n    <cap name='relaxed'/>\n    <cap name='vapic'/>\n  \
                      </hypervCapabilities>\n";
        for (name, text) in [
            ("a.xml", answer("/usr/bin/q", 9_000_000, hyperv)),
            ("b.xml", answer("/usr/bin/q", 8_000_000, "")),
            ("c.xml", answer("/usr/bin/a", 8_000_000, "")),
            ("d.xml", "nonsense".into()),
            ("e.xml.new", answer("/usr/bin/z", 9_000_000, "")),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let old = Emulator {
            path: "/usr/bin/a".into(),
            qemu: 7_002_022,
            libvirt: 8_000_000,
            kernel: 6,
            hyperv: None,
        };
        let new = Emulator {
            path: "/usr/bin/q".into(),
            libvirt: 9_000_000,
            hyperv: Some(vec!["relaxed".into(), "vapic".into()]),
            ..old.clone()
        };
        assert_eq!(read(&root), [old, new]);
        let before = mark(&root);
        assert_eq!(before.len(), 5);
        std::fs::write(folder.join("d.xml"), "other").unwrap();
        assert_ne!(mark(&root), before);
    }
}
