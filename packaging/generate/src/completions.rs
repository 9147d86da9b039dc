//! Completions of virtfit's words: clap's scripts for zsh and fish, with the names of guests and
//! profiles, which only the host knows. The scripts ask `virtfit complete` for names and wait one
//! second at most.

use std::io;

use clap::{Arg, ArgAction, Command};
use clap_complete::{Shell, generate};

/// Kind of name that a word of the command line stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// Name of a guest.
    Guest,
    /// Name of a guest, or a file of XML.
    GuestOrFile,
    /// Name of a profile.
    Profile,
}

impl Named {
    /// Returns the kind of names this argument takes, as its help says.
    pub(crate) fn of(argument: &Arg) -> Option<Self> {
        match argument.get_value_names()?.first()?.as_str() {
            "GUEST" => Some(Self::Guest),
            "GUEST|FILE|-" => Some(Self::GuestOrFile),
            "NAME" | "PROFILE" => Some(Self::Profile),
            _ => None,
        }
    }

    /// Returns the word that stands for the names in clap's script.
    fn mark(self) -> &'static str {
        match self {
            Self::Guest => "@guest@",
            Self::GuestOrFile => "@guest-or-file@",
            Self::Profile => "@profile@",
        }
    }
}

/// Functions of the zsh script. Names are given to `compadd` as they are; nothing in them is
/// expanded.
const ZSH: &str = r#"
_virtfit_guests() {
    local -a names
    names=(${(f)"$(timeout 1 virtfit complete guests 2>/dev/null)"})
    compadd "$@" -a names
}

_virtfit_profiles() {
    local -a names
    names=(${(f)"$(timeout 1 virtfit complete profiles 2>/dev/null)"})
    compadd "$@" -a names
}

_virtfit_guests_or_files() {
    _alternative 'guests:guest:_virtfit_guests' 'files:file:_files'
}
"#;

/// Functions of the fish script.
const FISH: &str = r"
function __virtfit_names
    timeout 1 virtfit complete $argv[1] 2>/dev/null
end

# Succeeds where as many arguments follow the word as the number says.
function __virtfit_given
    set -l given -1
    for word in (commandline -opc)
        if test $given -lt 0
            test $word = $argv[1]; and set given 0
        else if not string match -q -- '-?*' $word
            set given (math $given + 1)
        end
    end
    test $given -eq $argv[2]
end
";

/// Returns the command without the commands and options that its help hides.
pub(crate) fn offered(command: &Command) -> Command {
    // clap keeps names as long as the program runs.
    let name: &'static str = command.get_name().to_string().leak();
    let mut out = Command::new(name)
        .disable_help_subcommand(true)
        .args(command.get_arguments().filter(|a| !a.is_hide_set()))
        .subcommands(
            command
                .get_subcommands()
                .filter(|below| !below.is_hide_set())
                .map(offered),
        );
    if let Some(about) = command.get_about() {
        out = out.about(about.clone());
    }
    if command.get_version().is_some() {
        out = out.version(virtfit::version::VERSION);
    }
    out
}

/// Returns the script for zsh.
///
/// # Errors
/// clap's script has no place for the names any more.
pub(crate) fn zsh(virtfit: &Command) -> io::Result<String> {
    let mut text = clap_script(Shell::Zsh, virtfit)?;
    for (named, action) in [
        (Named::Guest, "_virtfit_guests"),
        (Named::GuestOrFile, "_virtfit_guests_or_files"),
        (Named::Profile, "_virtfit_profiles"),
    ] {
        text = replaced(&text, &format!("({})", named.mark()), action)?;
    }
    // With two colons no option would be known after the first guest.
    text = replaced(&text, "\n'*::", "\n'*:")?;
    // The last line of the script runs it: functions have to stand before.
    replaced(
        &text,
        "autoload -U is-at-least\n",
        &format!("autoload -U is-at-least\n{ZSH}"),
    )
}

/// Returns the script for fish.
///
/// # Errors
/// clap's script has no place for the names any more.
pub(crate) fn fish(virtfit: &Command) -> io::Result<String> {
    let text = clap_script(Shell::Fish, virtfit)?;
    let values = format!("\"{}\\t''\"", Named::Profile.mark());
    let mut text = replaced(&text, &values, "\"(__virtfit_names profiles)\"")?;
    text.push_str(FISH);
    for command in virtfit.get_subcommands() {
        let name = command.get_name();
        text.push_str(&fish_arguments(
            command,
            &format!("__fish_virtfit_using_subcommand {name}"),
        ));
        for below in command.get_subcommands() {
            let seen = below.get_name();
            let is =
                format!("__fish_virtfit_using_subcommand {name}; and __fish_seen_subcommand_from {seen}");
            text.push_str(&fish_arguments(below, &is));
        }
    }
    Ok(text)
}

/// Completes the arguments of a command in fish, where clap's script knows options only.
fn fish_arguments(command: &Command, is: &str) -> String {
    let name = command.get_name();
    let mut out = String::new();
    for (at, argument) in command.get_positionals().enumerate() {
        let (names, files) = match Named::of(argument) {
            Some(Named::Guest) => ("guests", false),
            Some(Named::GuestOrFile) => ("guests", true),
            Some(Named::Profile) => ("profiles", false),
            None => continue,
        };
        let is = match takes_several(argument) {
            true => is.to_string(),
            false => format!("{is}; and __virtfit_given {name} {at}"),
        };
        let files = if files { "" } else { " -f" };
        out.push_str(&format!(
            "complete -c virtfit -n \"{is}\"{files} -a \"(__virtfit_names {names})\"\n"
        ));
    }
    out
}

/// Returns `true` for an argument that may be given more than once.
pub(crate) fn takes_several(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Append)
}

/// Returns clap's script, with a mark at every place for names.
fn clap_script(shell: Shell, virtfit: &Command) -> io::Result<String> {
    let mut text = Vec::new();
    generate(shell, &mut marked(virtfit.clone()), "virtfit", &mut text);
    String::from_utf8(text).map_err(io::Error::other)
}

fn marked(command: Command) -> Command {
    let command = command.mut_args(|argument| match Named::of(&argument) {
        Some(named) => argument.value_parser([named.mark()]),
        None => argument,
    });
    command.mut_subcommands(marked)
}

/// Replaces a text that has to be there.
fn replaced(text: &str, what: &str, by: &str) -> io::Result<String> {
    match text.contains(what) {
        true => Ok(text.replace(what, by)),
        false => Err(io::Error::other(format!(
            "clap's completion script does not hold {what} any more"
        ))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn hidden_words_are_not_offered() {
        let virtfit = offered(&virtfit::cli::args::Args::command());
        for text in [
            crate::bash::script(&virtfit),
            zsh(&virtfit).unwrap(),
            fish(&virtfit).unwrap(),
        ] {
            for hidden in ["daemon", "caller", "spent", "parent"] {
                assert!(!text.contains(&format!("{hidden} ")), "{hidden}: {text}");
            }
            assert!(
                !text.contains('@') || !text.contains("@guest") && !text.contains("@profile"),
                "{text}"
            );
        }
    }

    #[test]
    fn arguments_that_name_guests_and_profiles() {
        let virtfit = offered(&virtfit::cli::args::Args::command());
        let named = |path: &[&str]| {
            let command = path
                .iter()
                .fold(&virtfit, |above, name| above.find_subcommand(name).unwrap());
            command.get_positionals().map(Named::of).collect::<Vec<_>>()
        };
        assert_eq!(named(&["plan"]), [Some(Named::GuestOrFile)]);
        assert_eq!(named(&["apply"]), [Some(Named::Guest)]);
        assert_eq!(named(&["revert"]), [Some(Named::GuestOrFile)]);
        assert_eq!(
            named(&["profile", "set"]),
            [Some(Named::Guest), Some(Named::Profile)]
        );
        assert_eq!(named(&["profile", "show"]), [Some(Named::Profile)]);
        assert_eq!(named(&["policy", "check"]), [None]);
    }
}
