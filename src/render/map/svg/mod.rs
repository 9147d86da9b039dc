//! Map as an SVG: for browsers, and for Cockpit's page, which may bring its own colours.
//!
//! There is no script, no `style=` and no `<style>`. All that is drawn on the page itself is in the
//! image's `color`, a grey that reads on white and on black; an attribute gives way to any rule of
//! the page's stylesheet, so `.virtfit-map { color: … }` changes it. Cells of guests bring their
//! own ground and ink. The same map gives the same bytes.

mod cell;
mod node;
mod shapes;

use crate::map::{Map, Picture};
use crate::render::Style;
use crate::render::layout::cut;
use crate::render::map::signs;
use crate::render::map::{cpus, is_large, shown, table, verdict};
use cell::{Grid, color, sample};
use shapes::{Font, Piece, flow};

/// Width of the image, where nothing needs more.
const WIDTH: usize = 960;
/// Room between two nodes.
const BESIDE: usize = 24;
/// Room around all.
const MARGIN: usize = 12;
/// Grey with a contrast of 4.3 : 1 to white and to #151515, the ground of dark pages.
const GREY: &str = "#7a7a7a";

/// Returns the whole image.
pub(crate) fn svg(map: &Map) -> String {
    let mut out = Piece::default();
    let planned = map.after.as_ref().map(|after| after.guest);
    let name = planned
        .and_then(|at| map.now.guests.get(at))
        .map(|guest| short(&guest.name));
    let mut put = |piece: &Piece, above: usize| {
        let y = if out.height == 0 {
            MARGIN
        } else {
            out.height + above
        };
        out.put(MARGIN, y, piece);
    };
    let heading = |text: String| {
        let mut piece = Piece::default();
        piece.text((0, 15), &text, Font::bold(15));
        piece
    };
    // Before and after: two pictures that differ in one guest.
    if let Some(name) = &name {
        put(&heading(format!("{name}, as it is")), 0);
    }
    put(&picture(map, &map.now, planned), 10);
    if let (Some(after), Some(name)) = (&map.after, &name) {
        put(&heading(format!("{name}, {}", verdict(after))), 24);
        for reason in &after.reasons {
            let mut piece = Piece::default();
            piece.text((0, 12), &cut(reason, 130, &Style::default()), Font::of(11));
            put(&piece, 2);
        }
        if after.then != map.now {
            put(&picture(map, &after.then, planned), 10);
        }
    }
    let (width, height) = ((out.width + MARGIN).max(WIDTH / 2), out.height + MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"virtfit-map\" role=\"img\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" color=\"{GREY}\" font-family=\"monospace\">\n<title>virtfit map</title>\n{}</svg>\n",
        out.body
    )
}

/// Draws nodes, legend, guests, and what is wrong.
fn picture(map: &Map, picture: &Picture, planned: Option<usize>) -> Piece {
    let grid = Grid::of(is_large(picture));
    // Two nodes in a row; on a large host only where that breaks no node's row of cores.
    let half = WIDTH / 2 - BESIDE / 2;
    let fits = || !grid.short || picture.nodes.iter().all(|it| node::widest(it, grid) <= half);
    let most = match picture.nodes.len() > 1 && fits() {
        true => half,
        false => WIDTH,
    };
    let nodes: Vec<Piece> = picture
        .nodes
        .iter()
        .map(|node| node::node(node, picture, grid, most))
        .collect();
    let mut out = Piece::default();
    out.put(
        0,
        0,
        &flow(&nodes, WIDTH, (BESIDE, if grid.short { 10 } else { 16 })),
    );
    // Offline CPUs are in no node, so they get a line of their own.
    let isolated = cpus(picture).filter(|cpu| cpu.isolated).map(|cpu| cpu.id);
    for (what, cpus) in [("offline", map.offline.clone()), ("isolated", isolated.collect())] {
        if !cpus.is_empty() {
            let height = out.height;
            let text = format!("{what}: CPU {}", cut(&cpus.to_string(), 120, &Style::default()));
            out.text((0, height + 18), &text, Font::of(11));
        }
    }
    let height = out.height;
    out.put(0, height + 14, &legend(picture, grid));
    // Letters mean nothing without the guests, nor does a mark without its thread.
    let guests: Vec<Piece> = shown(picture, planned)
        .iter()
        .map(|at| guest(picture, *at))
        .collect();
    let height = out.height;
    out.put(0, height + 14, &flow(&guests, WIDTH, (20, 8)));
    for guest in &picture.guests {
        for wrong in guest.threads.iter().filter_map(|thread| thread.wrong.as_ref()) {
            let height = out.height;
            let text = format!("! {}: {}", short(&guest.name), cut(wrong, 100, &Style::default()));
            out.text((0, height + 18), &text, Font::bold(11));
        }
    }
    out
}

/// Draws the signs that are used, each with its meaning.
fn legend(picture: &Picture, grid: Grid) -> Piece {
    let entries = signs::legend(picture, grid.short)
        .into_iter()
        .map(|(meaning, sign, words)| {
            let mut piece = Piece::default();
            piece.put(0, 0, &sample(meaning, &sign));
            piece.text((32, 14), &words, Font::of(11));
            piece
        });
    let entries: Vec<Piece> = entries.collect();
    flow(&entries, WIDTH, (18, 6)).grouped("class=\"legend\"", "")
}

/// Draws a guest: its letter on its colour, its name, and where it sits.
fn guest(picture: &Picture, at: usize) -> Piece {
    let mut out = Piece::default();
    let Some(guest) = picture.guests.get(at) else {
        return out;
    };
    let (fill, ink) = color(guest);
    out.rect((0, 0), (22, 30), &format!("rx=\"2\" fill=\"{fill}\""));
    let font = Font {
        fill: ink,
        centred: true,
        ..Font::bold(14)
    };
    out.text((11, 20), &guest.letter, font);
    let name = short(&guest.name);
    out.text((30, 12), &format!("{name}  {}", guest.state), Font::bold(12));
    out.text(
        (30, 27),
        &cut(&table::sentence(guest), 62, &Style::default()),
        Font::of(11),
    );
    // Two in a row, as wide as each other.
    out.cover(WIDTH / 2 - 20, 30);
    let attributes = format!("class=\"guest guest-{}\" data-guest=\"{at}\"", guest.color);
    out.grouped(
        &attributes,
        &format!("{}: {}", guest.name, table::sentence(guest)),
    )
}

/// Cuts a name to what has room.
fn short(name: &str) -> String {
    let unicode = Style {
        unicode: true,
        ..Style::default()
    };
    cut(&crate::render::escape::clean(name, true), 32, &unicode)
}
