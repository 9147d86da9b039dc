//! Shell patterns over a whole text: `*`, `?`, `[a-z]`, `[!a-z]`. Case counts; there is no escape
//! but `[*]`.

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// `*`: any text, also none.
    Any,
    /// `?`: any one character.
    One,
    /// Itself.
    Char(char),
    /// `[…]`: one of these ranges; or none of them.
    Set {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
}

impl Piece {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Char(own) => *own == c,
            Self::Set { ranges, negated } => ranges.iter().any(|(a, b)| (*a..=*b).contains(&c)) != *negated,
        }
    }
}

impl Glob {
    /// Reads a pattern. A `]` that stands first in a set is a member, as in a shell.
    ///
    /// # Errors
    /// A `[` without its `]`, or a range that runs backwards: the byte offset and what is wrong
    /// there.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut pieces = Vec::new();
        let mut rest = text.char_indices().peekable();
        while let Some((offset, c)) = rest.next() {
            let piece = match c {
                '*' => Piece::Any,
                '?' => Piece::One,
                '[' => {
                    let negated = rest.next_if(|(_, c)| matches!(c, '!' | '^')).is_some();
                    let mut members = Vec::new();
                    loop {
                        match rest.next() {
                            None => return Err((offset, "'[' without ']'".into())),
                            Some((_, ']')) if !members.is_empty() => break,
                            Some((_, member)) => members.push(member),
                        }
                    }
                    let ranges = ranges(&members).map_err(|problem| (offset, problem))?;
                    Piece::Set { ranges, negated }
                }
                other => Piece::Char(other),
            };
            if piece != Piece::Any || pieces.last() != Some(&Piece::Any) {
                pieces.push(piece);
            }
        }
        Ok(Self {
            text: text.to_string(),
            pieces,
        })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `text` fits the pattern.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut piece) = (0, 0);
        // Where to go on when the rest does not fit: the last `*` takes one character more.
        let mut star: Option<(usize, usize)> = None;
        while let Some(c) = text.get(at) {
            match self.pieces.get(piece) {
                Some(Piece::Any) => {
                    star = Some((piece, at));
                    piece += 1;
                }
                Some(own) if own.takes(*c) => {
                    at += 1;
                    piece += 1;
                }
                _ => match star {
                    Some((star_piece, star_at)) => {
                        at = star_at + 1;
                        piece = star_piece + 1;
                        star = Some((star_piece, at));
                    }
                    None => return false,
                },
            }
        }
        self.pieces.iter().skip(piece).all(|piece| *piece == Piece::Any)
    }
}

fn ranges(members: &[char]) -> Result<Vec<(char, char)>, String> {
    let mut out = Vec::new();
    let mut rest = members;
    loop {
        match rest {
            [] => return Ok(out),
            [first, '-', last, tail @ ..] => {
                if first > last {
                    return Err(format!("range {first}-{last} runs backwards"));
                }
                out.push((*first, *last));
                rest = tail;
            }
            [one, tail @ ..] => {
                out.push((*one, *one));
                rest = tail;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, without any cleverness.
    fn naive(pieces: &[Piece], text: &[char]) -> bool {
        match (pieces, text) {
            ([], []) => true,
            ([Piece::Any, tail @ ..], _) => (0..=text.len()).any(|n| naive(tail, &text[n..])),
            ([piece, tail @ ..], [c, rest @ ..]) => piece.takes(*c) && naive(tail, rest),
            _ => false,
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("db-*", "db-1", true),
            ("db-*", "db-", true),
            ("db-*", "DB-1", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("?", "ä", true),
            ("a[0-9]b", "a5b", true),
            ("a[!0-9]b", "a5b", false),
            ("[]x]", "]", true),
            ("[a-]", "-", true),
            ("[*]", "*", true),
            ("[*]", "x", false),
            ("*/win/*", "http://microsoft.com/win/11", true),
            ("*ab*ab", "xababab", true),
            ("*ab*ab", "xab", false),
        ] {
            assert_eq!(
                Glob::parse(pattern).unwrap().matches(text),
                expected,
                "{pattern} {text}"
            );
        }
        for pattern in ["[", "a[b", "[]", "[z-a]", "[!"] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn many_stars_stay_quick() {
        let glob = Glob::parse(&"*a".repeat(200)).unwrap();
        assert!(!glob.matches(&format!("{}b", "a".repeat(5000))));
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?\\[\\]!-]{0,8}", text in "[ab\\]-]{0,8}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                let chars: Vec<char> = text.chars().collect();
                prop_assert_eq!(glob.matches(&text), naive(&glob.pieces, &chars), "{} {}", pattern, text);
            }
        }
    }
}
