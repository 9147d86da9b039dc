//! Keys of `[host]` and `[profile.NAME]`: how each is read and printed, and what it accepts.
//!
//! Each of the two sections has one table, in a file of its own. Parsing, merging, printing, the
//! digest and "did you mean" all work from these tables.

mod host;
mod kinds;
mod profile;

pub use host::HOST;
pub use profile::PROFILE;

use crate::policy::value::{Fault, Scalar};

/// One key of the policy. A key inside a table has the path `table.key`.
pub struct Key<T: 'static> {
    /// Tables and key, as `[profile.NAME]` or `[host]` has them: `iothreads.cpus`.
    pub path: &'static str,
    /// Text for messages that lists the accepted values; it follows the word "expected".
    pub expected: fn() -> String,
    /// Function that checks a value and stores it in the settings.
    pub set: fn(&mut T, &Scalar) -> Result<(), Fault>,
    /// Function that returns the setting in its canonical form, which `set` accepts again.
    pub get: fn(&T) -> Scalar,
}

/// Words that are reserved for later versions of the policy.
pub(crate) const RESERVED: [&str; 5] = ["host_tasks", "irqs", "governor", "host_cpus", "overcommit"];

/// Keys of a profile that came after the first records were written, each with the value, as TOML,
/// under which virtfit decides as it did without the key.
///
/// The digest leaves a key with that value out: a policy that does not use the key keeps its
/// digest, and no record is rewritten on its account after an upgrade.
pub(crate) const LATER: &[(&str, &str)] = &[
    ("hyperv", "\"keep\""),
    ("iothreads.per_disk", "1"),
    ("net.queues", "\"keep\""),
];

/// Returns whether a key came later and has the value under which it changes nothing.
pub(crate) fn is_as_before(path: &str, value: &Scalar) -> bool {
    let value = value.to_string();
    LATER
        .iter()
        .any(|(later, before)| *later == path && value == *before)
}

/// Finds the key with this path.
pub(crate) fn find<T>(keys: &'static [Key<T>], path: &str) -> Option<&'static Key<T>> {
    keys.iter().find(|key| key.path == path)
}

/// Returns the keys inside a table, without the table's name; empty where there is no such table.
pub(crate) fn members<T>(keys: &'static [Key<T>], table: &str) -> Vec<&'static str> {
    keys.iter()
        .filter_map(|key| {
            key.path
                .split_once('.')
                .filter(|(owner, _)| *owner == table)
                .map(|(_, own)| own)
        })
        .collect()
}

/// Returns the names that may stand directly in a section: plain keys and tables.
pub(crate) fn top_names<T>(keys: &'static [Key<T>]) -> Vec<&'static str> {
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
