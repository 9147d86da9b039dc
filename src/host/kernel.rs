//! Reading of the small files of sysfs and procfs: cpulists, numbers, `Key: value` tables.

use crate::hostfs::{HostFs, optional};
use crate::types::cpulist::{self, CpulistError};
use crate::types::ids::{HostCpu, Id, KiB};
use crate::types::idset::{CpuSet, IdSet};

use crate::host::error::HostError;

/// File that says `1` where the kernel is one for real time.
pub(crate) const REALTIME: &str = "/sys/kernel/realtime";

/// Reads the text of a kernel file, trimmed; bytes that are not UTF-8 (mount points may have them)
/// are replaced.
pub(crate) fn text(root: &HostFs, path: &str) -> Result<Option<String>, HostError> {
    let bytes = optional(root.read_bytes(path))?;
    Ok(bytes.map(|bytes| {
        String::from_utf8_lossy(&bytes)
            .trim_matches(['\0', '\n', ' ', '\t'])
            .to_string()
    }))
}

/// Returns whether the kernel is one for real time (PREEMPT_RT).
pub(crate) fn is_realtime(root: &HostFs) -> bool {
    let reads = |path: &str| text(root, path).ok().flatten().unwrap_or_default();
    reads(REALTIME) == "1" || reads("/proc/version").contains("PREEMPT_RT")
}

/// Reads a cpulist; `None` if the file is absent.
pub(super) fn list<T: Id>(root: &HostFs, path: &str) -> Result<Option<IdSet<T>>, HostError> {
    match text(root, path)? {
        None => Ok(None),
        Some(text) => match parsed(&text) {
            Ok(set) => Ok(Some(set)),
            Err(problem) => Err(HostError::Cpulist {
                path: root.path(path),
                problem,
            }),
        },
    }
}

/// Reads a whole number; `None` if the file is absent.
pub(super) fn number<N: std::str::FromStr>(root: &HostFs, path: &str) -> Result<Option<N>, HostError> {
    let Some(text) = text(root, path)? else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(HostError::Value {
            path: root.path(path),
            value: text.chars().take(60).collect(),
            wanted: "a number",
        }),
    }
}

/// Parses a list as the kernel prints it. `(null)` is the empty list: kernels before 6.2 have that
/// in `nohz_full` if the option is not set.
fn parsed<T: Id>(text: &str) -> Result<IdSet<T>, CpulistError> {
    match text {
        "(null)" => Ok(IdSet::new()),
        text => cpulist::parse(text),
    }
}

/// Parses a cpulist as the kernel prints it; `None` if it is none.
pub(crate) fn cpulist(text: &str) -> Option<CpuSet> {
    parsed(text).ok()
}

/// Parses a mask as the kernel prints it: groups of 32 bits in hexadecimal, the highest first,
/// `00000000,00ff00ff`.
pub(crate) fn cpumask(mask: &str) -> Option<CpuSet> {
    let mut cpus = CpuSet::new();
    for (group, digits) in mask.rsplit(',').enumerate() {
        let bits = u32::from_str_radix(digits.trim(), 16).ok()?;
        let base = u32::try_from(group).ok()?.checked_mul(32)?;
        if base > cpulist::MAX_ID {
            return None;
        }
        cpus.extend(
            (0..32)
                .filter(|bit| bits >> bit & 1 == 1)
                .map(|bit| HostCpu(base + bit)),
        );
    }
    Some(cpus)
}

/// Writes a mask as the kernel reads it: groups of 32 bits in hexadecimal, the highest first.
pub(crate) fn mask(cpus: &CpuSet) -> String {
    let last = cpus.last().map_or(0, |cpu| cpu.0);
    let mut groups = vec![0u32; last as usize / 32 + 1];
    for cpu in cpus.iter() {
        if let Some(group) = groups.get_mut(cpu.0 as usize / 32) {
            *group |= 1 << (cpu.0 % 32);
        }
    }
    let groups: Vec<String> = groups.iter().rev().map(|group| format!("{group:08x}")).collect();
    groups.join(",")
}

/// Returns the amount after `key:` in a table like `/proc/meminfo`, or
/// `/sys/devices/system/node/node0/meminfo` with its `Node 0` before each key. In KiB, as the
/// kernel prints it.
pub(crate) fn meminfo(text: &str, key: &str) -> Option<KiB> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.split_whitespace().last() != Some(key) {
            return None;
        }
        value.split_whitespace().next()?.parse().ok().map(KiB)
    })
}

/// Returns the number in a name like `node12`; `None` for any other name.
pub(super) fn suffix(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .parse()
        .ok()
        .filter(|number| plain && *number <= cpulist::MAX_ID)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::idset::CpuSet;

    #[test]
    fn lists_say_where_they_are_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostFs::new(dir.path());
        let table = [
            ("", Some("")),
            ("\n", Some("")),
            (" (null)\n", Some("")),
            ("0-3,8\n", Some("0-3,8")),
            ("0-x\n", None),
            ("3-1\n", None),
        ];
        for (content, want) in table {
            std::fs::write(dir.path().join("list"), content).unwrap();
            match (list::<crate::types::ids::HostCpu>(&root, "/list"), want) {
                (Ok(Some(set)), Some(want)) => assert_eq!(set.to_string(), want, "{content:?}"),
                (Err(error), None) => assert!(error.to_string().contains("/list: "), "{content:?}: {error}"),
                (got, want) => panic!("{content:?}: {got:?} instead of {want:?}"),
            }
        }
        assert_eq!(list(&root, "/absent").unwrap(), None::<CpuSet>);
    }

    #[test]
    fn masks() {
        let table = [
            ("f", Some("0-3")),
            ("00000000,00ff00ff", Some("0-7,16-23")),
            ("1,00000000,80000000", Some("31,64")),
            ("0", Some("")),
            ("xyz", None),
            ("", None),
        ];
        for (mask, want) in table {
            assert_eq!(
                cpumask(mask).map(|set| set.to_string()).as_deref(),
                want,
                "{mask}"
            );
        }
        for list in ["", "0-3", "31,64", "0-7,16-23"] {
            let cpus = cpulist(list).unwrap();
            assert_eq!(cpumask(&mask(&cpus)), Some(cpus), "{list}");
        }
        assert_eq!(mask(&cpulist("0,33").unwrap()), "00000002,00000001");
    }

    #[test]
    fn meminfo_has_both_shapes() {
        let global = "MemTotal:       16384 kB\nHugepagesize:       2048 kB\n";
        let node = "Node 3 MemTotal:       4096 kB\nNode 3 MemFree:          12 kB\n";
        assert_eq!(meminfo(global, "MemTotal"), Some(KiB(16384)));
        assert_eq!(meminfo(global, "Hugepagesize"), Some(KiB(2048)));
        assert_eq!(meminfo(node, "MemTotal"), Some(KiB(4096)));
        assert_eq!(meminfo(node, "Total"), None);
        assert_eq!(meminfo("MemTotal: much", "MemTotal"), None);
    }

    #[test]
    fn suffixes() {
        let table = [
            ("node0", Some(0)),
            ("node16383", Some(16383)),
            ("node16384", None),
            ("node", None),
            ("node+1", None),
            ("cpu1", None),
        ];
        for (name, want) in table {
            assert_eq!(suffix(name, "node"), want, "{name}");
        }
    }
}
