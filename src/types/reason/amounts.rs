//! Amounts in reasons: the CPUs and memory that are free, and the guests that hold the rest.

use crate::types::ids::{KiB, NodeId};
use crate::types::plural::{counted, is_or_are, list};
use crate::types::printable::is_unsafe;

/// Number of CPUs or cores that are free on each node.
pub(crate) type Rooms = Vec<(NodeId, usize)>;
/// Number of CPUs that each guest holds, the largest first.
pub(crate) type Holders = Vec<(String, usize)>;

/// Words how much memory is free: `2 MiB pages: 4 GiB free on node 0 and 1 GiB on node 1`.
pub(super) fn memory(page: Option<KiB>, free: &[(NodeId, KiB)]) -> String {
    let name = page.map_or("small pages".to_string(), |size| format!("{size} pages"));
    let nodes = free.iter().enumerate().map(|(index, (node, free))| {
        let are = if index == 0 { " free" } else { "" };
        format!("{free}{are} on node {node}")
    });
    format!("{name}: {}", list(&nodes.collect::<Vec<_>>()))
}

/// Lists the holders, ` (db holds 4, web holds 2)`; empty where no CPU is held.
pub(super) fn held(holders: &[(String, usize)]) -> String {
    const MOST: usize = 4;
    let mut shown: Vec<String> = holders
        .iter()
        .take(MOST)
        .map(|(name, count)| format!("{} holds {count}", printable(name)))
        .collect();
    if holders.len() > MOST {
        let rest: usize = holders[MOST..].iter().map(|(_, count)| count).sum();
        let others = counted(holders.len() - MOST, "more guest");
        let verb = if holders.len() == MOST + 1 {
            "holds"
        } else {
            "hold"
        };
        shown.push(format!("{others} {verb} {rest}"));
    }
    match shown.is_empty() {
        true => String::new(),
        false => format!(" ({})", shown.join(", ")),
    }
}

/// Returns a guest's name without control characters, at most 60 characters.
pub(super) fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if is_unsafe(c) { '?' } else { c })
        .take(60)
        .collect()
}

/// Words how much is free on each node: `6 are free on node 0 and 5 on node 1`.
pub(super) fn rooms(rooms: &[(NodeId, usize)]) -> String {
    const MOST: usize = 4;
    let are = |count: usize| match count {
        0 => "none is".to_string(),
        1 => "only 1 is".to_string(),
        more => format!("only {more} are"),
    };
    let most = rooms.iter().map(|(_, count)| *count).max().unwrap_or(0);
    match rooms {
        _ if most == 0 => "none is free".to_string(),
        [(_, count)] => format!("{} free", are(*count)),
        [(first, count), rest @ ..] if rooms.len() <= MOST => {
            let head = match count {
                0 => format!("none is free on node {first}"),
                1 => format!("1 is free on node {first}"),
                more => format!("{more} are free on node {first}"),
            };
            let rest = rest.iter().map(|(node, count)| match count {
                0 => format!("none on node {node}"),
                count => format!("{count} on node {node}"),
            });
            list(&[head].into_iter().chain(rest).collect::<Vec<_>>())
        }
        _ => format!("at most {most} {} free on one node", is_or_are(most)),
    }
}
