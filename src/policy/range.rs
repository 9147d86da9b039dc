//! Ranges in a rule: counts (`4`, `2-8`, `8-`, `-8`) and sizes (`4G-8G`).

use crate::policy::value::{Fault, size, size_text};
use crate::types::ids::KiB;

/// Range of counts or KiB, both ends included; either end may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    least: u64,
    most: Option<u64>,
}

impl Range {
    /// Returns true if the number is in the range.
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.least <= number && self.most.is_none_or(|most| number <= most)
    }

    /// Reads a range of counts.
    ///
    /// # Errors
    /// A text in none of the forms above, or a range that runs backwards.
    pub(crate) fn counts(text: &str) -> Result<Self, Fault> {
        read(text, |word| {
            let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
            word.parse::<u32>()
                .ok()
                .filter(|_| digits)
                .map(u64::from)
                .ok_or_else(Fault::default)
        })
    }

    /// Reads a range of sizes, kept in KiB.
    ///
    /// # Errors
    /// The errors of [`Range::counts`], or a size without its unit.
    pub(crate) fn sizes(text: &str) -> Result<Self, Fault> {
        read(text, |word| size(word).map(|size| size.0))
    }

    /// Writes a range of counts in canonical form.
    pub(crate) fn counts_text(&self) -> String {
        self.text(|number| number.to_string())
    }

    /// Writes a range of sizes in canonical form.
    pub(crate) fn sizes_text(&self) -> String {
        self.text(|kib| size_text(KiB(kib)))
    }

    fn text(&self, end: impl Fn(u64) -> String) -> String {
        match self.most {
            Some(most) if most == self.least => end(most),
            Some(most) if self.least == 0 => format!("-{}", end(most)),
            Some(most) => format!("{}-{}", end(self.least), end(most)),
            None => format!("{}-", end(self.least)),
        }
    }
}

fn read(text: &str, end: impl Fn(&str) -> Result<u64, Fault>) -> Result<Range, Fault> {
    let range = match text.trim().split_once('-') {
        None => {
            let only = end(text.trim())?;
            Range {
                least: only,
                most: Some(only),
            }
        }
        Some((least, most)) => {
            let (least, most) = (least.trim(), most.trim());
            if least.is_empty() && most.is_empty() {
                return Err(Fault::because("both ends are missing"));
            }
            Range {
                least: if least.is_empty() { 0 } else { end(least)? },
                most: if most.is_empty() { None } else { Some(end(most)?) },
            }
        }
    };
    match range.most {
        Some(most) if most < range.least => Err(Fault::because("it runs backwards")),
        _ => Ok(range),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms() {
        for (text, inside, outside) in [
            ("4", vec![4], vec![3, 5]),
            ("2-8", vec![2, 8], vec![1, 9]),
            ("8-", vec![8, 1000], vec![7]),
            ("-8", vec![0, 8], vec![9]),
            (" 2 - 8 ", vec![2, 8], vec![1, 9]),
        ] {
            let range = Range::counts(text).unwrap();
            assert!(inside.iter().all(|n| range.contains(*n)), "{text}");
            assert!(!outside.iter().any(|n| range.contains(*n)), "{text}");
        }
        for text in ["", "-", "8-2", "x", "1-2-3", "--2", "+4", "4G", "99999999999"] {
            assert!(Range::counts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let range = Range::sizes("4G-8G").unwrap();
        assert!(range.contains(4 << 20) && range.contains(8 << 20));
        assert!(!range.contains((4 << 20) - 1) && !range.contains((8 << 20) + 1));
        assert_eq!(Range::sizes("-4096M").unwrap().sizes_text(), "-4G");
        for text in ["4", "4-8", "4G-2G", "-", "G"] {
            assert!(Range::sizes(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_comparison(a in 0u32..20, b in 0u32..20, n in 0u64..25) {
            let (low, high) = (a.min(b), a.max(b));
            let n_in = |text: String| Range::counts(&text).unwrap().contains(n);
            prop_assert_eq!(n_in(format!("{low}-{high}")), (u64::from(low)..=u64::from(high)).contains(&n));
            prop_assert_eq!(n_in(format!("{low}-")), n >= u64::from(low));
            prop_assert_eq!(n_in(format!("-{high}")), n <= u64::from(high));
            prop_assert_eq!(n_in(format!("{low}")), n == u64::from(low));
        }

        #[test]
        fn text_reads_back(a in 0u32..99, b in proptest::option::of(0u32..99)) {
            let text = b.map_or(format!("{a}-"), |b| format!("{}-{}", a.min(b), a.max(b)));
            let range = Range::counts(&text).unwrap();
            prop_assert_eq!(Range::counts(&range.counts_text()), Ok(range));
        }
    }
}
