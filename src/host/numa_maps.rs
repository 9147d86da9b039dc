//! Memory of a process by node and page size: `/proc/PID/numa_maps` (`numa(7)`).

use std::collections::BTreeMap;

use crate::hostfs::HostFs;
use crate::types::ids::{KiB, NodeId};

/// Memory by node and page size.
pub(crate) type ByNode = BTreeMap<(NodeId, KiB), KiB>;

/// Reads the memory of a process; `None` if that may not be read, or the process is gone.
pub(crate) fn of(root: &HostFs, pid: u32) -> Option<ByNode> {
    let text = root.read(format!("/proc/{pid}/numa_maps")).ok()?;
    Some(parse(&text))
}

/// Parses the file: on each line `N0=PAGES` for each node, and the size of these pages. Pages that
/// the kernel merged to huge ones by itself count as small ones.
fn parse(text: &str) -> ByNode {
    let mut out = ByNode::new();
    for line in text.lines() {
        // File names are escaped, so that they have no blank.
        let words = || line.split_ascii_whitespace().skip(2);
        let size = words().find_map(|word| word.strip_prefix("kernelpagesize_kB=")?.parse().ok());
        let size = KiB(size.unwrap_or(4));
        for word in words() {
            let Some((node, pages)) = word.strip_prefix('N').and_then(|word| word.split_once('=')) else {
                continue;
            };
            if let (Ok(node), Ok(pages)) = (node.parse(), pages.parse::<u64>()) {
                let all = out.entry((NodeId(node), size)).or_default();
                all.0 = all.0.saturating_add(pages.saturating_mul(size.0));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_summed_by_node_and_size() {
        let text = "55d7 default file=/usr/bin/qemu\\040N0=7 mapped=2 N0=2 kernelpagesize_kB=4\n\
                    7f00 bind:1 file=/dev/hugepages/x huge anon=3 dirty=3 N0=1 N1=2 kernelpagesize_kB=2048\n\
                    7f01 default anon=1 N1=18446744073709551615 N2=x Nx=1 kernelpagesize_kB=4\n\
                    7f02 default\n7f03\n";
        let expected = ByNode::from([
            ((NodeId(0), KiB(4)), KiB(8)),
            ((NodeId(0), KiB(2048)), KiB(2048)),
            ((NodeId(1), KiB(4)), KiB(u64::MAX)),
            ((NodeId(1), KiB(2048)), KiB(4096)),
        ]);
        assert_eq!(parse(text), expected);
    }
}
