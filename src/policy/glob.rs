//! Shell patterns over a whole text: `*`, `?`, `[a-z]`, `[!a-z]`. Upper and lower case differ. The
//! only escape is a set of one character, such as `[*]`.
//!
//! Not the crate `glob`: its patterns are for paths (`**` is special), and a range that runs
//! backwards is no error to it but matches nothing. Matching takes at most as many steps as text
//! and pattern have characters, multiplied.

/// Shell pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    pieces: Vec<Piece>,
}

/// Error in a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct GlobError {
    /// Byte offset of the set with the error.
    pub offset: usize,
    pub problem: GlobProblem,
}

/// Fault of a set of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GlobProblem {
    /// Set without its end.
    #[error("'[' without ']'")]
    Open,
    /// Range whose first character is above its last.
    #[error("range {0}-{1} runs backwards")]
    Backwards(char, char),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// `*`: any text, the empty one included.
    Any,
    /// `?`: any one character.
    One,
    /// One literal character.
    Char(char),
    /// `[…]`: one character in these ranges, or `[!…]`: one outside them.
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
    /// Reads a pattern. A `]` that comes first in a set is a member of the set, as in a shell.
    ///
    /// # Errors
    /// A `[` without its `]`, or a range that runs backwards.
    pub(crate) fn parse(text: &str) -> Result<Self, GlobError> {
        let mut pieces = Vec::new();
        let mut rest = text.char_indices().peekable();
        while let Some((offset, c)) = rest.next() {
            let fail = |problem| GlobError { offset, problem };
            let piece = match c {
                '*' => Piece::Any,
                '?' => Piece::One,
                '[' => {
                    let negated = rest.next_if(|(_, c)| matches!(c, '!' | '^')).is_some();
                    let mut members = Vec::new();
                    loop {
                        match rest.next() {
                            None => return Err(fail(GlobProblem::Open)),
                            Some((_, ']')) if !members.is_empty() => break,
                            Some((_, member)) => members.push(member),
                        }
                    }
                    let ranges = ranges(&members).map_err(fail)?;
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

    /// Returns the pattern that matches this text alone.
    pub fn literal(text: &str) -> String {
        let mut out = String::new();
        for c in text.chars() {
            match c {
                '*' | '?' | '[' => out.extend(['[', c, ']']),
                c => out.push(c),
            }
        }
        out
    }

    /// Returns the pattern as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns true if the whole of `text` matches the pattern.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut at, mut piece) = (0, 0);
        // Position to resume from after a mismatch: the last `*` takes one character more.
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

fn ranges(members: &[char]) -> Result<Vec<(char, char)>, GlobProblem> {
    let mut out = Vec::new();
    let mut rest = members;
    loop {
        match rest {
            [] => return Ok(out),
            [first, '-', last, tail @ ..] => {
                if first > last {
                    return Err(GlobProblem::Backwards(*first, *last));
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

    /// Matches by the definition alone, without an optimization.
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
        fn a_literal_matches_its_text_alone(text in "[ab*?\\[\\]!-]{0,8}", other in "[ab*?\\[\\]!-]{0,8}") {
            let glob = Glob::parse(&Glob::literal(&text)).unwrap();
            prop_assert!(glob.matches(&text));
            prop_assert_eq!(glob.matches(&other), text == other);
        }

        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?\\[\\]!-]{0,8}", text in "[ab\\]-]{0,8}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                let chars: Vec<char> = text.chars().collect();
                prop_assert_eq!(glob.matches(&text), naive(&glob.pieces, &chars), "{} {}", pattern, text);
            }
        }
    }
}
