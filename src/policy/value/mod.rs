//! TOML values, and the readers that turn them into settings or say what was expected.

use std::fmt;

use serde::Serialize;

use crate::policy::names::Named;
use crate::policy::profile::VcpuList;
use crate::policy::source::printable;
use crate::policy::suggest::nearest;
use crate::types::cpulist;
use crate::types::ids::{KiB, VcpuId};
use crate::types::idset::VcpuSet;
use crate::types::printable::is_unsafe;

/// Plain TOML value; in JSON the value alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// String.
    Text(String),
    /// Boolean.
    Bool(bool),
    /// Integer.
    Int(i64),
    /// List of strings, in file order.
    List(Vec<String>),
}

impl Scalar {
    /// Makes a string value.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for Scalar {
    /// Writes TOML that reads back as an equal value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Bool(on) => write!(f, "{on}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::List(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                write!(f, "[{}]", texts.join(", "))
            }
        }
    }
}

/// Writes a TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => out.push_str(&match u32::from(c) {
                short @ 0..=0xffff => format!("\\u{short:04X}"),
                long => format!("\\U{long:08X}"),
            }),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Reason why a value is not accepted; the caller adds key, value and what is expected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// Description, where there is more to say than what is expected.
    pub problem: Option<String>,
    /// Value that was probably meant.
    pub suggestion: Option<String>,
    /// Byte offset of the wrong piece in a string value.
    pub offset: Option<usize>,
}

impl Fault {
    /// Makes a fault with a description.
    pub(crate) fn because(problem: impl Into<String>) -> Self {
        Self {
            problem: Some(problem.into()),
            ..Self::default()
        }
    }

    /// Makes a fault with the value that was probably meant.
    pub(crate) fn meant(suggestion: impl Into<String>) -> Self {
        Self {
            suggestion: Some(suggestion.into()),
            ..Self::default()
        }
    }
}

impl From<cpulist::CpulistError> for Fault {
    fn from(error: cpulist::CpulistError) -> Self {
        Self {
            problem: Some(error.problem.to_string()),
            suggestion: None,
            offset: Some(error.position),
        }
    }
}

/// Reads one of an enum's words.
///
/// # Errors
/// Any other value, with the nearest word as the suggestion.
pub(crate) fn choice<E: Named>(value: &Scalar) -> Result<E, Fault> {
    word(value, E::NAMES.iter().map(|(name, _)| *name))
        .and_then(|name| E::from_name(name).ok_or_else(Fault::default))
}

/// Reads one of some words.
///
/// # Errors
/// The errors of [`choice`].
pub(crate) fn word<'a>(
    value: &Scalar,
    words: impl Iterator<Item = &'a str> + Clone,
) -> Result<&'a str, Fault> {
    match value {
        Scalar::Text(text) => words
            .clone()
            .find(|word| *word == text.as_str())
            .ok_or_else(|| Fault {
                suggestion: nearest(text, words).map(str::to_string),
                ..Fault::default()
            }),
        Scalar::Bool(on) => {
            let same = if *on { "on" } else { "off" };
            Err(words
                .clone()
                .find(|word| *word == same)
                .map_or_else(Fault::default, Fault::meant))
        }
        Scalar::Int(_) | Scalar::List(_) => Err(Fault::default()),
    }
}

/// Reads true or false.
///
/// # Errors
/// Any other value.
pub(crate) fn boolean(value: &Scalar) -> Result<bool, Fault> {
    match value {
        Scalar::Bool(on) => Ok(*on),
        Scalar::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Err(Fault::meant("true")),
            "false" | "no" | "off" => Err(Fault::meant("false")),
            _ => Err(Fault::default()),
        },
        Scalar::Int(_) | Scalar::List(_) => Err(Fault::default()),
    }
}

/// Reads a whole number from `least` to `most`.
///
/// # Errors
/// Any other value; for a number in quotes the suggestion is the number without them.
pub(crate) fn number(value: &Scalar, least: u32, most: u32) -> Result<u32, Fault> {
    let fits = |number: i64| u32::try_from(number).ok().filter(|n| (least..=most).contains(n));
    match value {
        Scalar::Int(raw) => fits(*raw).ok_or_else(Fault::default),
        Scalar::Text(text) => match text.trim().parse::<i64>().ok().and_then(fits) {
            Some(number) => Err(Fault {
                problem: Some("a number stands without quotes".into()),
                suggestion: Some(number.to_string()),
                offset: None,
            }),
            None => Err(Fault::default()),
        },
        Scalar::Bool(_) | Scalar::List(_) => Err(Fault::default()),
    }
}

/// Reads a size: digits and one of K, M, G, T, in powers of 1024; `0` needs no unit.
///
/// # Errors
/// Any other text, and 2^63 bytes or more.
pub(crate) fn size(text: &str) -> Result<KiB, Fault> {
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    if number.is_empty() {
        return Err(Fault::default());
    }
    let shift = match unit {
        "K" => 0,
        "M" => 10,
        "G" => 20,
        "T" => 30,
        "" if number.bytes().all(|b| b == b'0') => return Ok(KiB(0)),
        "" => return Err(Fault::because(format!("{} has no unit", printable(number)))),
        _ => {
            let unit = unit.trim_start().to_ascii_uppercase();
            let known = matches!(
                unit.as_str(),
                "K" | "M" | "G" | "T" | "KB" | "MB" | "GB" | "TB" | "KIB" | "MIB" | "GIB" | "TIB"
            );
            return Err(match unit.chars().next().filter(|_| known) {
                Some(letter) => Fault::meant(format!("{number}{letter}")),
                None => Fault::default(),
            });
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift))
        .filter(|kib| *kib <= u64::MAX >> 11)
        .map(KiB)
        .ok_or_else(|| Fault::because(format!("{} is too much", printable(trimmed))))
}

/// Reads a huge page size: a power of two above 4K. Linux has none below 64K; which sizes exist is
/// known only on the host.
///
/// # Errors
/// The errors of [`size`], and other sizes.
pub(crate) fn page_size(text: &str) -> Result<KiB, Fault> {
    let size = size(text)?;
    if size.0 > 4 && size.0.is_power_of_two() {
        return Ok(size);
    }
    Err(Fault::because("a huge page is a power of two above 4K"))
}

/// Writes a size as the policy spells it: `2M`, `1536M`, `0`.
pub(crate) fn size_text(size: KiB) -> String {
    match size.0 {
        0 => "0".into(),
        k if k % (1 << 30) == 0 => format!("{}T", k >> 30),
        k if k % (1 << 20) == 0 => format!("{}G", k >> 20),
        k if k % (1 << 10) == 0 => format!("{}M", k >> 10),
        k => format!("{k}K"),
    }
}

/// Reads a list of the guest's vCPUs into canonical form; `"none"` becomes `""`.
///
/// # Errors
/// A list that [`cpulist::parse_within`] refuses, or a value that is no string.
pub(crate) fn vcpu_list(value: &Scalar) -> Result<VcpuList, Fault> {
    let Scalar::Text(text) = value else {
        return Err(match value {
            Scalar::Int(number) if *number >= 0 => Fault::meant(format!("\"{number}\"")),
            _ => Fault::default(),
        });
    };
    match text.trim() {
        "" | "none" => return Ok(VcpuList::default()),
        "all" => return Ok(VcpuList("all".into())),
        _ => {}
    }
    // Which lists are well formed does not depend on the guest's size: one vCPU stands for any
    // number.
    let set = cpulist::parse_within::<VcpuId>(text, &VcpuSet::first_n(1))?;
    if !text.trim_start().starts_with('^') {
        return Ok(VcpuList(set.to_string()));
    }
    Ok(VcpuList(text.chars().filter(|c| !c.is_whitespace()).collect()))
}

/// Joins words as "a, b or c".
pub(crate) fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
