//! Text of foreign origin, made safe to print.

/// Replaces control characters except line ends: names of guests and files may contain sequences
/// that a terminal obeys.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
