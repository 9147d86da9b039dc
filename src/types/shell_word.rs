//! Text as one argument of a command that is advised.

use crate::types::printable::is_unsafe;

/// Quotes a text so that a shell reads it as one argument; `None` where the reader could not type
/// it as shown. Without `unicode`, only ASCII can be typed.
///
/// A guest is named by [`crate::types::guest_word::guest_word`] instead: quotes do not keep virsh
/// from reading a number as an ID.
pub(crate) fn shell_word(text: &str, unicode: bool) -> Option<String> {
    // A leading '-' would be read as an option even in quotes.
    let is_shown = |c: char| !is_unsafe(c) && (unicode || c.is_ascii());
    if text.starts_with('-') || !text.chars().all(is_shown) {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':' | '+' | '@');
    if !text.is_empty() && text.chars().all(plain) {
        return Some(text.into());
    }
    Some(format!("'{}'", text.replace('\'', r"'\''")))
}

/// Quotes the path of a file as [`shell_word`] does; the word `FILE` where it could not be typed.
pub(crate) fn file_word(path: &str) -> String {
    shell_word(path, true)
        .filter(|word| word != "''")
        .unwrap_or_else(|| "FILE".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_shown_to_the_reader_can_be_typed() {
        for (given, shown) in [
            ("def", Some("def")),
            ("/etc/libvirt/qemu/a.xml", Some("/etc/libvirt/qemu/a.xml")),
            ("my guest", Some("'my guest'")),
            ("$(reboot)", Some("'$(reboot)'")),
            ("it's", Some(r"'it'\''s'")),
            ("größe", Some("'größe'")),
            ("", Some("''")),
            ("--all", None),
            ("esc\x1b", None),
            ("two\nlines", None),
        ] {
            assert_eq!(shell_word(given, true).as_deref(), shown, "{given:?}");
            let file = shown.filter(|shown| *shown != "''").unwrap_or("FILE");
            assert_eq!(file_word(given), file, "{given:?}");
        }
        assert_eq!(shell_word("größe", false), None);
    }
}
