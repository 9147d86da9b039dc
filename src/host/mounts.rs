//! Mount table: mounted huge page sizes, and the filesystem that a path is on.
//!
//! `proc_pid_mounts(5)`: one mount a line, device, mount point, type, options; space, tab, newline
//! and backslash as `\040` and the like.

use std::path::{Path, PathBuf};

use crate::hostfs::HostFs;
use crate::types::ids::KiB;

use crate::host::error::HostError;
use crate::host::kernel;

/// Mount of a filesystem.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Mount {
    pub point: PathBuf,
    /// Filesystem type.
    pub fstype: String,
    /// Options, separated by commas.
    pub options: String,
}

/// Reads the host's mount table; `None` if the root has none.
///
/// # Errors
/// The table is there but cannot be read.
pub(crate) fn read(root: &HostFs) -> Result<Option<Vec<Mount>>, HostError> {
    for path in ["/proc/mounts", "/proc/self/mounts"] {
        if let Some(text) = kernel::text(root, path)? {
            return Ok(Some(parse(&text)));
        }
    }
    Ok(None)
}

/// Parses a mount table; lines with fewer than four fields are left out.
fn parse(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (_device, point, fstype, options) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            Some(Mount {
                point: PathBuf::from(unescape(point)),
                fstype: fstype.to_string(),
                options: options.to_string(),
            })
        })
        .collect()
}

/// Decodes the kernel's `\ooo`; any other text after a backslash stays.
fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let code = digits.filter(|_| *first == b'\\').map(|digits| {
            digits
                .iter()
                .fold(0u32, |code, digit| code * 8 + u32::from(digit - b'0'))
        });
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns the huge page sizes with a hugetlbfs mount, ascending. A mount without `pagesize=` has
/// the default size.
pub(crate) fn hugetlbfs_sizes(mounts: &[Mount], default: Option<KiB>) -> Vec<KiB> {
    let mut sizes: Vec<KiB> = mounts
        .iter()
        .filter(|mount| mount.fstype == "hugetlbfs")
        .filter_map(|mount| {
            let told = mount
                .options
                .split(',')
                .find_map(|option| option.strip_prefix("pagesize="));
            match told {
                Some(size) => page_size(size),
                None => default,
            }
        })
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Parses `2M`, `1024M` (as the kernel prints 1 GiB), `1G`, `64K`, or bytes.
fn page_size(text: &str) -> Option<KiB> {
    let text = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let (digits, shift) = match text.char_indices().last()? {
        (at, 'K' | 'k') => (&text[..at], 10),
        (at, 'M' | 'm') => (&text[..at], 20),
        (at, 'G' | 'g') => (&text[..at], 30),
        _ => (text, 0),
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (bytes >= 1024 && bytes % 1024 == 0).then_some(KiB(bytes / 1024))
}

/// Returns the filesystem type at an absolute path without links: that of the longest mount point
/// above it, and of several mounts on one point that of the last.
pub(crate) fn fstype_of<'m>(mounts: &'m [Mount], path: &Path) -> Option<&'m str> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
        .map(|mount| mount.fstype.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
/dev/sda2 / ext4 rw,relatime 0 0
tmpfs /run tmpfs rw,nosuid 0 0
hugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0
none /dev/hugepages1G hugetlbfs rw,pagesize=1024M 0 0
server:/a\\040b /srv/my\\040images\\134x nfs4 rw,vers=4.2 0 0
systemd-1 /data autofs rw 0 0
/dev/sdb1 /data xfs rw 0 0
broken line
";

    #[test]
    fn the_longest_mount_point_wins() {
        let mounts = parse(TABLE);
        let table = [
            ("/etc/passwd", Some("ext4")),
            ("/run/x", Some("tmpfs")),
            ("/runner", Some("ext4")),
            ("/srv/my images\\x/disk.raw", Some("nfs4")),
            ("/srv/my", Some("ext4")),
            ("/data/disk", Some("xfs")),
            ("relative", None),
        ];
        for (path, want) in table {
            assert_eq!(fstype_of(&mounts, Path::new(path)), want, "{path}");
        }
        assert_eq!(fstype_of(&[], Path::new("/x")), None);
    }

    #[test]
    fn sizes_of_hugetlbfs() {
        let mounts = parse(TABLE);
        assert_eq!(hugetlbfs_sizes(&mounts, None), [KiB(2048), KiB(1 << 20)]);
        let plain = parse("h /h hugetlbfs rw 0 0\n");
        assert_eq!(hugetlbfs_sizes(&plain, Some(KiB(2048))), [KiB(2048)]);
        assert_eq!(hugetlbfs_sizes(&plain, None), []);
    }

    #[test]
    fn page_sizes() {
        let table = [
            ("2M", Some(2048)),
            ("1G", Some(1 << 20)),
            ("1GB", Some(1 << 20)),
            ("64k", Some(64)),
            ("2097152", Some(2048)),
            ("512", None),
            ("M", None),
            ("", None),
            ("2Mx", None),
            ("99999999999999G", None),
        ];
        for (text, want) in table {
            assert_eq!(page_size(text), want.map(KiB), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_table_is_read(text in "(?s).{0,200}") {
            parse(&text);
            unescape(&text);
        }
    }
}
