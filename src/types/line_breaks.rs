//! Breaks text into lines that a terminal has room for.

use textwrap::WordSeparator;
use textwrap::core::{Fragment, Word, break_words};
use textwrap::wrap_algorithms::wrap_first_fit;

/// Handling of a word that is wider than a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LongWord {
    /// Broken after a comma or a slash, else where the line ends.
    Broken,
    /// Left whole, beyond the end of the line.
    Whole,
}

/// Breaks a text at blanks into lines of at most `columns` columns, at least one.
pub(crate) fn wrap(text: &str, columns: usize, long: LongWord) -> Vec<String> {
    let words = WordSeparator::AsciiSpace.find_words(text);
    let words: Vec<Word<'_>> = match long {
        LongWord::Whole => words.collect(),
        LongWord::Broken => {
            let parts = words.flat_map(|word| match word.width() > columns as f64 {
                true => after_separators(word),
                false => vec![word],
            });
            break_words(parts, columns)
        }
    };
    let lines = wrap_first_fit(&words, &[columns as f64]).into_iter();
    let line = |words: &[Word<'_>]| {
        let line: String = words
            .iter()
            .flat_map(|word| [word.word, word.whitespace])
            .collect();
        line.trim_end_matches(' ').to_string()
    };
    lines.map(line).collect()
}

/// Splits a word after each comma and slash, as in lists of CPUs and in paths.
fn after_separators(word: Word<'_>) -> Vec<Word<'_>> {
    let mut parts: Vec<Word<'_>> = word.word.split_inclusive([',', '/']).map(Word::from).collect();
    if let Some(last) = parts.last_mut() {
        last.whitespace = word.whitespace;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn long_words_break_after_commas_and_slashes_or_stay_whole() {
        assert_eq!(
            wrap("0-3,16-19,32-35", 8, LongWord::Broken),
            ["0-3,", "16-19,", "32-35"]
        );
        assert_eq!(wrap("one two three", 7, LongWord::Broken), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3, LongWord::Broken), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 7, LongWord::Broken), [""]);
        assert_eq!(
            wrap("a 0-3,16-19,32-35 b", 8, LongWord::Whole),
            ["a", "0-3,16-19,32-35", "b"]
        );
    }

    proptest! {
        #[test]
        fn every_character_and_the_width_are_kept(text in "[a-z ,/漢é]{0,60}", columns in 2usize..30) {
            let lines = wrap(&text, columns, LongWord::Broken);
            for line in &lines {
                prop_assert!(line.width() <= columns, "{line:?} is wider than {columns}");
            }
            let kept = |s: &str| s.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(kept(&lines.concat()), kept(&text));
        }
    }
}
