//! Checks of an hwloc synthetic line before hwloc gets it.
//!
//! The line lists levels from the machine down, each `type:count(attributes)`, e.g. `pack:2
//! [numa(memory=16GB)] l3:1 core:8 pu:2`; levels in brackets hang beside the tree (hwloc manual,
//! "Synthetic topologies").

use crate::types::cpulist::MAX_ID;

/// Returns whether the line gives the memory of a node. If it does not, hwloc invents 1 GiB.
pub(super) fn names_memory(line: &str) -> bool {
    line.to_ascii_lowercase().contains("memory=")
}

/// Refuses lines with more CPUs than libvirt can name: hwloc would build even these, for hours.
///
/// # Errors
/// The problem of the line, for people.
pub(super) fn check_size(line: &str) -> Result<(), String> {
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
        // hwloc accepts all of C's notations; it refuses by itself a text that is no number.
        let count = match count.strip_prefix("0x").or(count.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => count.parse(),
        };
        let too_large = |error: std::num::ParseIntError| match error.kind() {
            std::num::IntErrorKind::PosOverflow => u64::MAX,
            _ => 1,
        };
        cpus.saturating_mul(count.unwrap_or_else(too_large).max(1))
    });
    let most = u64::from(MAX_ID) + 1;
    if cpus > most {
        return Err(format!("it has more than {most} CPUs, the most libvirt knows"));
    }
    Ok(())
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
        assert!(names_memory("numa:2(memory=1GB) pu:1") && !names_memory("numa:2 pu:1"));
    }
}
