//! `virtfit complete`: names for the completions of shells, one per line (`packaging/generate`
//! writes the scripts that ask).

use crate::cli::args::{Global, Names};
use crate::cli::{Failure, Outcome, chosen, session};
use crate::policy::Policy;
use crate::types::printable::is_unsafe;

/// Lists names of one kind. Neither libvirt nor the host's topology is asked, because a shell waits
/// for the answer.
///
/// # Errors
/// The definitions may not be read, and no daemon answers in their place.
pub(crate) fn run(global: &Global, names: Names) -> Result<Outcome, Failure> {
    let names = match names {
        Names::Guests => chosen::names(&session::host(global)?)?,
        Names::Profiles => profiles(global),
    };
    let lines = names
        .iter()
        // A name with a line break in it would become two names, and no one could type an invisible
        // character.
        .filter(|name| !name.contains(is_unsafe))
        .map(|name| format!("{name}\n"));
    Ok(Outcome::answer(lines.collect::<String>()))
}

/// Returns the names of all profiles; where the policy is broken, of the built-in ones.
fn profiles(global: &Global) -> Vec<String> {
    let policy = session::load_policy(global).unwrap_or_else(|_| Policy::builtin());
    policy.profiles.into_keys().collect()
}
