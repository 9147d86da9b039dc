//! Name of a guest as an argument of a command that is advised.

use crate::types::uuid;

/// Returns the argument by which an advised command names the guest: its name where a shell, virsh
/// and virtfit read nothing else in it, otherwise its UUID, and the word `UUID` where that is not
/// known (`""`).
///
/// Authors of guests choose names: `--all` would be an option, `$(reboot)` a command, and `*` each
/// guest. virsh takes an argument for an ID first, then for a UUID, and for a name only then
/// (`virshCommandOptDomainBy`): `7` is the guest that runs with that number.
pub(crate) fn guest_word<'a>(name: &'a str, uuid: &'a str) -> &'a str {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '+' | '@');
    let is_id = name
        .strip_prefix('+')
        .unwrap_or(name)
        .bytes()
        .all(|b| b.is_ascii_digit());
    let is_plain = !name.starts_with('-') && name.chars().all(plain);
    if is_plain && !is_id && uuid::normal(name).is_none() {
        return name;
    }
    match uuid {
        "" => "UUID",
        uuid => uuid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "6d3f1a52-0000-4000-8000-000000000314";

    #[test]
    fn plain_names_are_words() {
        for name in ["db-1", "web.example:2", "größe", "a+b@c_d", "7a", "1.5", "+db"] {
            assert_eq!(guest_word(name, OWN), name);
        }
    }

    #[test]
    fn a_name_that_a_shell_or_an_option_parser_reads_is_not_repeated() {
        for name in [
            "",
            "-",
            "--all",
            "-h",
            "*",
            "db?",
            "[a]",
            "$(touch x)",
            "`id`",
            "x;id",
            "x --all",
            "a/b",
            "~",
            "x\ny",
            "x'y",
            "!1",
            "\u{202e}gnp",
            "a|b",
            "a>b",
            "#x",
            // virsh reads these as an ID, and as another guest's UUID.
            "7",
            "007",
            "+7",
            "6d3f1a52-0000-4000-8000-000000000001",
            "6D3F1A52000040008000000000000001",
        ] {
            assert_eq!(guest_word(name, OWN), OWN, "{name:?}");
            assert_eq!(guest_word(name, ""), "UUID", "{name:?}");
        }
    }
}
