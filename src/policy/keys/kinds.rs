//! The kinds of keys that both tables have: one of an enum's words, one of two words, yes or no.

use crate::policy::names::Named;
use crate::policy::value::{either, quoted};

/// A field that is an enum with names.
macro_rules! choice_key {
    ($path:literal, $type:ty, $($field:ident).+) => {
        Key {
            path: $path,
            expected: names_of::<$type>,
            set: |to, value| { to.$($field).+ = choice::<$type>(value)?; Ok(()) },
            get: |from| Scalar::text($crate::policy::names::Named::name(from.$($field).+)),
        }
    };
}

/// A field that is true for one of two words.
macro_rules! flag_key {
    ($path:literal, $field:ident, $on:literal, $off:literal) => {
        Key {
            path: $path,
            expected: || words_of(&[$off, $on]),
            set: |to, value| {
                to.$field = word(value, [$off, $on].into_iter())? == $on;
                Ok(())
            },
            get: |from| Scalar::text(if from.$field { $on } else { $off }),
        }
    };
}

/// A field that is true or false.
macro_rules! bool_key {
    ($path:literal, $field:ident) => {
        Key {
            path: $path,
            expected: || "true or false".into(),
            set: |to, value| {
                to.$field = boolean(value)?;
                Ok(())
            },
            get: |from| Scalar::Bool(from.$field),
        }
    };
}

pub(super) use {bool_key, choice_key, flag_key};

/// The words of an enum, for messages.
pub(super) fn names_of<E: Named>() -> String {
    either(&E::NAMES.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>())
}

/// Words, for messages.
pub(super) fn words_of(words: &[&str]) -> String {
    either(&words.iter().map(|word| quoted(word)).collect::<Vec<_>>())
}
