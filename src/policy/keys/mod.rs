//! Every key of `[host]` and `[profile.NAME]`: how it is read, how it is printed, what it accepts.
//!
//! One table each, in a file of its own, is all there is: parsing, merging, printing, digest and
//! "did you mean" go through it.

mod host;
mod kinds;
mod profile;

pub use host::HOST;
pub use profile::PROFILE;

use crate::policy::value::{Fault, Scalar};

/// One key: a table's key is `table.key`.
pub struct Key<T: 'static> {
    /// Its name.
    pub path: &'static str,
    /// What it accepts, for messages: follows "expected".
    pub expected: fn() -> String,
    /// Puts a value into the settings.
    pub set: fn(&mut T, &Scalar) -> Result<(), Fault>,
    /// The value in its one form; `set` takes it back.
    pub get: fn(&T) -> Scalar,
}

/// Words in the policy that will mean something later.
pub const RESERVED: [&str; 7] = [
    "host_tasks",
    "irqs",
    "governor",
    "host_cpus",
    "core_kind",
    "overcommit",
    "net",
];

/// The key with this name.
pub fn find<T>(keys: &'static [Key<T>], path: &str) -> Option<&'static Key<T>> {
    keys.iter().find(|key| key.path == path)
}

/// The keys of a nested table, without the table's name; empty where there is no such table.
pub fn members<T>(keys: &'static [Key<T>], table: &str) -> Vec<&'static str> {
    keys.iter()
        .filter_map(|key| {
            key.path
                .split_once('.')
                .filter(|(owner, _)| *owner == table)
                .map(|(_, own)| own)
        })
        .collect()
}

/// The names that may stand directly in a section: plain keys and tables.
pub fn top_names<T>(keys: &'static [Key<T>]) -> Vec<&'static str> {
    let mut names: Vec<&str> = keys
        .iter()
        .map(|key| key.path.split_once('.').map_or(key.path, |(table, _)| table))
        .collect();
    names.dedup();
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
