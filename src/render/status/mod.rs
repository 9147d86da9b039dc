//! `virtfit status` as a table. Columns are as wide as their contents; the last one wraps.

use crate::render::Style;
use crate::render::escape::clean;
use crate::render::layout::{Line, Paint, cut, finish, paragraph, width, wrap};
use crate::status::{Guest, Node, Note, Status};
use crate::types::ids::KiB;
use crate::types::idset::NodeSet;

/// Widest name that is shown whole.
const NAME: usize = 24;
/// Widest list of CPUs on one line.
const CPUS: usize = 21;
/// Narrowest note that stands beside its row; a narrower one goes below.
const NARROWEST_NOTE: usize = 18;
/// Highest note, in lines, that stands beside its row; a higher one goes below.
const HIGHEST_NOTE: usize = 4;

/// Returns the whole text.
pub(crate) fn text(status: &Status, style: &Style) -> String {
    let mut out = Vec::new();
    for note in &status.notes {
        let paint = if note.wrong { Paint::Bad } else { Paint::Strong };
        let colon = if note.command.is_some() { ":" } else { "" };
        let said = format!("{}{colon}", note.said());
        paragraph(&mut out, "", 0, &clean(&said, style.unicode), paint, style);
        let command = note.command.iter();
        out.extend(command.map(|command| Line::command("  ", command, style)));
    }
    guests(&status.guests, style, &mut out);
    nodes(&status.nodes, style, &mut out);
    finish(&out, style)
}

fn guests(guests: &[Guest], style: &Style, out: &mut Vec<Line>) {
    const TITLES: [&str; 8] = [
        "GUEST", "STATE", "PROFILE", "CPUS", "NODE", "MEMORY", "WAIT", "THREADS",
    ];
    if guests.is_empty() {
        out.push(Line::of("no guest is defined or runs on this host", Paint::Plain));
        return;
    }
    // Columns are as wide as their contents, within limits.
    let rows: Vec<[String; 8]> = guests.iter().map(|guest| cells(guest, style)).collect();
    let mut widths = TITLES.map(width);
    for row in &rows {
        for (most, cell) in widths.iter_mut().zip(row) {
            *most = (*most).max(width(cell));
        }
    }
    widths[3] = widths[3].min(CPUS);
    // On a page that is too narrow for all, lists wrap and words are cut.
    let page = style.columns() + 1;
    for (column, least) in [(3, 9), (0, 8), (2, 8), (1, 8)] {
        let all: usize = widths.iter().map(|columns| columns + 1).sum();
        let spare = widths[column].saturating_sub(least);
        widths[column] -= spare.min(all.saturating_sub(page));
    }
    let note_at: usize = widths.iter().map(|columns| columns + 1).sum();
    let notes: Vec<String> = guests.iter().map(|guest| note(guest, style)).collect();
    let room = style.columns().saturating_sub(note_at);
    let fits = |note: &str| {
        let few = || wrap(note, room).len() <= HIGHEST_NOTE;
        room >= NARROWEST_NOTE && !note.is_empty() && few()
    };
    // A long note goes below its row, where it has the whole width.
    let beside: Vec<bool> = notes.iter().map(|note| fits(note)).collect();
    let mut head = Line::new();
    row(&mut head, &TITLES.map(String::from), &widths, Paint::Strong);
    if beside.contains(&true) {
        head.pad_to(note_at).push("NOTE", Paint::Strong);
    }
    out.push(head);
    for (((guest, cells), note), beside) in guests.iter().zip(&rows).zip(&notes).zip(&beside) {
        let cpus = wrap(&cells[3], widths[3]);
        let lines = match beside {
            false => Vec::new(),
            true => wrap(note, room),
        };
        let bad = guest.is_wrong() || guest.problem.is_some();
        let paint = if bad { Paint::Bad } else { Paint::Plain };
        for index in 0..cpus.len().max(lines.len()).max(1) {
            let mut cells = if index == 0 {
                cells.clone()
            } else {
                Default::default()
            };
            cells[3] = cpus.get(index).cloned().unwrap_or_default();
            for column in [0, 1, 2] {
                cells[column] = cut(&cells[column], widths[column], style);
            }
            let mut line = Line::new();
            row(&mut line, &cells, &widths, Paint::Plain);
            if let Some(piece) = lines.get(index) {
                line.pad_to(note_at).push(piece.clone(), paint);
            }
            out.push(line);
        }
        if !beside && !note.is_empty() {
            paragraph(out, "    ", 4, note, paint, style);
        }
        // Commands come last, each whole, so that it can be pasted.
        let mut commands: Vec<Line> = Vec::new();
        let name = (guest.name.as_str(), Some(guest.uuid.as_str()));
        let all = guest.notes.iter().filter_map(|note| note.command.as_deref());
        for line in all.map(|command| Line::command_for(name, "    ", command, style)) {
            if !commands.contains(&line) {
                commands.push(line);
            }
        }
        out.extend(commands);
    }
}

fn row<const N: usize>(line: &mut Line, cells: &[String; N], widths: &[usize; N], paint: Paint) {
    let mut column = 0;
    for (cell, columns) in cells.iter().zip(widths) {
        line.pad_to(column);
        line.push(cell.clone(), paint);
        column += columns + 1;
    }
}

fn cells(guest: &Guest, style: &Style) -> [String; 8] {
    let name = cut(&clean(&guest.name, style.unicode), NAME, style);
    let runs = !guest.threads.is_empty();
    [
        name,
        clean(&guest.state, style.unicode),
        clean(guest.profile.as_deref().unwrap_or("-"), style.unicode),
        cpus(guest),
        guest.nodes.iter().copied().collect::<NodeSet>().to_string(),
        memory(guest),
        guest
            .wait_percent
            .map_or_else(|| "-".into(), |share| format!("{share:.1}%")),
        match guest.wrong() {
            0 if guest.is_wrong() => "WRONG".into(),
            0 if runs => "ok".into(),
            0 => "-".into(),
            wrong => format!("{wrong} WRONG"),
        },
    ]
}

/// Words the CPUs of a guest: held ones, those its vCPUs float on behind `~`, and the real-time
/// class; in brackets those that the definition of a guest that does not run claims.
fn cpus(guest: &Guest) -> String {
    let mut parts = Vec::new();
    if !guest.held.is_empty() {
        parts.push(guest.held.to_string());
    }
    if !guest.floating.is_empty() {
        parts.push(format!("~{}", guest.floating));
    }
    if !guest.claims.is_empty() {
        parts.push(format!("({})", guest.claims));
    }
    if parts.is_empty() {
        parts.push("-".into());
    }
    parts.extend(guest.realtime.as_ref().map(|class| class.to_uppercase()));
    parts.join(" ")
}

fn memory(guest: &Guest) -> String {
    let amount = size(guest.memory_kib);
    match guest.page_kib {
        Some(page) => format!("{amount} {}", size(page)),
        None => amount,
    }
}

/// Words an amount of memory as `8G`, `512M`, `4K`, in the largest unit that divides it.
fn size(amount: KiB) -> String {
    match amount.0 {
        0 => "-".into(),
        k if k % (1 << 20) == 0 => format!("{}G", k >> 20),
        k if k % (1 << 10) == 0 => format!("{}M", k >> 10),
        k => format!("{k}K"),
    }
}

fn note(guest: &Guest, style: &Style) -> String {
    let (pending, said): (Vec<&Note>, Vec<&Note>) =
        guest.notes.iter().partition(|note| note.code.is_pending());
    let texts =
        |notes: &[&Note]| -> Vec<String> { notes.iter().map(|note| note.said().to_string()).collect() };
    let mut parts = texts(&said);
    if !pending.is_empty() {
        parts.push(format!("pending: {}", texts(&pending).join("; ")));
    }
    clean(&parts.join("; "), style.unicode)
}

fn nodes(nodes: &[Node], style: &Style, out: &mut Vec<Line>) {
    if nodes.is_empty() {
        return;
    }
    let mut sizes: Vec<KiB> = nodes
        .iter()
        .flat_map(|node| node.pages_free.keys().copied())
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    // A column for each page size that at least one node has.
    let mut titles: Vec<String> = ["NODE", "CPUS", "HELD", "FREE (WHOLE CORES)", "MEMORY FREE"]
        .map(String::from)
        .into();
    titles.extend(sizes.iter().map(|page| format!("{} PAGES", size(*page))));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for node in nodes {
        let mut row = vec![
            node.id.to_string(),
            node.cpus.len().to_string(),
            node.held.len().to_string(),
            format!("{} ({})", node.free.len(), node.whole_cores),
            node.memory_free_kib.map_or_else(|| "-".into(), KiB::in_gib),
        ];
        row.extend(sizes.iter().map(|size| {
            node.pages_free
                .get(size)
                .map_or_else(|| "-".into(), u64::to_string)
        }));
        rows.push(row);
    }
    // Each column is as wide as its widest cell; titles wrap where the page is too narrow for that.
    let widths_of = |title: fn(&str) -> usize| -> Vec<usize> {
        let columns = titles.iter().enumerate();
        columns
            .map(|(at, text)| {
                let cells = rows.iter().filter_map(|row| row.get(at));
                cells.map(|cell| width(cell)).fold(title(text), usize::max)
            })
            .collect()
    };
    let mut widths = widths_of(width);
    if widths.iter().map(|columns| columns + 2).sum::<usize>() > style.columns() + 2 {
        widths = widths_of(|title| title.split(' ').map(width).max().unwrap_or(0));
    }
    let titles: Vec<Vec<String>> = titles
        .iter()
        .zip(&widths)
        .map(|(title, columns)| wrap(title, *columns))
        .collect();
    let height = titles.iter().map(Vec::len).max().unwrap_or(0);
    let heads = (0..height).map(|at| {
        let piece = |title: &Vec<String>| title.get(at).cloned().unwrap_or_default();
        (titles.iter().map(piece).collect(), Paint::Strong)
    });
    let heads: Vec<(Vec<String>, Paint)> = heads.collect();
    let rows = rows.into_iter().map(|row| (row, Paint::Plain));
    for (row, paint) in heads.into_iter().chain(rows) {
        let mut line = Line::new();
        let mut column = 0;
        for (cell, columns) in row.iter().zip(&widths) {
            line.pad_to(column);
            line.push(cell.clone(), paint);
            column += columns + 2;
        }
        out.push(line);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
