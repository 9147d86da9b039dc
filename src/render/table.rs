//! Tables of changes: label, was, becomes, why. Cells wrap inside their columns.

use crate::render::Style;
use crate::render::escape::clean;
use crate::render::layout::{Line, Paint, paragraph, width, wrap};
use crate::render::rows::Row;
use crate::types::plan::Note;

/// Columns between two cells.
const GAP: usize = 2;
/// Column at which rows begin.
const INDENT: usize = 4;
/// Narrowest last column that is not moved below its row.
const NARROWEST_WHY: usize = 16;
/// Width below which a page gives `was` less room.
const NARROW: usize = 60;

/// Widths of the columns, shared by several tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Widths {
    label: usize,
    was: usize,
    becomes: usize,
    why: usize,
}

impl Widths {
    /// Measures the widths for these rows and titles.
    pub(crate) fn of(rows: &[&Row], titles: &[&str], style: &Style) -> Self {
        let page = style.columns().saturating_sub(INDENT);
        let widest = |pick: fn(&Row) -> &str, least: usize, most: usize| {
            let found = rows
                .iter()
                .map(|row| width(&clean(pick(row), style.unicode)))
                .max()
                .unwrap_or(0);
            found.max(least).min(most)
        };
        // A title starts two columns left of its rows.
        let title = titles
            .iter()
            .map(|title| width(title))
            .max()
            .unwrap_or(0)
            .saturating_sub(2);
        let longest = |pick: fn(&Row) -> &str| {
            let words = |row: &&Row| clean(pick(row), style.unicode);
            let words = rows.iter().map(words);
            let words = words.map(|text| text.split([' ', ',', '/']).map(width).max().unwrap_or(0));
            words.max().unwrap_or(0)
        };
        let narrow = page < NARROW;
        let label = widest(|row| &row.label, title, page * 2 / 5);
        let mut was = widest(
            |row| &row.was,
            "was".len(),
            if narrow { page / 6 } else { page / 5 },
        );
        let mut becomes = widest(|row| &row.becomes, "becomes".len(), page * 3 / 10);
        // A word is broken only where the page has no room for it, beside the reasons or, where
        // these go below their rows, alone.
        let left = page.saturating_sub(label + was + becomes + 2 * GAP);
        let mut room = left.checked_sub(NARROWEST_WHY + GAP).unwrap_or(left);
        for (column, longest) in [
            (&mut was, longest(|row| &row.was)),
            (&mut becomes, longest(|row| &row.becomes)),
        ] {
            let wider = longest.saturating_sub(*column).min(room);
            *column += wider;
            room -= wider;
        }
        let used = label + was + becomes + 3 * GAP;
        Self {
            label,
            was,
            becomes,
            why: page.saturating_sub(used),
        }
    }
}

/// Draws a table with a title.
pub(crate) fn draw(title: &str, rows: &[Row], widths: Widths, style: &Style, out: &mut Vec<Line>) {
    if rows.is_empty() {
        return;
    }
    let mut head = Line::of(format!("  {title}"), Paint::Strong);
    let column = INDENT + widths.label + GAP;
    if head.width() < column {
        head.pad_to(column).push("was", Paint::Dim);
        head.pad_to(column + widths.was + GAP).push("becomes", Paint::Dim);
    }
    out.push(head);
    for row in rows {
        draw_row(row, widths, style, out);
    }
}

fn draw_row(row: &Row, widths: Widths, style: &Style, out: &mut Vec<Line>) {
    let below = widths.why < NARROWEST_WHY;
    let why = clean(&row.why, style.unicode);
    let mut cells = vec![
        (widths.label, clean(&row.label, style.unicode), Paint::Plain),
        (widths.was, clean(&row.was, style.unicode), Paint::Dim),
        (widths.becomes, clean(&row.becomes, style.unicode), Paint::Own),
    ];
    if !below {
        cells.push((widths.why, why.clone(), Paint::Plain));
    }
    let wrapped: Vec<Vec<String>> = cells
        .iter()
        .map(|(columns, text, _)| wrap(text, *columns))
        .collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    for index in 0..height {
        let mut line = Line::new();
        let mut column = INDENT;
        for ((columns, _, paint), pieces) in cells.iter().zip(&wrapped) {
            line.pad_to(column);
            if let Some(piece) = pieces.get(index) {
                line.push(piece.clone(), *paint);
            }
            column += columns + GAP;
        }
        out.push(line);
    }
    if below && !why.is_empty() {
        paragraph(out, "", INDENT + 2, &why, Paint::Plain, style);
    }
    if let Some(consequence) = row.consequence {
        let arrow = style.arrow();
        let first = format!("{}{arrow} ", " ".repeat(INDENT + 2));
        paragraph(out, &first, width(&first), consequence, Paint::Strong, style);
    }
}

/// Draws a list of notes with a word in the margin.
pub(crate) fn notes<'a>(
    word: &str,
    notes: impl IntoIterator<Item = &'a Note>,
    style: &Style,
    out: &mut Vec<Line>,
) {
    const MARGIN: usize = 12;
    let words = |text: &dyn ToString| clean(&text.to_string(), style.unicode);
    let pairs: Vec<(String, String, Option<String>)> = notes
        .into_iter()
        .map(|note| (words(&note.what), words(&note.why.said()), note.why.command()))
        .collect();
    let room = style.columns().saturating_sub(MARGIN);
    let column = pairs
        .iter()
        .map(|(what, ..)| width(what))
        .max()
        .unwrap_or(0)
        .min(room * 2 / 5);
    for (index, (what, why, command)) in pairs.iter().enumerate() {
        let what = wrap(what, column);
        let why = wrap(why, room.saturating_sub(column + GAP));
        for at in 0..what.len().max(why.len()) {
            let mut line = Line::new();
            if index == 0 && at == 0 {
                line.push(format!("  {word}"), Paint::Strong);
            }
            line.pad_to(MARGIN);
            if let Some(piece) = what.get(at) {
                line.push(piece.clone(), Paint::Plain);
            }
            line.pad_to(MARGIN + column + GAP);
            if let Some(piece) = why.get(at) {
                line.push(piece.clone(), Paint::Plain);
            }
            out.push(line);
        }
        let indent = " ".repeat(MARGIN + GAP);
        out.extend(
            command
                .iter()
                .map(|command| Line::command(&indent, command, style)),
        );
    }
}
