//! Kinds of keys that both tables have: one word of an enum, one of two words, true or false.

use crate::policy::names::Named;
use crate::policy::value::{either, quoted};

/// Key for a field that is an enum with names ([`Named`]).
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

/// Key for a boolean field that the policy spells as one of two words.
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

/// Key for a boolean field.
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

/// Lists the words of an enum for a message.
pub(super) fn names_of<E: Named>() -> String {
    either(&E::NAMES.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>())
}

/// Lists words for a message.
pub(super) fn words_of(words: &[&str]) -> String {
    either(&words.iter().map(|word| quoted(word)).collect::<Vec<_>>())
}
