//! Words for an interval of time.

use std::time::Duration;

/// Longest interval: an hour.
const MOST: u64 = 3600;

/// Parses `30`, `30s`, `2m` or `1h`.
///
/// # Errors
/// The word is none of these, or not between one second and one hour.
pub(crate) fn parse(word: &str) -> Result<Duration, String> {
    let (number, unit) = match word.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => word.split_at(at),
        None => (word, "s"),
    };
    let factor: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a time is a whole number with s, m or h: 30s".into()),
    };
    let seconds = number.parse::<u64>().ok();
    let seconds = seconds.and_then(|number| number.checked_mul(factor));
    match seconds {
        Some(seconds) if (1..=MOST).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err("from 1s to 1h".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_limits() {
        let seconds = |word| parse(word).map(|time| time.as_secs()).ok();
        for (word, expected) in [
            ("30", Some(30)),
            ("30s", Some(30)),
            ("2m", Some(120)),
            ("1h", Some(3600)),
            ("61m", None),
            ("0s", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("5 s", None),
            ("18446744073709551615h", None),
            ("5ä", None),
        ] {
            assert_eq!(seconds(word), expected, "{word}");
        }
    }
}
