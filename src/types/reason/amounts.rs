//! Amounts in reasons: the CPUs and memory that are free, and the guests that hold the rest.

use std::fmt;

use crate::types::ids::{KiB, NodeId};
use crate::types::plural::{counted, is_or_are, list};
use crate::types::printable::is_unsafe;

/// Number of CPUs or cores that are free on each node.
pub(crate) type Rooms = Vec<(NodeId, usize)>;
/// Number of CPUs that each guest holds, the largest first.
pub(crate) type Holders = Vec<(String, usize)>;
/// Memory that each guest has in huge pages or on nodes it is bound to, the largest first.
pub(crate) type MemoryHolders = Vec<(String, KiB)>;

/// Words how much memory is free: `2 MiB pages: 4 GiB free on node 0 and 1 GiB on node 1`.
pub(super) fn memory(page: Option<KiB>, free: &[(NodeId, KiB)]) -> String {
    let name = page.map_or("small pages".to_string(), |size| format!("{size} pages"));
    let nodes = free.iter().enumerate().map(|(index, (node, free))| {
        let are = if index == 0 { " free" } else { "" };
        format!("{free}{are} on node {node}")
    });
    format!("{name}: {}", list(&nodes.collect::<Vec<_>>()))
}

/// Most holders that are named.
const MOST_NAMED: usize = 4;

/// Lists the holders, ` (db holds 4, web holds 2)`; empty where no CPU is held.
pub(super) fn held(holders: &[(String, usize)]) -> String {
    let rest = holders
        .iter()
        .skip(MOST_NAMED)
        .map(|(_, count)| count)
        .sum::<usize>();
    listed(holders, ("holds", "hold"), &rest)
}

/// Lists guests with memory, ` (db has 4 GiB, web has 2 GiB)`; empty where none has any.
pub(super) fn having(holders: &[(String, KiB)]) -> String {
    named(holders, ("has", "have"))
}

fn named(holders: &[(String, KiB)], verb: (&str, &str)) -> String {
    let rest = holders
        .iter()
        .skip(MOST_NAMED)
        .fold(0u64, |sum, (_, amount)| sum.saturating_add(amount.0));
    listed(holders, verb, &KiB(rest))
}

/// Lists guests with the memory that their definitions ask for, ` (db asks for 4 GiB)`; empty where
/// none does.
pub(super) fn asking_for(asking: &[(String, KiB)]) -> String {
    named(asking, ("asks for", "ask for"))
}

/// Says that free huge pages are left to guests that ask for them, ` beside those that other
/// definitions ask for (db asks for 4 GiB)`; empty where no guest does.
pub(super) fn beside(asking: &[(String, KiB)]) -> String {
    let named = asking_for(asking);
    match named.is_empty() {
        true => named,
        false => format!(" beside those that other definitions ask for{named}"),
    }
}

/// Lists the first holders by name, and the `rest` as a sum. The verb is given for one guest and
/// for several.
fn listed<T: fmt::Display>(holders: &[(String, T)], verb: (&str, &str), rest: &T) -> String {
    let mut shown: Vec<String> = holders
        .iter()
        .take(MOST_NAMED)
        .map(|(name, amount)| format!("{} {} {amount}", printable(name), verb.0))
        .collect();
    let others = holders.len().saturating_sub(MOST_NAMED);
    if others > 0 {
        let verb = if others == 1 { verb.0 } else { verb.1 };
        shown.push(format!("{} {verb} {rest}", counted(others, "more guest")));
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
