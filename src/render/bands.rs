//! Nodes of a host side by side, each a block of lines: cores as columns, SMT siblings as rows.

use std::collections::BTreeSet;

use crate::render::Style;
use crate::render::layout::{Line, Paint, cut};
use crate::types::ids::{HostCpu, KiB};
use crate::types::idset::CpuSet;

/// Columns left of the nodes, for `core`, `mem`, page sizes.
pub(super) const GUTTER: usize = 8;
/// Fewest columns between two nodes.
pub(super) const GAP: usize = 3;
/// Widest list of CPUs at the end of a row.
const RANGE: usize = 12;

/// Line of a node's block: the text in the gutter, and the line.
pub(super) type Row = (String, Line);

/// CPU of a block.
pub(super) struct Cell {
    /// CPU number.
    pub cpu: HostCpu,
    /// Sign of the CPU; may be empty.
    pub text: String,
    /// Look of the sign.
    pub paint: Paint,
}

/// Draws cores in groups, each core a list of its CPUs: a row of core numbers, then a row for each
/// of `threads`; a node with many cores takes several such. Every sign and core number takes `cell`
/// columns.
pub(super) fn core_rows(groups: Vec<Vec<Vec<Cell>>>, threads: usize, cell: usize, style: &Style) -> Vec<Row> {
    let room = style.columns().saturating_sub(GUTTER + 2 + "CPU ".len() + RANGE);
    let mut rows = Vec::new();
    for chunk in chunks(groups, cell, room) {
        let mut head = Line::new();
        let mut lines = vec![Line::new(); threads];
        let mut cpus: Vec<Vec<HostCpu>> = vec![Vec::new(); threads];
        let mut number = chunk.first;
        for (index, group) in chunk.groups.iter().enumerate() {
            for (position, core) in group.iter().enumerate() {
                let separator = match (index, position) {
                    (0, 0) => "",
                    (_, 0) => " | ",
                    _ => " ",
                };
                let blank = " ".repeat(separator.len());
                head.push(blank, Paint::Plain)
                    .push(format!("{number:<cell$}"), Paint::Dim);
                for (thread, line) in lines.iter_mut().enumerate() {
                    let cpu = core.get(thread);
                    line.push(separator, Paint::Dim);
                    match cpu {
                        Some(sign) => line.push(format!("{:<cell$}", sign.text), sign.paint),
                        None => line.push(" ".repeat(cell), Paint::Plain),
                    };
                    if let (Some(cpu), Some(row)) = (cpu, cpus.get_mut(thread)) {
                        row.push(cpu.cpu);
                    }
                }
                number += 1;
            }
        }
        rows.push(("core".to_string(), head));
        for (mut line, cpus) in lines.into_iter().zip(cpus) {
            if !cpus.is_empty() {
                line.push(format!("  CPU {}", cut(&list(&cpus), RANGE, style)), Paint::Dim);
            }
            rows.push((String::new(), line));
        }
    }
    rows
}

/// Part of a node that stands on one line.
struct Chunk<T> {
    /// Number of the chunk's first core in the node.
    first: usize,
    groups: Vec<Vec<T>>,
}

/// Breaks a node's cores into lines of at most `room` columns, between caches where possible.
fn chunks<T>(groups: Vec<Vec<T>>, cell: usize, room: usize) -> Vec<Chunk<T>> {
    let mut out: Vec<Chunk<T>> = Vec::new();
    let mut used = 0;
    let mut number = 0;
    let needs = |count: usize| count * (cell + 1) - 1;
    for group in groups {
        // " | " goes before the group, on a line that has one already.
        let fits = used > 0 && used + 3 + needs(group.len()) <= room;
        if used == 0 || !fits {
            out.push(Chunk {
                first: number,
                groups: vec![Vec::new()],
            });
            used = 0;
        } else if let Some(chunk) = out.last_mut() {
            chunk.groups.push(Vec::new());
            used += 2;
        }
        for core in group {
            let step = if used == 0 { cell } else { cell + 1 };
            if used > 0 && used + step > room {
                out.push(Chunk {
                    first: number,
                    groups: vec![Vec::new()],
                });
                used = cell;
            } else {
                used += step;
            }
            if let Some(last) = out.last_mut().and_then(|chunk| chunk.groups.last_mut()) {
                last.push(core);
            }
            number += 1;
        }
    }
    out
}

/// Words the CPUs of a row: `0-7`, `0-14:2` (taskset's stride), otherwise a cpulist.
fn list(cpus: &[HostCpu]) -> String {
    let steps: BTreeSet<i64> = cpus
        .windows(2)
        .map(|pair| i64::from(pair[1].0) - i64::from(pair[0].0))
        .collect();
    if let (Some(&step), 1, Some(first), Some(last)) = (steps.first(), steps.len(), cpus.first(), cpus.last())
        && step > 1
        && cpus.len() > 2
    {
        return format!("{first}-{last}:{step}");
    }
    cpus.iter().copied().collect::<CpuSet>().to_string()
}

/// Puts blocks side by side.
pub(super) fn flush(band: &mut Vec<Vec<Row>>, out: &mut Vec<Line>) {
    let widths: Vec<usize> = band
        .iter()
        .map(|block| block.iter().map(|(_, line)| line.width()).max().unwrap_or(0))
        .collect();
    let rows = band.iter().map(Vec::len).max().unwrap_or(0);
    for row in 0..rows {
        let mut line = Line::new();
        let mut column = GUTTER;
        for (block, columns) in band.iter().zip(&widths) {
            if let Some((label, piece)) = block.get(row) {
                if line.width() == 0 && !label.is_empty() {
                    line.push(format!("  {label}"), Paint::Dim);
                }
                line.pad_to(column).append(piece);
            }
            column += columns + GAP;
        }
        out.push(line);
    }
    band.clear();
}

/// Words caches, given as level and size: `L3 11 MiB`, `8 x L3 32 MiB`; `None` where there are
/// none, or one has no level.
pub(super) fn caches(all: &[(u32, KiB)]) -> Option<String> {
    let first = all.first()?;
    if all.iter().any(|(level, _)| *level == 0) {
        return None;
    }
    if all.iter().any(|cache| cache != first) {
        return Some(format!("{} last-level caches", all.len()));
    }
    let count = if all.len() > 1 {
        format!("{} x ", all.len())
    } else {
        String::new()
    };
    let size = if first.1 == KiB(0) {
        String::new()
    } else {
        format!(" {}", first.1)
    };
    Some(format!("{count}L{}{size}", first.0))
}
