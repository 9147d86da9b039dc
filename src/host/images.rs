//! Facts of a guest's disk images, from `stat` and the mount table. No image is ever opened.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::domain::{Disk, Domain};
use crate::hostfs::HostFs;
use crate::types::devices::ImageFacts;
use crate::types::reason::LeftOut;

use crate::host::kernel;
use crate::host::mounts;
use crate::host::mounts::Mount;

/// Returns the facts of a guest's file and block disks, by target name. Other disks (network,
/// volume, nvme, vhost-user, vdpa) and drives without a medium are absent.
pub(crate) fn image_facts(root: &HostFs, domain: &Domain) -> BTreeMap<String, ImageFacts> {
    let mounts = match mounts::read(root) {
        Ok(mounts) => mounts.unwrap_or_default(),
        Err(error) => {
            log::debug!("no mount table: {error}");
            Vec::new()
        }
    };
    domain
        .disks
        .iter()
        .filter_map(|disk| Some((disk.target.clone(), facts(root, &mounts, disk)?)))
        .collect()
}

fn facts(root: &HostFs, mounts: &[Mount], disk: &Disk) -> Option<ImageFacts> {
    let source = disk.source.as_deref().filter(|source| !source.is_empty())?;
    match disk.kind.as_str() {
        // An inactive volume may be missing now, but QEMU accepts only a device for it.
        "block" => Some(ImageFacts::Block),
        // libvirt's default is a file.
        "file" | "" => Some(file(root, mounts, source)),
        _ => None,
    }
}

fn file(root: &HostFs, mounts: &[Mount], source: &str) -> ImageFacts {
    let unknown = |why: LeftOut| ImageFacts::Unknown { why };
    if root.is_none() {
        return unknown(LeftOut::ImageElsewhere);
    }
    let path = source.to_string();
    if !source.starts_with('/') {
        return unknown(LeftOut::ImagePathRelative { path });
    }
    let meta = match root.metadata(source) {
        Ok(meta) => meta,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return unknown(LeftOut::ImageMissing { path });
        }
        Err(error) => {
            let error = error.to_string();
            return unknown(LeftOut::ImageUnreadable { error });
        }
    };
    if meta.file_type().is_block_device() {
        return ImageFacts::Block;
    }
    if !meta.is_file() {
        return unknown(LeftOut::ImageOfOtherKind { path });
    }
    let fstype = root
        .resolve(source)
        .ok()
        .and_then(|path| mounts::fstype_of(mounts, &path))
        .unwrap_or_default();
    ImageFacts::File {
        fstype: fstype.to_string(),
        direct: takes_o_direct(root, fstype),
        // st_blocks counts units of 512 bytes whatever the filesystem's block size is (stat(2)).
        preallocated: meta.blocks().saturating_mul(512) >= meta.len(),
    }
}

/// Returns whether a filesystem type is known to do `O_DIRECT` itself, so that `io=native` is
/// really asynchronous.
///
/// These are the kernel's filesystems with a direct I/O path of their own, and the cluster
/// filesystems that document one. Not among them: tmpfs (since 6.6 it accepts the flag but caches
/// all the same; before, it refuses it), overlay, ecryptfs, 9p, fuse and cifs (they depend on the
/// filesystem below or on mount options). ZFS does it since 2.3; before, it accepts the flag and
/// ignores it, or refuses it.
fn takes_o_direct(root: &HostFs, fstype: &str) -> bool {
    const DIRECT: [&str; 18] = [
        "bcachefs", "btrfs", "ceph", "exfat", "ext2", "ext3", "ext4", "f2fs", "gfs2", "gpfs", "jfs",
        "lustre", "nfs", "nfs4", "nilfs2", "ocfs2", "vfat", "xfs",
    ];
    if fstype == "zfs" {
        let version = kernel::text(root, "/sys/module/zfs/version")
            .ok()
            .flatten()
            .unwrap_or_default();
        return zfs_has_direct_io(&version);
    }
    DIRECT.contains(&fstype)
}

/// Returns `true` for `2.3.1-1` and later.
fn zfs_has_direct_io(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= (2, 3),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn disk(target: &str, kind: &str, source: Option<&str>) -> Disk {
        Disk {
            alias: String::new(),
            target: target.into(),
            kind: kind.into(),
            device: "disk".into(),
            bus: "virtio".into(),
            source: source.map(Into::into),
            format: Some("raw".into()),
            cache: None,
            io: None,
            discard: None,
            queues: None,
            iothread: None,
            iothread_mapping: false,
            iothreads_possible: true,
            controller: None,
            shareable: false,
        }
    }

    #[test]
    fn each_image_by_stat_and_mount() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write(
            "proc/mounts",
            b"/dev/a / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\npool /srv/my\\040pool zfs rw 0 0\n",
        );
        write("images/full.raw", &[7; 8192]);
        write("run/t.raw", &[7; 8192]);
        write("srv/my pool/z.raw", &[7; 8192]);
        let sparse = std::fs::File::create(dir.path().join("images/sparse.raw")).unwrap();
        sparse.set_len(1 << 20).unwrap();
        symlink("/run/t.raw", dir.path().join("images/link.raw")).unwrap();
        symlink(
            "/../../../../../../etc/passwd",
            dir.path().join("images/escape.raw"),
        )
        .unwrap();
        let root = HostFs::new(dir.path());
        let file = |fstype: &str, direct, preallocated| {
            Some(ImageFacts::File {
                fstype: fstype.into(),
                direct,
                preallocated,
            })
        };
        let unknown = |why: LeftOut| Some(ImageFacts::Unknown { why });
        let table = [
            (
                disk("vda", "file", Some("/images/full.raw")),
                file("ext4", true, true),
            ),
            (
                disk("vdb", "file", Some("/images/sparse.raw")),
                file("ext4", true, false),
            ),
            (
                disk("vdc", "file", Some("/images/link.raw")),
                file("tmpfs", false, true),
            ),
            (
                disk("vdd", "file", Some("/srv/my pool/z.raw")),
                file("zfs", false, true),
            ),
            (
                disk("vde", "file", Some("/images/none")),
                unknown(LeftOut::ImageMissing {
                    path: "/images/none".into(),
                }),
            ),
            (
                disk("vdf", "file", Some("/images")),
                unknown(LeftOut::ImageOfOtherKind {
                    path: "/images".into(),
                }),
            ),
            (
                disk("vdg", "file", Some("/images/escape.raw")),
                unknown(LeftOut::ImageMissing {
                    path: "/images/escape.raw".into(),
                }),
            ),
            (
                disk("vdh", "file", Some("rel.raw")),
                unknown(LeftOut::ImagePathRelative {
                    path: "rel.raw".into(),
                }),
            ),
            (disk("vdi", "block", Some("/dev/vg/lv")), Some(ImageFacts::Block)),
            (disk("sda", "file", None), None),
            (disk("sdb", "file", Some("")), None),
            (disk("sdc", "network", Some("rbd/x")), None),
            (disk("sdd", "volume", Some("vol")), None),
        ];
        for (disk, want) in table {
            let domain = Domain {
                disks: vec![disk.clone()],
                ..Domain::default()
            };
            assert_eq!(image_facts(&root, &domain).remove(&disk.target), want, "{disk:?}");
        }
        let elsewhere = super::file(&HostFs::none(), &[], "/images/full.raw");
        assert_eq!(Some(elsewhere), unknown(LeftOut::ImageElsewhere));
        write("sys/module/zfs/version", b"2.3.0-1\n");
        assert!(takes_o_direct(&root, "zfs"));
        let empty = tempfile::tempdir().unwrap();
        std::fs::write(empty.path().join("a"), [1; 512]).unwrap();
        let nowhere = super::file(&HostFs::new(empty.path()), &[], "/a");
        assert!(
            matches!(nowhere, ImageFacts::File { direct: false, .. }),
            "{nowhere:?}"
        );
    }

    #[test]
    fn zfs_versions() {
        let table = [
            ("2.3.0-1", true),
            ("2.4.1", true),
            ("3.0", true),
            ("2.2.7-1ubuntu", false),
            ("0.8.3", false),
            ("", false),
            ("v2.3", false),
        ];
        for (version, want) in table {
            assert_eq!(zfs_has_direct_io(version), want, "{version}");
        }
    }
}
