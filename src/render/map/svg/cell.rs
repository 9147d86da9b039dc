//! CPU as a cell of the image: its sign on its guest's colour, and in words as its title.

use crate::map::{Cpu, Guest, Picture, Role};
use crate::render::map::signs::{Meaning, Sign, is_wrong, sign};
use crate::render::map::svg::shapes::{Font, PAGE, Piece};

/// Colours of guests, and the ink that reads on each: those that colour-blind people tell apart
/// (Okabe and Ito, "Color Universal Design", 2008). A cell brings its own ground, so they read on a
/// light and a dark page.
const GUESTS: [(&str, &str); 7] = [
    ("#e69f00", "#000000"),
    ("#56b4e9", "#000000"),
    ("#009e73", "#000000"),
    ("#f0e442", "#000000"),
    ("#0072b2", "#ffffff"),
    ("#d55e00", "#000000"),
    ("#cc79a7", "#000000"),
];
/// Ground of housekeeping CPUs and of memory that is not to be given out, and its ink.
pub(super) const HOUSE: (&str, &str) = ("#6e6e6e", "#ffffff");
/// Colour of a guest in the legend, and its ink.
const ANY: (&str, &str) = ("#b0b0b0", "#000000");

/// Sizes of cells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// Side of a cell.
    pub side: usize,
    /// Distance between corners of neighbours.
    pub step: usize,
    /// Size of signs.
    pub font: usize,
    /// Signs have one character.
    pub short: bool,
}

impl Grid {
    /// Returns the sizes for a host that is large or not.
    pub(super) fn of(large: bool) -> Self {
        match large {
            true => Self {
                side: 12,
                step: 13,
                font: 10,
                short: true,
            },
            false => Self {
                side: 27,
                step: 29,
                font: 11,
                short: false,
            },
        }
    }
}

/// Returns a guest's colour and its ink.
pub(super) fn color(guest: &Guest) -> (&'static str, &'static str) {
    GUESTS[guest.color % GUESTS.len()]
}

/// Draws a CPU; `place` says where it is, for the title.
pub(super) fn cell(cpu: &Cpu, picture: &Picture, place: &str, grid: Grid) -> Piece {
    // The guest whose colour the cell has: its holder, else the only one that floats here.
    let sign = sign(cpu, picture);
    let owner = cpu.guests.first().or_else(|| match cpu.floating.as_slice() {
        [one] => Some(one),
        [] => cpu.claimed_by.first(),
        _ => None,
    });
    let guest = owner.and_then(|at| picture.guests.get(*at));
    let ground = sign.meanings.first().copied().unwrap_or(Meaning::Free);
    let (look, ink) = look(ground, guest.map(color));
    let mut out = Piece::default();
    out.rect((0, 0), (grid.side, grid.side), &look);
    if is_wrong(cpu) {
        // A second frame, so that it is seen without reading the sign.
        let inner = format!("rx=\"1\" fill=\"none\" stroke=\"{ink}\" stroke-width=\"2\"");
        out.rect((1, 1), (grid.side - 2, grid.side - 2), &inner);
    }
    out.put(0, 0, &sign_text(&sign, ink, grid));
    // Classes are for the page's stylesheet, the title for the pointer.
    let role = serde_json::to_string(&cpu.role).unwrap_or_default();
    let mut class = format!("cpu {}", role.trim_matches('"'));
    if let Some(guest) = guest {
        class.push_str(&format!(" guest guest-{}", guest.color));
    }
    if is_wrong(cpu) {
        class.push_str(" wrong");
    }
    let data = owner.map_or_else(String::new, |at| format!(" data-guest=\"{at}\""));
    let attributes = format!("class=\"{class}\" data-cpu=\"{}\"{data}", cpu.id);
    out.grouped(&attributes, &title(cpu, picture, place))
}

/// Draws the sample of a meaning for the legend.
pub(super) fn sample(meaning: Meaning, text: &str) -> Piece {
    let grid = Grid {
        side: 20,
        ..Grid::of(false)
    };
    let (look, ink) = look(meaning, Some(ANY));
    let mut out = Piece::default();
    let shown = Sign {
        text: text.trim_matches('.').into(),
        short: ' ',
        paint: crate::render::layout::Paint::Plain,
        meanings: Vec::new(),
        letter: None,
    };
    out.rect((0, 0), (grid.side + 6, grid.side), &look);
    let wider = Grid {
        side: grid.side + 6,
        ..grid
    };
    out.put(0, 0, &text_at(&shown.text, ink, wider, grid.side));
    out
}

fn sign_text(sign: &Sign, ink: &'static str, grid: Grid) -> Piece {
    let text = match grid.short {
        true => sign.short.to_string(),
        false => sign.text.clone(),
    };
    // Free CPUs are empty frames.
    let text = if matches!(text.as_str(), "." | "..") {
        ""
    } else {
        &text
    };
    text_at(text, ink, grid, grid.side)
}

/// Centres a text in a cell; a long one is smaller.
fn text_at(text: &str, ink: &'static str, grid: Grid, height: usize) -> Piece {
    let mut out = Piece::default();
    if text.is_empty() {
        return out;
    }
    let fits = grid.side.saturating_sub(4) * 100 / (62 * text.len().max(1));
    let size = grid.font.min(fits);
    let font = Font {
        fill: ink,
        centred: true,
        ..Font::of(size)
    };
    out.text((grid.side / 2, (height + size * 7 / 10) / 2), text, font);
    out.width = 0;
    out.height = 0;
    out
}

/// Returns the attributes of a cell's ground, and the ink on it. `guest`: its colour and ink.
fn look(ground: Meaning, guest: Option<(&str, &'static str)>) -> (String, &'static str) {
    let (fill, ink) = guest.unwrap_or(ANY);
    let frame = |stroke: &str, more: &str| format!("rx=\"2\" fill=\"none\" stroke=\"{stroke}\" {more}");
    match ground {
        Meaning::Held | Meaning::Vcpu | Meaning::Emulator | Meaning::Iothread => {
            (format!("rx=\"2\" fill=\"{fill}\""), ink)
        }
        Meaning::Housekeeping | Meaning::MarkFloating | Meaning::MarkEmulator | Meaning::MarkIothread => {
            (format!("rx=\"2\" fill=\"{}\"", HOUSE.0), HOUSE.1)
        }
        Meaning::Floating if guest.is_some() => (frame(fill, "stroke-width=\"2\""), PAGE),
        Meaning::Claimed | Meaning::Withheld => {
            (frame(fill, "stroke-width=\"2\" stroke-dasharray=\"3 2\""), PAGE)
        }
        Meaning::NotForGuests | Meaning::Isolated | Meaning::InNoSet => {
            (frame(PAGE, "stroke-dasharray=\"1 2\""), PAGE)
        }
        _ => (frame(PAGE, "stroke-opacity=\"0.6\""), PAGE),
    }
}

/// Words a CPU: `CPU 9, core 1 of node 1: held by db: vCPU 0`.
fn title(cpu: &Cpu, picture: &Picture, place: &str) -> String {
    let name = |at: &usize| picture.guests.get(*at).map_or("", |guest| guest.name.as_str());
    let names = |all: &[usize]| all.iter().map(name).collect::<Vec<_>>().join(", ");
    let role = match cpu.role {
        Role::Held => format!("held by {}", names(&cpu.guests)),
        Role::Withheld => format!("withheld on account of {}", names(&cpu.guests)),
        Role::NotForGuests => "not allowed to guests".into(),
        Role::Housekeeping => "housekeeping".into(),
        Role::Free => "free".into(),
        Role::Isolated => "isolated, in no set".into(),
        Role::Shared => "shared".into(),
        Role::InNoSet => "in no set".into(),
    };
    let isolated = if cpu.isolated && cpu.role != Role::Isolated {
        ", isolated"
    } else {
        ""
    };
    let mut out = format!("CPU {}, {place}: {role}{isolated}", cpu.id);
    let threads = cpu.threads.iter().map(|thread| {
        let role = thread.role.replace("vcpu", "vCPU");
        format!("{role} of {}", name(&thread.guest))
    });
    for (what, said) in [
        ("", threads.collect::<Vec<_>>().join(", ")),
        ("vCPUs float here: ", names(&cpu.floating)),
        ("claimed by ", names(&cpu.claimed_by)),
        ("a thread ran here last that should not: ", names(&cpu.astray)),
    ] {
        if !said.is_empty() {
            out.push_str(&format!("; {what}{said}"));
        }
    }
    out
}
