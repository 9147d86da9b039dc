//! Checks of an hwloc synthetic line before hwloc gets it.
//!
//! The line lists levels from the machine down, each `type:count(attributes)`, e.g. `pack:2
//! [numa(memory=16GB)] l3:1 core:8 pu:2`; levels in brackets hang beside the tree (hwloc manual,
//! "Synthetic topologies").

use crate::types::cpulist::MAX_ID;

/// Reason why hwloc does not get a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntheticError {
    /// More CPUs than libvirt can name.
    #[error("it has more than {0} CPUs, the most libvirt knows")]
    TooLarge(u64),
    /// Number of an object that libvirt cannot name.
    #[error("index {0} is not one of 0 to {MAX_ID}, all that libvirt knows")]
    Index(String),
}

/// Returns whether the line gives the memory of a node. If it does not, hwloc invents 1 GiB.
pub(super) fn names_memory(line: &str) -> bool {
    line.to_ascii_lowercase().contains("memory=")
}

/// Refuses lines with more CPUs than libvirt can name: hwloc would build even these, for hours.
///
/// # Errors
/// The line has more CPUs.
pub(super) fn check_size(line: &str) -> Result<(), SyntheticError> {
    let mut depth = 0usize;
    let mut outside = String::new();
    for character in line.chars() {
        match character {
            '(' | '[' => depth += 1,
            // An attribute list ends its level: `core:2(x)pu:2` is two levels.
            ')' | ']' => {
                depth = depth.saturating_sub(1);
                outside.push(' ');
            }
            _ if depth == 0 => outside.push(character),
            _ => {}
        }
    }
    let cpus = outside.split_whitespace().fold(1u64, |cpus, level| {
        let count = level.rsplit(':').next().unwrap_or(level);
        cpus.saturating_mul(number(count).unwrap_or(1).max(1))
    });
    let most = u64::from(MAX_ID) + 1;
    if cpus > most {
        return Err(SyntheticError::TooLarge(most));
    }
    Ok(())
}

/// Refuses lines that give an object a number above those that libvirt can name: hwloc takes
/// numbers of up to 32 bits, with bitmaps of that size, and hwlocality panics at the largest.
///
/// # Errors
/// The line gives an object another number.
pub(super) fn check_indexes(line: &str) -> Result<(), SyntheticError> {
    // `indexes=0,2,1,3`, or how they interleave: `2*8:1*2`, also with types, `node:core`.
    for (at, name) in line.match_indices("indexes=") {
        let list = line.get(at + name.len()..).unwrap_or_default();
        let list = list.split([')', ']', ' ', '(']).next().unwrap_or_default();
        for word in list.split([',', ':', '*']) {
            if word.starts_with('-') || number(word).is_some_and(|index| index > u64::from(MAX_ID)) {
                return Err(SyntheticError::Index(word.to_string()));
            }
        }
    }
    Ok(())
}

/// Reads a number in C's notations, as hwloc does; `None` for a text that is no number, which hwloc
/// refuses by itself.
fn number(text: &str) -> Option<u64> {
    let parsed = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.strip_prefix('+').unwrap_or(text).parse(),
    };
    match parsed {
        Ok(number) => Some(number),
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => Some(u64::MAX),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table = [
            ("pack:2 numa:1(memory=16GB) l3:1 core:8 pu:2", true),
            ("pack:2 [numa(memory=16777216000)] core:8 pu:2", true),
            ("pu:16384", true),
            ("pu:16385", false),
            ("2 4 8192", false),
            ("core:2 pu:99999999", false),
            ("core:2(indexes=1,0)pu:99999", false),
            ("pu:99999999999999999999999", false),
            ("pu:0xffffff", false),
            ("garbage", true),
            ("", true),
        ];
        for (line, fits) in table {
            assert_eq!(check_size(line).is_ok(), fits, "{line}");
        }
        for (line, wrong) in [
            ("pu:4(indexes=0,2,1,3)", None),
            ("pack:2 core:2 pu:2(indexes=4*2:1*4)", None),
            ("pu:4(indexes=core:pu)", None),
            ("pu:2(indexes=0,16383)", None),
            ("pu:2(indexes=0,16384)", Some("16384")),
            ("pu:2(indexes=4294967294,0)", Some("4294967294")),
            ("pu:2(indexes=0,0xffffffff)", Some("0xffffffff")),
            (
                "pu:2(indexes=0,99999999999999999999999)",
                Some("99999999999999999999999"),
            ),
            ("pu:2(indexes=-1,0)", Some("-1")),
            ("pu:2(indexes=2*2147483648:1*2)", Some("2147483648")),
            ("[numa(memory=1GB indexes=3000000000)] pu:2", Some("3000000000")),
            (
                "numa:2(indexes=0,1) core:2(indexes=0,4000000000) pu:1",
                Some("4000000000"),
            ),
        ] {
            let said = check_indexes(line).err();
            let wrong = wrong.map(|number| SyntheticError::Index(number.into()));
            assert_eq!(said, wrong, "{line}");
        }
        assert!(names_memory("numa:2(memory=1GB) pu:1") && !names_memory("numa:2 pu:1"));
    }
}
