//! Table of a map's guests: letter, name, and where each part of it sits.

use crate::map::{Guest, Picture};
use crate::render::Style;
use crate::render::escape::clean;
use crate::render::layout::{Line, Paint, cut, paragraph, width, wrap};
use crate::render::memory::page;
use crate::types::ids::KiB;
use crate::types::idset::{CpuSet, NodeSet};

/// Titles of the columns.
const TITLES: [&str; 8] = [
    "GUEST",
    "STATE",
    "CPUS",
    "EMULATOR",
    "IOTHREADS",
    "NODE",
    "MEMORY",
    "WAIT",
];
/// Most columns of each, and fewest where the page is narrow. Lists wrap, words are cut.
const LIMITS: [(usize, usize); 8] = [
    (24, 8),
    (12, 8),
    (24, 9),
    (12, 8),
    (12, 9),
    (7, 4),
    (12, 6),
    (6, 5),
];
/// Columns left of the table: the letter and the blanks around it.
const INDENT: usize = 4;

/// Appends the table of these guests.
pub(super) fn guests(picture: &Picture, shown: &[usize], style: &Style, out: &mut Vec<Line>) {
    let guests: Vec<&Guest> = shown.iter().filter_map(|at| picture.guests.get(*at)).collect();
    if guests.is_empty() {
        return;
    }
    let rows: Vec<[String; 8]> = guests.iter().map(|guest| cells(guest, style)).collect();
    let widths = widths(&rows, style);
    if INDENT + widths.iter().map(|columns| columns + 1).sum::<usize>() > style.columns() + 1 {
        return sentences(&guests, style, out);
    }
    // Titles first, then each guest with its letter before its first line.
    let mut head = Line::new();
    put(&mut head, TITLES.map(String::from), &widths, Paint::Strong);
    out.push(head);
    for (guest, cells) in guests.iter().zip(rows) {
        let columns: Vec<Vec<String>> = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0 | 1 => vec![cut(cell, *width, style)],
                _ => wrap(cell, *width),
            })
            .collect();
        let height = columns.iter().map(Vec::len).max().unwrap_or(1);
        for row in 0..height {
            let mut line = Line::new();
            if row == 0 {
                line.push("  ", Paint::Plain)
                    .push(guest.letter.clone(), Paint::Guest(guest.color));
            }
            let mut at = columns.iter();
            let cells: [String; 8] = std::array::from_fn(|_| {
                at.next()
                    .and_then(|lines| lines.get(row))
                    .cloned()
                    .unwrap_or_default()
            });
            put(&mut line, cells, &widths, Paint::Plain);
            out.push(line);
        }
    }
}

/// Appends guests as sentences, for a page that is too narrow for a table.
fn sentences(guests: &[&Guest], style: &Style, out: &mut Vec<Line>) {
    for guest in guests {
        let first = format!("  {} ", guest.letter);
        let text = clean(
            &format!("{}, {}: {}", guest.name, guest.state, sentence(guest)),
            style.unicode,
        );
        paragraph(out, &first, INDENT, &text, Paint::Plain, style);
    }
}

fn put(line: &mut Line, cells: [String; 8], widths: &[usize; 8], paint: Paint) {
    let mut column = INDENT;
    for (cell, columns) in cells.into_iter().zip(widths) {
        line.pad_to(column).push(cell, paint);
        column += columns + 1;
    }
}

/// Returns columns as wide as their contents, within limits; on a page that is too narrow, lists
/// and names get less.
fn widths(rows: &[[String; 8]], style: &Style) -> [usize; 8] {
    let mut widths = TITLES.map(width);
    for row in rows {
        for ((most, cell), (limit, _)) in widths.iter_mut().zip(row).zip(LIMITS) {
            *most = (*most).max(width(cell).min(limit));
        }
    }
    for column in [2, 0, 4, 3, 6, 1] {
        let all: usize = INDENT + widths.iter().map(|columns| columns + 1).sum::<usize>();
        let (_, least) = LIMITS[column];
        let spare = widths[column].saturating_sub(least);
        widths[column] -= spare.min(all.saturating_sub(style.columns() + 1));
    }
    widths
}

fn cells(guest: &Guest, style: &Style) -> [String; 8] {
    [
        clean(&guest.name, style.unicode),
        clean(&guest.state, style.unicode),
        cpus(guest),
        threads(guest, "emulator"),
        threads(guest, "iothread"),
        guest.nodes.iter().copied().collect::<NodeSet>().to_string(),
        memory(guest),
        guest
            .wait_percent
            .map_or_else(|| "-".into(), |share| format!("{share:.1}%")),
    ]
}

/// Words where a guest sits: `CPUs 9-10,25-26; emulator 8,24; node 1; 4G 2M; waits 0.0%`.
pub(super) fn sentence(guest: &Guest) -> String {
    let [_, _, cpus, emulator, iothreads, nodes, memory, wait] = cells(guest, &Style::default());
    let parts = [
        ("CPUs ", cpus),
        ("emulator ", emulator),
        ("iothreads ", iothreads),
        ("node ", nodes),
        ("", memory),
        ("waits ", wait),
    ];
    let known = parts
        .iter()
        .filter(|(_, text)| !matches!(text.as_str(), "" | "-"));
    let known: Vec<String> = known.map(|(what, text)| format!("{what}{text}")).collect();
    known.join("; ")
}

/// Words the CPUs of a guest: held ones, `~` those its vCPUs float on, in brackets those that its
/// definition claims.
fn cpus(guest: &Guest) -> String {
    let parts = [
        ("", &guest.held, ""),
        ("~", &guest.floating, ""),
        ("(", &guest.claims, ")"),
    ];
    let parts = parts.iter().filter(|(_, cpus, _)| !cpus.is_empty());
    let parts: Vec<String> = parts
        .map(|(before, cpus, after)| format!("{before}{cpus}{after}"))
        .collect();
    or_dash(parts.join(" "))
}

/// Words the CPUs of a guest's threads of one role; `any` where nothing limits one of them.
fn threads(guest: &Guest, role: &str) -> String {
    let mut all = CpuSet::new();
    for thread in guest
        .threads
        .iter()
        .filter(|thread| thread.role.starts_with(role))
    {
        if thread.cpus.is_empty() {
            return "any".into();
        }
        all.extend_from(&thread.cpus);
    }
    or_dash(all.to_string())
}

/// Words the memory of a guest by page size: `8G 1G` is 8 GiB in pages of 1 GiB.
fn memory(guest: &Guest) -> String {
    let mut sums: Vec<(Option<KiB>, u64)> = Vec::new();
    for uses in &guest.memory {
        match sums.iter_mut().find(|(size, _)| *size == uses.page_kib) {
            Some((_, sum)) => *sum = sum.saturating_add(uses.kib.0),
            None => sums.push((uses.page_kib, uses.kib.0)),
        }
    }
    let words = sums.iter().map(|(size, sum)| match size {
        Some(size) => format!("{} {}", page(KiB(*sum)), page(*size)),
        None => page(KiB(*sum)),
    });
    or_dash(words.collect::<Vec<_>>().join(", "))
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}
