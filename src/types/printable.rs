//! Text of others, made safe to print.

/// Replaces control characters, but line ends: names of guests and files may hold what a terminal
/// obeys.
pub fn visible(text: &str) -> String {
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
