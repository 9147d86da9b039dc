//! Shapes of an SVG, with attributes alone: a page's Content-Security-Policy drops `style=` and
//! `<style>`, and its own stylesheet comes before attributes.

use unicode_width::UnicodeWidthStr as _;

use crate::render::escape::clean;

/// Piece of an image: elements, and the room that they take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// Elements.
    pub body: String,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

/// Look of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Font {
    /// Size in pixels.
    pub size: usize,
    /// Colour.
    pub fill: &'static str,
    /// Bold.
    pub bold: bool,
    /// Centred at its place, rather than starting there.
    pub centred: bool,
}

/// Colour of texts and lines that stand on the page: the image's own `color`, which reads on white
/// and on black, unless the page says another.
pub(super) const PAGE: &str = "currentColor";

impl Font {
    /// Returns the look of a text on the page.
    pub(super) fn of(size: usize) -> Self {
        Self {
            size,
            fill: PAGE,
            bold: false,
            centred: false,
        }
    }

    /// Returns the look of a heading.
    pub(super) fn bold(size: usize) -> Self {
        Self {
            bold: true,
            ..Self::of(size)
        }
    }
}

impl Piece {
    /// Puts another piece into this one, its corner at this place.
    pub(super) fn put(&mut self, x: usize, y: usize, other: &Piece) {
        if other.body.is_empty() {
            return;
        }
        match (x, y) {
            (0, 0) => self.body.push_str(&other.body),
            _ => self.body.push_str(&format!(
                "<g transform=\"translate({x} {y})\">\n{}</g>\n",
                other.body
            )),
        }
        self.cover(x + other.width, y + other.height);
    }

    /// Makes the piece at least as large as this.
    pub(super) fn cover(&mut self, width: usize, height: usize) {
        self.width = self.width.max(width);
        self.height = self.height.max(height);
    }

    /// Adds a rectangle; `look` are its other attributes.
    pub(super) fn rect(&mut self, (x, y): (usize, usize), (width, height): (usize, usize), look: &str) {
        self.body.push_str(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" {look}/>\n"
        ));
        self.cover(x + width, y + height);
    }

    /// Adds a text, its base line at `y`.
    pub(super) fn text(&mut self, (x, y): (usize, usize), text: &str, font: Font) {
        let bold = if font.bold { " font-weight=\"bold\"" } else { "" };
        let centred = if font.centred {
            " text-anchor=\"middle\""
        } else {
            ""
        };
        let (size, fill) = (font.size, font.fill);
        self.body.push_str(&format!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{fill}\"{bold}{centred}>{}</text>\n",
            escaped(text)
        ));
        let half = if font.centred { 2 } else { 1 };
        self.cover(x + width(text, font.size) / half, y + font.size / 3);
    }

    /// Puts the elements into a group with these attributes and a title, which is shown while the
    /// pointer is on it.
    pub(super) fn grouped(self, attributes: &str, title: &str) -> Self {
        let title = match title {
            "" => String::new(),
            title => format!("<title>{}</title>\n", escaped(title)),
        };
        Self {
            body: format!("<g {attributes}>\n{title}{}</g>\n", self.body),
            ..self
        }
    }
}

/// Puts pieces beside each other, in as many rows as it takes for this width.
pub(super) fn flow(pieces: &[Piece], most: usize, (gap, row_gap): (usize, usize)) -> Piece {
    let mut out = Piece::default();
    let (mut x, mut y, mut height) = (0, 0, 0);
    for piece in pieces {
        if x > 0 && x + piece.width > most {
            (x, y, height) = (0, y + height + row_gap, 0);
        }
        out.put(x, y, piece);
        x += piece.width + gap;
        height = height.max(piece.height);
    }
    out
}

/// Returns the room that a text takes: the letters of a monospaced font are 0.6 of its size wide,
/// of some a little more.
pub(super) fn width(text: &str, size: usize) -> usize {
    text.width() * size * 62 / 100
}

/// Returns a text of foreign origin as the text of an element or attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text, true).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // XML has no place for these two.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text() {
        for (given, want) in [
            ("db-1", "db-1"),
            ("<script>&\"'", "&lt;script&gt;&amp;&quot;&apos;"),
            ("a\u{1b}[31m\u{202e}\u{ffff}", "a\\u{1b}[31m\\u{202e}\u{fffd}"),
            ("größe 漢", "größe 漢"),
        ] {
            assert_eq!(escaped(given), want);
        }
    }

    #[test]
    fn pieces_flow_in_rows() {
        let piece = |width, height| Piece {
            body: "x".into(),
            width,
            height,
        };
        let got = flow(&[piece(40, 10), piece(40, 20), piece(40, 5)], 100, (10, 3));
        assert_eq!((got.width, got.height), (90, 28));
        assert!(got.body.contains("translate(50 0)") && got.body.contains("translate(0 23)"));
    }
}
