//! Map as text: blocks of nodes, a legend, the guests, and what is not where it should be.

use std::collections::BTreeSet;

use crate::map::{Cache, Cpu, Map, Node, Picture};
use crate::render::Style;
use crate::render::bands::{Cell, GAP, GUTTER, Row, caches, core_rows, flush};
use crate::render::escape::clean;
use crate::render::layout::{Line, Paint, cut, finish, paragraph, width};
use crate::render::map::signs::{legend, sign};
use crate::render::map::{bars, cpus, is_large, shown, table, verdict};
use crate::types::ids::KiB;
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::plural::counted;

/// Returns the whole text.
pub(crate) fn text(map: &Map, style: &Style) -> String {
    let mut out = Vec::new();
    let after = map.after.as_ref();
    let Some(after) = after else {
        host(map, &map.now, None, style, &mut out);
        rest(&map.now, None, style, &mut out);
        return finish(&out, style);
    };
    // Before and after: two pictures that differ in one guest.
    let name = map.now.guests.get(after.guest).map(|guest| guest.name.as_str());
    let name = clean(name.unwrap_or_default(), style.unicode);
    let heading = |text: &str| format!("{name}, {text}");
    paragraph(&mut out, "", 0, &heading("as it is"), Paint::Strong, style);
    host(map, &map.now, Some(after.guest), style, &mut out);
    rest(&map.now, Some(after.guest), style, &mut out);
    out.push(Line::new());
    let verdict = clean(&heading(&verdict(after)), style.unicode);
    paragraph(&mut out, "", 0, &verdict, Paint::Strong, style);
    for reason in &after.reasons {
        paragraph(
            &mut out,
            "  ",
            4,
            &clean(reason, style.unicode),
            Paint::Plain,
            style,
        );
    }
    if after.then != map.now {
        host(map, &after.then, Some(after.guest), style, &mut out);
        devices(&after.then, style, &mut out);
    }
    finish(&out, style)
}

/// Draws the nodes and the legend of their signs.
fn host(map: &Map, picture: &Picture, planned: Option<usize>, style: &Style, out: &mut Vec<Line>) {
    let large = is_large(picture);
    match large {
        true => compact(picture, style, out),
        false => blocks(picture, style, out),
    }
    // Offline CPUs are in no node, so they get a line of their own.
    if !map.offline.is_empty() {
        let text = format!("CPU {}", map.offline);
        paragraph(out, "  offline ", 10, &text, Paint::Dim, style);
    }
    let isolated: CpuSet = cpus(picture)
        .filter(|cpu| cpu.isolated)
        .map(|cpu| cpu.id)
        .collect();
    if !isolated.is_empty() {
        let text = format!("CPU {isolated}");
        paragraph(out, "  isolated ", 11, &text, Paint::Dim, style);
    }
    // The legend has the signs of this picture alone, in as few lines as possible.
    let named = legend(picture, large);
    let mut entries: Vec<(&str, &str)> = Vec::new();
    entries.extend(
        named
            .iter()
            .map(|(_, sign, words)| (sign.as_str(), words.as_str())),
    );
    if !large && picture.nodes.iter().any(|node| node.caches.len() > 1) {
        entries.push(("|", "between caches or kinds of core"));
    }
    let mut line = Line::of("  ", Paint::Plain);
    for (sign, words) in entries {
        if 3 + width(sign) + width(words) > style.columns() {
            // One that is too long for a line gets its own lines, behind those so far.
            if line.width() > 2 {
                out.push(std::mem::replace(&mut line, Line::of("  ", Paint::Plain)));
            }
            let indent = 3 + width(sign);
            paragraph(out, &format!("  {sign} "), indent, words, Paint::Plain, style);
            continue;
        }
        let columns = width(sign) + 1 + width(words);
        if line.width() > 2 && line.width() + 2 + columns > style.columns() {
            out.push(std::mem::replace(&mut line, Line::of("  ", Paint::Plain)));
        }
        if line.width() > 2 {
            line.push("  ", Paint::Plain);
        }
        line.push(sign, Paint::Strong)
            .push(format!(" {words}"), Paint::Plain);
    }
    if line.width() > 2 {
        out.push(line);
    }
    table::guests(picture, &shown(picture, planned), style, out);
}

/// Draws nodes side by side, a core a column.
fn blocks(picture: &Picture, style: &Style, out: &mut Vec<Line>) {
    let signs = |node: &Node| -> usize {
        let cpus = node.caches.iter().flat_map(|cache| &cache.cores).flatten();
        cpus.map(|cpu| sign(cpu, picture).text.len()).max().unwrap_or(2)
    };
    let cores = |node: &Node| node.caches.iter().map(|cache| cache.cores.len()).sum::<usize>();
    // Every sign and core number of the host takes the width of the widest one, and every node the
    // same rows, so that they match.
    let number = |node: &Node| cores(node).saturating_sub(1).to_string().len();
    let cell = picture.nodes.iter().map(|node| signs(node).max(number(node)));
    let cell = cell.max().unwrap_or(2).max(2);
    let all = picture.nodes.iter().flat_map(|node| &node.caches);
    let threads = all
        .flat_map(|cache| &cache.cores)
        .map(Vec::len)
        .max()
        .unwrap_or(0);
    let pages: BTreeSet<Option<KiB>> = picture
        .nodes
        .iter()
        .flat_map(|node| node.memory.iter().map(|pool| pool.page_kib))
        .collect();
    let mut band: Vec<Vec<Row>> = Vec::new();
    let mut filled = GUTTER;
    for node in &picture.nodes {
        let block = block(node, picture, &pages, (threads, cell), style);
        let columns = block.iter().map(|(_, line)| line.width()).max().unwrap_or(0);
        let same_rows = band.first().is_none_or(|first| first.len() == block.len());
        if !band.is_empty() && (!same_rows || filled + GAP + columns > style.columns()) {
            flush(&mut band, out);
            filled = GUTTER;
        }
        filled += columns + if band.is_empty() { 0 } else { GAP };
        band.push(block);
    }
    flush(&mut band, out);
}

/// Draws the lines of a node: title, cores, bars.
fn block(
    node: &Node,
    picture: &Picture,
    pages: &BTreeSet<Option<KiB>>,
    (threads, cell): (usize, usize),
    style: &Style,
) -> Vec<Row> {
    let mut title = Line::of(format!("node {}", node.id), Paint::Strong);
    title.push(cache_words(&node.caches), Paint::Dim);
    let mut rows = vec![(String::new(), title)];
    let groups = node.caches.iter().map(|cache| {
        let cores = cache.cores.iter().map(|core| {
            let cpus = core.iter().map(|cpu| {
                let sign = sign(cpu, picture);
                Cell {
                    cpu: cpu.id,
                    text: sign.text,
                    paint: sign.paint,
                }
            });
            cpus.collect()
        });
        cores.collect()
    });
    rows.extend(core_rows(groups.collect(), threads, cell, style));
    for page in pages {
        let pool = node.memory.iter().find(|pool| pool.page_kib == *page);
        let label = bars::label(*page);
        rows.push((
            label,
            pool.map(|pool| bars::bar(pool, picture)).unwrap_or_default(),
        ));
    }
    rows
}

/// Words the caches of a node, behind two blanks; empty where cores share none.
fn cache_words(all: &[Cache]) -> String {
    let mut ids = BTreeSet::new();
    let distinct = all.iter().filter(|cache| ids.insert(cache.id));
    let distinct: Vec<(u32, KiB)> = distinct.map(|cache| (cache.level, cache.size_kib)).collect();
    caches(&distinct).map_or_else(String::new, |words| format!("  {words}"))
}

/// Draws nodes one below the other, a character a CPU: a line for each thread of the cores, then
/// the memory.
fn compact(picture: &Picture, style: &Style, out: &mut Vec<Line>) {
    let room = style.columns().saturating_sub(GUTTER);
    for node in &picture.nodes {
        let mut label = format!("node {}", node.id);
        for chunk in chunks(&node.caches, room) {
            let threads = chunk
                .iter()
                .flat_map(|group| group.iter())
                .map(Vec::len)
                .max()
                .unwrap_or(0);
            for thread in 0..threads {
                let mut line = Line::of(std::mem::take(&mut label), Paint::Strong);
                line.pad_to(GUTTER);
                for (index, group) in chunk.iter().enumerate() {
                    if index > 0 {
                        line.push(" ", Paint::Plain);
                    }
                    for core in group.iter() {
                        match core.get(thread).map(|cpu| sign(cpu, picture)) {
                            Some(sign) if sign.short == '!' => line.push("!", Paint::Bad),
                            Some(sign) => line.push(sign.short.to_string(), sign.paint),
                            None => line.push(" ", Paint::Plain),
                        };
                    }
                }
                out.push(line);
            }
        }
        // What is left of the node follows on as few lines as possible.
        let mut line = Line::of(label, Paint::Strong);
        line.pad_to(GUTTER);
        let bars = node.memory.iter().map(|pool| {
            let mut piece = Line::of(format!("{} ", bars::label(pool.page_kib)), Paint::Dim);
            piece.append(&bars::bar(pool, picture));
            piece
        });
        let words = Line::of(cache_words(&node.caches).trim_start(), Paint::Dim);
        for piece in bars.chain([words]).filter(|piece| piece.width() > 0) {
            if line.width() > GUTTER && line.width() + 2 + piece.width() > style.columns() {
                out.push(std::mem::take(&mut line));
                line.pad_to(GUTTER);
            }
            if line.width() > GUTTER {
                line.push("  ", Paint::Plain);
            }
            line.append(&piece);
        }
        if line.width() > GUTTER {
            out.push(line);
        }
    }
}

/// Breaks a node's caches into lines of at most `room` characters, a blank between two caches.
fn chunks(all: &[Cache], room: usize) -> Vec<Vec<&[Vec<Cpu>]>> {
    let mut out: Vec<Vec<&[Vec<Cpu>]>> = Vec::new();
    let mut used = 0;
    for cache in all {
        for piece in cache.cores.chunks(room.max(1)) {
            match out.last_mut() {
                Some(line) if used + 1 + piece.len() <= room => {
                    line.push(piece);
                    used += 1 + piece.len();
                }
                _ => {
                    out.push(vec![piece]);
                    used = piece.len();
                }
            }
        }
    }
    out
}

/// Appends devices, threads that are elsewhere, and the number of guests that are not shown.
fn rest(picture: &Picture, planned: Option<usize>, style: &Style, out: &mut Vec<Line>) {
    devices(picture, style, out);
    for guest in &picture.guests {
        for wrong in guest.threads.iter().filter_map(|thread| thread.wrong.as_ref()) {
            let text = clean(&format!("{}: {wrong}", guest.name), style.unicode);
            paragraph(out, "  ! ", 4, &text, Paint::Bad, style);
        }
    }
    let others = picture.guests.len() - shown(picture, planned).len();
    if others > 0 {
        let verbs = match others {
            1 => "is shut off and claims",
            _ => "are shut off and claim",
        };
        let text = format!("{} {verbs} no CPU: virtfit status", counted(others, "more guest"));
        paragraph(out, "  ", 2, &text, Paint::Dim, style);
    }
}

/// Appends the passed-through devices, each with its guest.
fn devices(picture: &Picture, style: &Style, out: &mut Vec<Line>) {
    for node in &picture.nodes {
        for device in &node.devices {
            let Some(guest) = picture.guests.get(device.guest) else {
                continue;
            };
            let (name, owner) = (
                clean(&device.name, style.unicode),
                clean(&guest.name, style.unicode),
            );
            let mut text = format!("{name} on node {}, of {}", node.id, cut(&owner, 24, style));
            let (sign, paint) = match device.elsewhere {
                true => ("!", Paint::Bad),
                false => (" ", Paint::Plain),
            };
            if device.elsewhere {
                let nodes: NodeSet = guest.nodes.iter().copied().collect();
                text.push_str(&format!(", which sits on node {nodes}"));
            }
            paragraph(out, &format!("  {sign} "), 4, &text, paint, style);
        }
    }
}
