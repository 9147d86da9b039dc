//! Picture of the host: nodes side by side, cores as columns, SMT siblings as rows, one sign per
//! CPU.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::{Core, Host};
use crate::ledger::Taken;
use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::CpuSet;
use crate::types::plan::Placement;
use crate::types::plural::counted;

use crate::render::Style;
use crate::render::bands;
use crate::render::bands::{Cell, GAP, GUTTER, Row, core_rows, flush};
use crate::render::layout::{Line, Paint, cut, paragraph, width};
use crate::render::legend::Signs;
use crate::render::memory;

/// Largest number of CPUs of a host that is drawn whole; of a larger one only the nodes a plan uses
/// are drawn.
const DRAW_WHOLE: usize = 128;
/// Input of the picture.
pub(crate) struct Scene<'a> {
    pub host: &'a Host,
    pub housekeeping: &'a CpuSet,
    pub taken: &'a Taken,
    pub placement: Option<&'a Placement>,
}

/// Draws the picture with its legend.
pub(crate) fn draw(scene: &Scene<'_>, style: &Style) -> Vec<Line> {
    let signs = Signs::new(scene.host, scene.housekeeping, scene.taken, scene.placement);
    // Cores that share a cache stand together, in the order of their CPUs.
    let mut by_node: BTreeMap<NodeId, Vec<&Core>> = BTreeMap::new();
    for core in &scene.host.cores {
        by_node.entry(core.node).or_default().push(core);
    }
    for cores in by_node.values_mut() {
        cores.sort_by_key(|core| (core.kind, core.llc, core.cpus.first().copied()));
    }
    let (drawn, summed) = choose(scene, &by_node);
    // Nodes stand side by side as long as the page is wide enough and their rows match.
    let mut out = Vec::new();
    let mut band: Vec<Vec<Row>> = Vec::new();
    let mut band_width = GUTTER;
    let shape = Shape::of(scene, &drawn, &by_node);
    let mut separators = false;
    for &node in &drawn {
        let none = Vec::new();
        let cores = by_node.get(&node).unwrap_or(&none);
        separators |= groups(cores).len() > 1;
        let block = block(scene, node, cores, &signs, &shape, style);
        let columns = block.iter().map(|(_, line)| line.width()).max().unwrap_or(0);
        let same_rows = band.first().is_none_or(|first| first.len() == block.len());
        if !band.is_empty() && (!same_rows || band_width + GAP + columns > style.columns()) {
            flush(&mut band, &mut out);
            band_width = GUTTER;
        }
        band_width += columns + if band.is_empty() { 0 } else { GAP };
        band.push(block);
    }
    flush(&mut band, &mut out);
    // Where nothing is planned, the reader looks for how much is free, and where.
    let counted = if scene.placement.is_none() {
        drawn.as_slice()
    } else {
        &[]
    };
    for &node in counted.iter().chain(&summed) {
        let none = Vec::new();
        let cores = by_node.get(&node).unwrap_or(&none);
        let text = summary(scene, node, cores, &signs, style);
        paragraph(
            &mut out,
            &format!("  node {node}"),
            GUTTER + 2,
            &text,
            Paint::Plain,
            style,
        );
    }
    // Offline CPUs are in no node, so they get a line of their own.
    if !scene.host.offline.is_empty() {
        let text = format!("CPU {}", scene.host.offline);
        paragraph(&mut out, "  offline", GUTTER + 2, &text, Paint::Dim, style);
    }
    let drawn_cpus = drawn.iter().any(|node| by_node.contains_key(node));
    if drawn_cpus {
        legend(scene, &signs, separators, style, &mut out);
    }
    out
}

/// Divides the nodes into those that are drawn and those that get one line.
fn choose(scene: &Scene<'_>, by_node: &BTreeMap<NodeId, Vec<&Core>>) -> (Vec<NodeId>, Vec<NodeId>) {
    let mut all: BTreeSet<NodeId> = scene.host.nodes.iter().map(|node| node.id).collect();
    all.extend(by_node.keys().copied());
    let cpus: usize = scene.host.cores.iter().map(|core| core.cpus.len()).sum();
    let mut used: BTreeSet<NodeId> = BTreeSet::new();
    if let Some(placement) = scene.placement {
        used.extend(placement.nodes.iter().copied());
        used.extend(placement.cells.iter().filter_map(|cell| cell.node));
    }
    all.into_iter()
        .partition(|node| by_node.contains_key(node) && (cpus <= DRAW_WHOLE || used.contains(node)))
}

/// Rows that all drawn nodes' blocks have in common, so that they stand side by side.
struct Shape {
    /// Threads of the core that has most.
    threads: usize,
    /// Page sizes of which at least one node has a pool.
    pages: Vec<KiB>,
    /// The memory of at least one node is known.
    memory: bool,
}

impl Shape {
    fn of(scene: &Scene<'_>, drawn: &[NodeId], by_node: &BTreeMap<NodeId, Vec<&Core>>) -> Self {
        let nodes = || drawn.iter().filter_map(|id| scene.host.node(*id));
        let cores = drawn.iter().filter_map(|id| by_node.get(id)).flatten();
        let pages: BTreeSet<KiB> = nodes()
            .flat_map(|node| {
                node.pools
                    .iter()
                    .filter(|pool| pool.total > 0)
                    .map(|pool| pool.size)
            })
            .collect();
        Self {
            threads: cores.map(|core| core.cpus.len()).max().unwrap_or(0),
            pages: pages.into_iter().collect(),
            memory: nodes()
                .any(|node| memory::of_node(scene.host, node, scene.taken, scene.placement).is_some()),
        }
    }
}

/// Draws the lines of a node.
fn block(
    scene: &Scene<'_>,
    id: NodeId,
    cores: &[&Core],
    signs: &Signs,
    shape: &Shape,
    style: &Style,
) -> Vec<Row> {
    // Every sign and core number takes the width of the widest one.
    let cell = signs.columns.max(cores.len().saturating_sub(1).to_string().len());
    let mut rows = vec![(String::new(), title(scene.host, id, cores))];
    let sign = |cpu: &HostCpu| {
        let sign = signs.get(*cpu);
        Cell {
            cpu: *cpu,
            text: sign.map(|sign| sign.text.clone()).unwrap_or_default(),
            paint: sign.map_or(Paint::Plain, |sign| sign.paint),
        }
    };
    let groups = groups(cores).into_iter().map(|group| {
        let cores = group.iter().map(|core| core.cpus.iter().map(sign).collect());
        cores.collect()
    });
    rows.extend(core_rows(groups.collect(), shape.threads, cell, style));
    // Bars stand below the cores, also empty ones, so that rows of nodes side by side match.
    let node = scene.host.node(id);
    let mut bar = |label: String, amounts: Option<memory::Amounts>| {
        rows.push((label, amounts.map(memory::bar).unwrap_or_default()));
    };
    if shape.memory {
        let amounts = node.and_then(|node| memory::of_node(scene.host, node, scene.taken, scene.placement));
        bar("mem".to_string(), amounts);
    }
    for &size in &shape.pages {
        let amounts = node.and_then(|node| memory::of_pool(node, size, scene.taken, scene.placement));
        bar(memory::page(size), amounts);
    }
    rows
}

/// Draws the title of a node: `node 0  L3 11 MiB`.
fn title(host: &Host, id: NodeId, cores: &[&Core]) -> Line {
    let mut line = Line::of(format!("node {id}"), Paint::Strong);
    if let Some(text) = caches(host, cores) {
        line.push(format!("  {text}"), Paint::Dim);
    }
    line
}

/// Words the last-level caches of some cores: `L3 11 MiB`, `8 x L3 32 MiB`.
fn caches(host: &Host, cores: &[&Core]) -> Option<String> {
    let ids: BTreeSet<usize> = cores.iter().map(|core| core.llc).collect();
    let llcs = ids.iter().filter_map(|id| host.llcs.get(*id));
    let llcs: Vec<(u32, KiB)> = llcs.map(|llc| (llc.level, llc.size)).collect();
    bands::caches(&llcs)
}

/// Groups the cores that share a last-level cache and a kind, in order. Cores without a known cache
/// count as sharing one.
fn groups<'a>(cores: &[&'a Core]) -> Vec<Vec<&'a Core>> {
    let mut out: Vec<Vec<&Core>> = Vec::new();
    for &core in cores {
        match out.last_mut() {
            Some(group)
                if group
                    .last()
                    .is_some_and(|last| (last.llc, last.kind) == (core.llc, core.kind)) =>
            {
                group.push(core);
            }
            _ => out.push(vec![core]),
        }
    }
    out
}

/// Words a node that is not drawn in one line: `32 CPUs: 20 free (10 whole cores), 2 housekeeping,
/// db 8; 12 of 64 GiB free`.
fn summary(scene: &Scene<'_>, id: NodeId, cores: &[&Core], signs: &Signs, style: &Style) -> String {
    let mut parts = Vec::new();
    let cpus: Vec<HostCpu> = cores.iter().flat_map(|core| core.cpus.iter().copied()).collect();
    if cpus.is_empty() {
        parts.push("no CPUs".to_string());
    } else {
        // The picture's own signs say what is free, so that line and picture agree.
        let free = |cpu: &HostCpu| {
            signs
                .get(*cpu)
                .is_some_and(|sign| matches!(sign.text.as_str(), ".." | "::"))
        };
        let whole = cores.iter().filter(|core| core.cpus.iter().all(free)).count();
        let count = cpus.iter().filter(|cpu| free(cpu)).count();
        let mut pieces = vec![format!("{count} free ({})", counted(whole, "whole core"))];
        let housekeeping = cpus
            .iter()
            .filter(|cpu| scene.housekeeping.contains(**cpu))
            .count();
        if housekeeping > 0 {
            pieces.push(format!("{housekeeping} housekeeping"));
        }
        let mut held: BTreeMap<&str, usize> = BTreeMap::new();
        for name in cpus.iter().filter_map(|cpu| scene.taken.cpus.get(cpu)) {
            *held.entry(name).or_default() += 1;
        }
        pieces.extend(
            held.iter().map(|(name, count)| {
                format!("{} {count}", crate::render::escape::clean(name, style.unicode))
            }),
        );
        parts.push(format!("{}: {}", counted(cpus.len(), "CPU"), pieces.join(", ")));
    }
    // Memory and huge pages follow where they are known.
    if let Some(node) = scene.host.node(id) {
        if let Some(amounts) = memory::of_node(scene.host, node, scene.taken, scene.placement) {
            parts.push(format!("{} free", memory::of_total(amounts.free, amounts.total)));
        }
        for pool in &node.pools {
            if let Some(amounts) = memory::of_pool(node, pool.size, scene.taken, scene.placement) {
                let free = memory::of_total(amounts.free, amounts.total);
                parts.push(format!("{} pages: {free} free", memory::page(pool.size)));
            }
        }
    }
    parts.join("; ")
}

/// Draws the meaning of the signs, in as few lines as possible.
fn legend(scene: &Scene<'_>, signs: &Signs, separators: bool, style: &Style, out: &mut Vec<Line>) {
    let mut entries = signs.legend();
    if separators {
        let kinds = scene.host.cores.iter().any(|core| core.kind > 0);
        let text = if kinds {
            "between caches or kinds of core"
        } else {
            "between last-level caches"
        };
        entries.push(("|".to_string(), text.to_string()));
    }
    let mut line = Line::of("  ", Paint::Plain);
    for (sign, meaning) in entries {
        let meaning = cut(&crate::render::escape::clean(&meaning, style.unicode), 40, style);
        let columns = width(&sign) + 1 + width(&meaning);
        if line.width() > 2 && line.width() + 2 + columns > style.columns() {
            out.push(std::mem::replace(&mut line, Line::of("  ", Paint::Plain)));
        }
        if line.width() > 2 {
            line.push("  ", Paint::Plain);
        }
        line.push(sign, Paint::Strong)
            .push(format!(" {meaning}"), Paint::Plain);
    }
    out.push(line);
}
