//! Memory of a node as a bar: the planned guest's part, the free part, the rest.

use crate::host::{Host, Node};
use crate::ledger::Taken;
use crate::types::ids::KiB;
use crate::types::plan::Placement;

use crate::render::layout::{Line, Paint};

/// Columns of a bar between its brackets.
const BAR: usize = 10;

/// Numbers of one bar, in KiB: `own + free <= total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amounts {
    /// Memory the planned guest takes.
    pub own: u64,
    /// Memory that may still be given out after that.
    pub free: u64,
    /// All memory there is.
    pub total: u64,
}

impl Amounts {
    fn new(own: u64, available: u64, total: u64) -> Self {
        let own = own.min(total);
        Self {
            own,
            free: available.saturating_sub(own).min(total - own),
            total,
        }
    }
}

/// Returns the amounts of a node's memory in small pages; `None` where it is unknown.
pub(crate) fn of_node(
    host: &Host,
    node: &Node,
    taken: &Taken,
    placement: Option<&Placement>,
) -> Option<Amounts> {
    let free = taken.memory_free.get(&node.id)?.0;
    if !host.memory_known || node.memory == KiB(0) {
        return None;
    }
    let small = placement.filter(|placement| placement.page_kib.is_none());
    Some(Amounts::new(own(node, small), free, node.small_memory().0))
}

/// Returns the amounts of a node's pool of one page size; `None` where it has none.
pub(crate) fn of_pool(
    node: &Node,
    size: KiB,
    taken: &Taken,
    placement: Option<&Placement>,
) -> Option<Amounts> {
    let pool = node.pools.iter().find(|pool| pool.size == size)?;
    let total = pool.total.saturating_mul(size.0);
    if total == 0 {
        return None;
    }
    let own = match placement {
        Some(placement) if placement.page_kib == Some(size) => own(node, Some(placement)),
        _ => 0,
    };
    Some(Amounts::new(own, free_pages(node, size, pool.free, taken), total))
}

/// Returns the KiB in free pages of one size, before the plan: by the ledger, otherwise by the
/// kernel's count.
fn free_pages(node: &Node, size: KiB, counted: u64, taken: &Taken) -> u64 {
    let pages = taken.pages_free.get(&(node.id, size)).copied().unwrap_or(counted);
    pages.saturating_mul(size.0)
}

/// Returns the KiB the planned guest takes on a node.
fn own(node: &Node, placement: Option<&Placement>) -> u64 {
    placement.map_or(0, |placement| {
        placement
            .cells
            .iter()
            .filter(|cell| cell.node == Some(node.id))
            .fold(0, |sum, cell| sum.saturating_add(cell.memory_kib.0))
    })
}

/// Draws a bar: `[vvvvvv...###] 3 of 16 GiB free`.
pub(crate) fn bar(amounts: Amounts) -> Line {
    let cells = |kib: u64, up: bool| -> usize {
        let exact = u128::from(kib) * BAR as u128;
        let total = u128::from(amounts.total.max(1));
        let count = if up { exact.div_ceil(total) } else { exact / total };
        // At most BAR, as no part is larger than the total.
        usize::try_from(count).unwrap_or(BAR).min(BAR)
    };
    let own = cells(amounts.own, true);
    let free = cells(amounts.free, false).min(BAR - own);
    // Rounding must not show a taken piece where nothing is taken.
    let free = if amounts.own + amounts.free == amounts.total {
        BAR - own
    } else {
        free
    };
    let mut line = Line::of("[", Paint::Plain);
    line.push("v".repeat(own), Paint::Own)
        .push(".".repeat(free), Paint::Plain)
        .push("#".repeat(BAR - own - free), Paint::Dim)
        .push(
            format!("] {} free", of_total(amounts.free, amounts.total)),
            Paint::Plain,
        );
    line
}

/// Words a part of a total, `3 of 16 GiB`, both in the unit of the total.
pub(crate) fn of_total(part: u64, total: u64) -> String {
    let (unit, name) = unit(total);
    format!("{} of {} {name}", decimal(part, unit), decimal(total, unit))
}

fn unit(kib: u64) -> (u64, &'static str) {
    match kib {
        k if k >= 1 << 30 => (1 << 30, "TiB"),
        k if k >= 1 << 20 => (1 << 20, "GiB"),
        k if k >= 1 << 10 => (1 << 10, "MiB"),
        _ => (1, "KiB"),
    }
}

/// Words an amount, below 100 with one decimal where it is not a whole number. It is rounded down,
/// so that what is shown as free is there.
fn decimal(kib: u64, unit: u64) -> String {
    let tenths = u128::from(kib) * 10 / u128::from(unit);
    match tenths % 10 {
        tenth if tenth > 0 && tenths < 1000 => format!("{}.{tenth}", tenths / 10),
        _ => format!("{}", tenths / 10),
    }
}

/// Words a page size as policies do: `2M`, `1G`.
pub(crate) fn page(size: KiB) -> String {
    match size.0 {
        k if k >= 1 << 20 && k % (1 << 20) == 0 => format!("{}G", k >> 20),
        k if k >= 1 << 10 && k % (1 << 10) == 0 => format!("{}M", k >> 10),
        k => format!("{k}K"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::render::Style;

    #[test]
    fn bars_are_as_long_as_their_parts() {
        let gib = |n: u64| n << 20;
        for (own, available, total, want) in [
            (gib(8), gib(12), gib(12), "[vvvvvvv...] 4 of 12 GiB free"),
            (0, gib(12), gib(12), "[..........] 12 of 12 GiB free"),
            (0, 0, gib(12), "[##########] 0 of 12 GiB free"),
            (1, gib(12) - 1, gib(12), "[v.........] 11.9 of 12 GiB free"),
            (gib(20), gib(12), gib(12), "[vvvvvvvvvv] 0 of 12 GiB free"),
            (
                0,
                u64::MAX,
                u64::MAX,
                "[..........] 17179869183 of 17179869183 TiB free",
            ),
            (0, 0, 0, "[..........] 0 of 0 KiB free"),
        ] {
            let mut out = String::new();
            let style = Style::default();
            bar(Amounts::new(own, available, total)).finish(&style, &mut out);
            assert_eq!(out.trim_end(), want, "{own} {available} {total}");
        }
    }
}
