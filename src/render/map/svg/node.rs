//! Node as a block of the image: its caches with their cores, its memory, its devices.

use std::collections::BTreeSet;

use crate::map::{Cache, Node, Picture, Pool};
use crate::render::Style;
use crate::render::bands::caches;
use crate::render::layout::cut;
use crate::render::map::bars;
use crate::render::map::svg::cell::{Grid, HOUSE, cell, color};
use crate::render::map::svg::shapes::{Font, Piece, flow, width};
use crate::render::memory::{of_total, page};
use crate::types::ids::KiB;
use crate::types::idset::CpuSet;

/// Room between a cache's frame and its cores.
const PAD: usize = 5;
/// Width of a bar of memory.
const BAR: usize = 200;
/// Room between two bars.
const BETWEEN: usize = 16;
/// Room left of a bar, for the page size.
const LABEL: usize = 32;

/// Draws a node, no wider than `most` where that can be.
pub(super) fn node(node: &Node, picture: &Picture, grid: Grid, most: usize) -> Piece {
    let mut out = Piece::default();
    let title = title(node);
    out.text((0, 13), &title, Font::bold(13));
    let bars: Vec<Piece> = node.memory.iter().map(|pool| bar(pool, picture)).collect();
    // On a large host bars stand beside the title, so that it still fits a screen.
    let beside = width(&title, 13) + 24;
    let wide: usize = bars.iter().map(|bar| bar.width + BETWEEN).sum();
    let bars_beside = grid.short && beside + wide <= most + BETWEEN;
    if bars_beside {
        out.put(beside, 2, &flow(&bars, most, (BETWEEN, 3)));
    }
    // Cores are numbered over the whole node, as in the text.
    let mut first = 0;
    let mut boxes = Vec::new();
    for cache in &node.caches {
        boxes.push(frame(cache, node, first, picture, grid, most));
        first += cache.cores.len();
    }
    let gap = gap(grid);
    out.put(0, 20, &flow(&boxes, even(&boxes, most, gap), (gap, gap)));
    if !bars_beside {
        let height = out.height;
        out.put(0, height + 6, &flow(&bars, most, (BETWEEN, 3)));
    }
    // Devices come last, as most nodes have none.
    for device in &node.devices {
        let Some(guest) = picture.guests.get(device.guest) else {
            continue;
        };
        let height = out.height;
        let (mark, more) = match device.elsewhere {
            true => ("! ", ", which sits elsewhere"),
            false => ("", ""),
        };
        let font = Font {
            bold: device.elsewhere,
            ..Font::of(11)
        };
        let name = super::short(&guest.name);
        let text = format!("{mark}{} of {} {name}{more}", device.name, guest.letter);
        out.text((0, height + 15), &text, font);
    }
    out.grouped(&format!("class=\"node\" data-node=\"{}\"", node.id), "")
}

/// Returns the width of a node whose cores stand in one row.
pub(super) fn widest(node: &Node, grid: Grid) -> usize {
    let cores = node.caches.iter().map(|cache| cache.cores.len() * grid.step);
    cores.sum::<usize>() + node.caches.len() * (2 * PAD + gap(grid))
}

/// Returns the room between two caches.
fn gap(grid: Grid) -> usize {
    if grid.short { 5 } else { 8 }
}

/// Returns the width at which boxes fill as many rows as they need for `most`, each row as full as
/// the others.
fn even(boxes: &[Piece], most: usize, gap: usize) -> usize {
    let widest = boxes.iter().map(|piece| piece.width).max().unwrap_or(0) + gap;
    let in_row = ((most + gap) / widest.max(1)).max(1);
    let rows = boxes.len().div_ceil(in_row).max(1);
    boxes.len().div_ceil(rows) * widest
}

/// Words a node: `node 0, CPU 0-7,16-23, L3 11 MiB`.
fn title(node: &Node) -> String {
    let mut ids = BTreeSet::new();
    let distinct = node.caches.iter().filter(|cache| ids.insert(cache.id));
    let distinct: Vec<(u32, KiB)> = distinct.map(|cache| (cache.level, cache.size_kib)).collect();
    let caches = caches(&distinct).map(|words| format!(", {words}"));
    let cpus = node.caches.iter().flat_map(|cache| &cache.cores).flatten();
    let cpus = cpus.map(|cpu| cpu.id).collect::<CpuSet>().to_string();
    let cpus = match cpus.as_str() {
        "" => ", no CPUs".to_string(),
        list => format!(", CPU {}", cut(list, 24, &Style::default())),
    };
    format!("node {}{cpus}{}", node.id, caches.unwrap_or_default())
}

/// Draws a cache: a frame around its cores, each a column of its CPUs.
fn frame(cache: &Cache, node: &Node, first: usize, picture: &Picture, grid: Grid, most: usize) -> Piece {
    let threads = cache.cores.iter().map(Vec::len).max().unwrap_or(0);
    let in_row = (most.saturating_sub(2 * PAD) / grid.step).max(1);
    let rows = cache.cores.len().div_ceil(in_row);
    let columns = cache.cores.len().min(in_row);
    let (width, height) = (
        columns * grid.step + 2 * PAD - (grid.step - grid.side),
        rows * threads * grid.step + rows.saturating_sub(1) * PAD + 2 * PAD - (grid.step - grid.side),
    );
    let mut out = Piece::default();
    out.rect(
        (0, 0),
        (width, height),
        "rx=\"4\" fill=\"none\" stroke=\"currentColor\" stroke-opacity=\"0.5\"",
    );
    for (number, core) in cache.cores.iter().enumerate() {
        let place = format!("core {} of node {}", first + number, node.id);
        let x = PAD + number % in_row * grid.step;
        let y = PAD + number / in_row * (threads * grid.step + PAD);
        for (thread, cpu) in core.iter().enumerate() {
            out.put(x, y + thread * grid.step, &cell(cpu, picture, &place, grid));
        }
    }
    let words = match (cache.level, cache.size_kib) {
        (0, _) => "no shared cache".into(),
        (level, KiB(0)) => format!("L{level} cache {}", cache.id),
        (level, size) => format!("L{level} cache {}, {size}", cache.id),
    };
    out.grouped("class=\"cache\"", &words)
}

/// Draws the memory of a node in pages of one size as a bar.
fn bar(pool: &Pool, picture: &Picture) -> Piece {
    let mut out = Piece::default();
    out.text((0, 11), &bars::label(pool.page_kib), Font::of(11));
    let total = u128::from(pool.total_kib.0.max(1));
    // No part is larger than the total, so no width is larger than the bar's.
    let scale = |kib: u128| usize::try_from(kib.min(total) * BAR as u128 / total).unwrap_or(BAR);
    let pages = pool
        .page_kib
        .map_or_else(String::new, |size| format!(" in pages of {size}"));
    // Guests from the left, then what is free, then what is kept.
    let mut sum = 0u128;
    for part in &pool.guests {
        let Some(guest) = picture.guests.get(part.guest) else {
            continue;
        };
        let from = scale(sum);
        sum += u128::from(part.kib.0);
        let room = scale(sum) - from;
        let (fill, ink) = color(guest);
        let mut piece = Piece::default();
        piece.rect((from + LABEL, 1), (room, 12), &format!("fill=\"{fill}\""));
        if room >= 9 {
            let font = Font {
                fill: ink,
                centred: true,
                ..Font::of(10)
            };
            piece.text((from + LABEL + room / 2, 11), &guest.letter, font);
        }
        let title = format!(
            "{}: {}{pages}",
            guest.name,
            of_total(part.kib.0, pool.total_kib.0)
        );
        let attributes = format!(
            "class=\"guest guest-{}\" data-guest=\"{}\"",
            guest.color, part.guest
        );
        out.put(0, 0, &piece.grouped(&attributes, &title));
    }
    let used = scale(sum);
    let free = scale(u128::from(pool.free_kib.0)).min(BAR - used);
    let rest = BAR - used - free;
    if rest > 0 {
        let look = format!("class=\"kept\" fill=\"{}\"", HOUSE.0);
        out.rect((LABEL + used + free, 1), (rest, 12), &look);
    }
    out.rect(
        (LABEL, 1),
        (BAR, 12),
        "fill=\"none\" stroke=\"currentColor\" stroke-opacity=\"0.6\"",
    );
    let words = format!("{} free", of_total(pool.free_kib.0, pool.total_kib.0));
    out.text((LABEL + BAR + 6, 11), &words, Font::of(11));
    // As wide as the longest of such words, so that bars stand below each other.
    out.cover(LABEL + BAR + 6 + width("999.9 of 999.9 GiB free", 11), 15);
    let size = pool.page_kib.map_or_else(|| "small".into(), page);
    out.grouped(&format!("class=\"memory\" data-page=\"{size}\""), "")
}
