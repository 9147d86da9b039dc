//! Cpulists: `0-3,16-19`, libvirt's `^2`, the kernel's `0-31:2/4`, taskset's `0-30:2`.
//!
//! Sources: libvirt `virBitmapParse` (exclusion), kernel
//! `Documentation/admin-guide/kernel-parameters.rst` ("cpu lists": `start-end:used/group`),
//! util-linux `taskset(1)` (`start-end:stride`).

use crate::types::ids::Id;
use crate::types::idset::IdSet;

/// Largest id that a cpulist may name: libvirt's mask length (`VIR_DOMAIN_CPUMASK_LEN`, 16384) less
/// one.
pub(crate) const MAX_ID: u32 = 16_383;

/// Error in a cpulist, with its position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at character {} of '{text}'", .position + 1)]
pub struct CpulistError {
    /// List as it was given, cut to 60 characters.
    pub text: String,
    /// Byte offset of the wrong piece.
    pub position: usize,
    /// Description of the error.
    pub problem: CpulistProblem,
}

/// Fault of one item of a cpulist. Texts are cut to 60 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpulistProblem {
    /// Stride in a list that may have none.
    #[error("a stride, which has no place here")]
    Stride,
    /// Exclusion at the beginning of a list.
    #[error("an exclusion with nothing before it to exclude from")]
    NothingToExclude,
    /// Stride after a single number.
    #[error("'{0}' has a stride but no range")]
    StrideWithoutRange(String),
    /// Range whose first number is above its last.
    #[error("range {0}-{1} runs backwards")]
    Backwards(u32, u32),
    /// Group that is empty, or smaller than the part of it that is used.
    #[error("'{item}' takes {used} of every {group}")]
    Group {
        /// Item of the list.
        item: String,
        /// Number of ids that are used of each group.
        used: u32,
        /// Size of a group.
        group: u32,
    },
    /// Empty text in the place of a number.
    #[error("a number is missing")]
    NoNumber,
    /// Text that is no number.
    #[error("'{0}' is not a number")]
    NotANumber(String),
    /// Number above [`MAX_ID`].
    #[error("{0} is above {MAX_ID}, the largest libvirt knows")]
    TooLarge(String),
}

/// Reads a cpulist. White space around items is ignored; the empty text is the empty set.
///
/// # Errors
/// A text in none of the forms above, a range that runs backwards, a number above [`MAX_ID`], or a
/// list that begins with an exclusion (use [`parse_within`] where there is a whole to exclude
/// from).
pub fn parse<T: Id>(text: &str) -> Result<IdSet<T>, CpulistError> {
    read(text, None)
}

/// Reads a cpulist in the form that libvirt and virtfit write, without strides. A few bytes of
/// strides can name thousands of ranges, and the writer of the list may not be trusted.
///
/// # Errors
/// The errors of [`parse`], or a stride.
pub(crate) fn parse_plain<T: Id>(text: &str) -> Result<IdSet<T>, CpulistError> {
    match text.find(':') {
        None => read(text, None),
        Some(position) => Err(CpulistError {
            text: shorten(text),
            position,
            problem: CpulistProblem::Stride,
        }),
    }
}

/// Reads a cpulist like [`parse`], but a list whose first item is an exclusion starts from `whole`:
/// `^0` is every id but 0.
///
/// # Errors
/// The errors of [`parse`], except an exclusion at the beginning.
pub fn parse_within<T: Id>(text: &str, whole: &IdSet<T>) -> Result<IdSet<T>, CpulistError> {
    read(text, Some(whole))
}

fn read<T: Id>(text: &str, whole: Option<&IdSet<T>>) -> Result<IdSet<T>, CpulistError> {
    let mut set = IdSet::new();
    if text.trim().is_empty() {
        return Ok(set);
    }
    let mut position = 0;
    for (index, raw) in text.split(',').enumerate() {
        let start = position + (raw.len() - raw.trim_start().len());
        position += raw.len() + 1;
        let item = raw.trim();
        let fail = |problem| CpulistError {
            text: shorten(text),
            position: start,
            problem,
        };
        if let Some(excluded) = item.strip_prefix('^') {
            if index == 0 {
                match whole {
                    Some(whole) => set = whole.clone(),
                    None => return Err(fail(CpulistProblem::NothingToExclude)),
                }
            }
            match range(excluded.trim_start()).map_err(fail)? {
                // A single number is removed directly: a set for it would be as large as the
                // number.
                Items {
                    first,
                    last,
                    group: 1,
                    ..
                } if first == last => drop(set.remove(T::new(first))),
                items => set = set.difference(&items.set()),
            }
        } else {
            range(item).map_err(fail)?.add_to(&mut set);
        }
    }
    Ok(set)
}

/// Ids of one item of a list: from `first` to `last`, the first `used` of each `group` of ids.
#[derive(Debug, Clone, Copy)]
struct Items {
    first: u32,
    last: u32,
    used: u32,
    group: u32,
}

impl Items {
    fn add_to<T: Id>(self, set: &mut IdSet<T>) {
        let Self {
            first,
            last,
            used,
            group,
        } = self;
        if used == group {
            return set.insert_range(first, last);
        }
        let mut from = first;
        while from <= last {
            set.insert_range(from, last.min(from.saturating_add(used - 1)));
            from = from.saturating_add(group);
        }
    }

    fn set<T: Id>(self) -> IdSet<T> {
        let mut set = IdSet::new();
        self.add_to(&mut set);
        set
    }
}

/// Reads one item: `7`, `0-7`, `0-7:2`, `0-31:2/4`.
fn range(item: &str) -> Result<Items, CpulistProblem> {
    let (span, pattern) = match item.split_once(':') {
        Some((span, pattern)) => (span, Some(pattern)),
        None => (item, None),
    };
    let (first, last) = match span.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None if pattern.is_some() => return Err(CpulistProblem::StrideWithoutRange(shorten(item))),
        None => {
            let only = number(span)?;
            (only, only)
        }
    };
    if first > last {
        return Err(CpulistProblem::Backwards(first, last));
    }
    let (used, group) = match pattern {
        None => (1, 1),
        Some(pattern) => match pattern.split_once('/') {
            Some((used, group)) => (number(used)?, number(group)?),
            None => (1, number(pattern)?),
        },
    };
    if group == 0 || used == 0 || used > group {
        return Err(CpulistProblem::Group {
            item: shorten(item),
            used,
            group,
        });
    }
    Ok(Items {
        first,
        last,
        used,
        group,
    })
}

fn number(digits: &str) -> Result<u32, CpulistProblem> {
    let digits = digits.trim();
    if digits.is_empty() {
        return Err(CpulistProblem::NoNumber);
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CpulistProblem::NotANumber(shorten(digits)));
    }
    match digits.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(id),
        _ => Err(CpulistProblem::TooLarge(shorten(digits))),
    }
}

/// Cuts a text for a message to 60 characters.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_string(),
    }
}
