//! Words of `virtfit hook`, as libvirt gives them.

use std::ffi::OsString;

use virtfit_hook::operation::OPERATIONS;

/// `hook`. Words are taken as they come: nothing libvirt says is a usage error.
#[derive(Debug, clap::Args)]
pub struct HookArgs {
    /// The guest's name
    #[arg(allow_hyphen_values = true)]
    pub guest: OsString,
    /// The operation: prepare, start, started, stopped, release, migrate, restore, reconnect,
    /// attach
    #[arg(value_name = "OP", allow_hyphen_values = true)]
    pub operation: Option<OsString>,
    /// begin, end or -
    #[arg(value_name = "SUBOP", allow_hyphen_values = true)]
    pub suboperation: Option<OsString>,
    /// More of it; not looked at
    #[arg(value_name = "EXTRA", allow_hyphen_values = true)]
    pub extra: Option<OsString>,
    /// Milliseconds another process has spent on this call already.
    #[arg(long, hide = true, value_name = "MS")]
    pub spent: Option<u64>,
    /// Read the host and keep it for later hooks; nothing else.
    #[arg(long, hide = true)]
    pub keep_host: bool,
    /// The process libvirt's hook was run by, where it is not the parent of this one.
    #[arg(long, hide = true, value_name = "PID")]
    pub parent: Option<u32>,
    /// Words that a later libvirt may add.
    #[arg(hide = true)]
    pub rest: Vec<OsString>,
}

/// Puts `--` before a guest whose name looks like an option (`-v`, `--help`): where the word after
/// the guest of `virtfit hook` is an operation, the guest's word is a name. (libvirt gives the
/// words without options; those come before `hook` or after it.)
pub(crate) fn protect_guest(mut words: Vec<OsString>) -> Vec<OsString> {
    let is = |at: usize, text: &str| words.get(at).is_some_and(|word: &OsString| word == text);
    let is_operation = |at: usize| OPERATIONS.iter().any(|row| is(at, row.operation));
    let odd = words
        .get(2)
        .is_some_and(|word| word.as_encoded_bytes().starts_with(b"-"));
    if is(1, "hook") && odd && is_operation(3) {
        words.insert(2, "--".into());
    }
    words
}

/// Makes `virtfit help COMMAND` of `virtfit COMMAND --help`.
pub(crate) fn ask_for_help(mut words: Vec<OsString>) -> Vec<OsString> {
    if words.get(1).is_some_and(|word| word == "help") {
        words.remove(1);
        words.push("--help".into());
    }
    words
}

/// Returns whether these are the words of a hook: an error in them must not keep a guest from
/// starting.
pub(crate) fn is_hook(words: &[OsString]) -> bool {
    let mut words = words.iter().skip_while(|word| *word != "hook").skip(1);
    words.any(|word| OPERATIONS.iter().any(|row| word == row.operation))
}
