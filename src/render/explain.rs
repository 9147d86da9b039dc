//! Values of changes in words, and their consequences.

use crate::types::ids::KiB;

/// Words a value for people. A topology (`sockets=1 dies=1 cores=2 threads=2`, with or without
/// quotes) becomes `1 socket, 2 cores, 2 threads`; amounts of memory are given in their largest
/// unit; everything else stays.
pub(crate) fn value(text: &str) -> String {
    topology(text).unwrap_or_else(|| amounts(text))
}

/// Changes `2048 KiB` to `2 MiB`, at every place in a text.
fn amounts(text: &str) -> String {
    let mut pieces = text.split(" KiB").peekable();
    let mut out = String::with_capacity(text.len());
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            out.push_str(piece);
            break;
        }
        let digits = piece.len() - piece.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (before, number) = piece.split_at(piece.len() - digits);
        match number.parse() {
            Ok(kib) => out.push_str(&format!("{before}{}", KiB(kib))),
            Err(_) => out.push_str(&format!("{piece} KiB")),
        }
    }
    out
}

/// Returns the topology libvirt gives a guest that asks for none: a socket per vCPU.
pub(crate) fn default_topology(vcpus: usize) -> String {
    crate::types::plural::counted(vcpus, "socket")
}

fn topology(text: &str) -> Option<String> {
    let mut parts = Vec::new();
    let body = text.trim().trim_start_matches("<topology").trim_end_matches("/>");
    for pair in body.split([' ', ',']).filter(|pair| !pair.is_empty()) {
        let (name, number) = pair.split_once('=')?;
        let number: usize = number.trim_matches(['\'', '"']).parse().ok()?;
        let noun = match name {
            "sockets" => "socket",
            "dies" => "die",
            "clusters" => "cluster",
            "cores" => "core",
            "threads" => "thread",
            _ => return None,
        };
        // Every guest without dies or clusters is shown with one.
        if number != 1 || !matches!(noun, "die" | "cluster") {
            parts.push(crate::types::plural::counted(number, noun));
        }
    }
    if parts.is_empty() {
        None
    } else {
        Some(parts.join(", "))
    }
}

/// Returns a consequence of a change that an administrator should know of.
pub(crate) fn consequence(kind: &str, to: Option<&str>) -> Option<&'static str> {
    match (kind, to) {
        ("cpu mode", Some(to)) if to.contains("host-passthrough") => {
            Some("migrates only to hosts with this CPU model")
        }
        ("memory locked", Some(_)) => {
            Some("all its memory stays in RAM; it cannot be swapped or ballooned away")
        }
        ("memballoon", Some("none")) => Some("its memory cannot be changed while it runs"),
        ("pmu", Some("off")) => Some("no hardware performance counters (perf) inside the guest"),
        ("guest cells", Some(_)) => {
            Some("the guest sees NUMA nodes; its memory cannot be split again while it runs")
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn topologies_are_told_in_words() {
        for (given, want) in [
            (
                "sockets=1 dies=1 clusters=1 cores=2 threads=2",
                "1 socket, 2 cores, 2 threads",
            ),
            (
                "sockets='2' dies='4' cores='1' threads='1'",
                "2 sockets, 4 dies, 1 core, 1 thread",
            ),
            (
                "<topology sockets='1' cores='4' threads='1'/>",
                "1 socket, 4 cores, 1 thread",
            ),
            ("1 socket, 2 cores", "1 socket, 2 cores"),
            ("host-model", "host-model"),
            ("0-3,16", "0-3,16"),
            ("", ""),
            ("2048 KiB", "2 MiB"),
            (
                "0-13: 8388608 KiB; 14-19: 5032961 KiB",
                "0-13: 8 GiB; 14-19: 5032961 KiB",
            ),
            ("some KiB", "some KiB"),
            ("99999999999999999999999 KiB", "99999999999999999999999 KiB"),
        ] {
            assert_eq!(value(given), want, "{given}");
        }
    }
}
