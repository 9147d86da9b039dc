//! Memory that a running guest has bound to nodes that are smaller.

use crate::host::Host;
use crate::ledger::MemoryUse;
use crate::status::note::{Code, Note};
use crate::types::ids::KiB;
use crate::types::idset::NodeSet;

/// Returns a note where the guest binds more memory to nodes than they have: the kernel gives the
/// rest only when it is touched, and the nodes count as full for others.
pub(crate) fn note(host: &Host, memory: &[MemoryUse]) -> Option<Note> {
    if !host.memory_known {
        return None;
    }
    let bound = memory.iter().filter(|uses| !uses.nodes.is_empty());
    let (mut nodes, mut amount) = (NodeSet::new(), 0u64);
    for uses in bound {
        nodes.extend_from(&uses.nodes);
        amount = amount.saturating_add(uses.amount.0);
    }
    let has = host.nodes.iter().filter(|node| nodes.contains(node.id));
    let has = has.fold(0u64, |sum, node| sum.saturating_add(node.memory.0));
    let (noun, have) = if nodes.len() == 1 {
        ("node", "has")
    } else {
        ("nodes", "have")
    };
    let text = format!(
        "its XML binds {} to {noun} {nodes}, which {have} {}: nothing is left there for other guests",
        KiB(amount),
        KiB(has)
    );
    (amount > has).then(|| Note::new(Code::MemoryBeyondNodes, text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::load;
    use crate::hostfs::HostFs;
    use crate::types::ids::NodeId;

    #[test]
    fn more_than_the_nodes_have_is_said() {
        let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts");
        let host = load::load(&HostFs::new(hosts.join("paper")), None).unwrap();
        let use_of = |gib: u64, nodes: &[u32]| MemoryUse {
            amount: KiB(gib << 20),
            page: None,
            nodes: nodes.iter().map(|node| NodeId(*node)).collect(),
        };
        let told = |memory: &[MemoryUse]| note(&host, memory).map(|note| note.text);
        assert_eq!(told(&[use_of(8, &[0]), use_of(900, &[])]), None);
        let both: KiB = KiB(host.nodes.iter().map(|node| node.memory.0).sum());
        assert_eq!(
            told(&[use_of(300, &[0]), use_of(90, &[1])]).unwrap(),
            format!(
                "its XML binds 390 GiB to nodes 0-1, which have {both}: nothing is left there for other guests"
            )
        );
        assert!(told(&[use_of(u64::MAX >> 20, &[0]), use_of(u64::MAX >> 20, &[0])]).is_some());
    }
}
