//! Status and map of a host as metrics, in the text format 0.0.4 of Prometheus (`docs/metrics.md`).
//!
//! OpenMetrics is not written: node_exporter's textfile collector drops a file that has its types.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use crate::map::{Map, Role};
use crate::status::{Found, Guest, PolicyRead, Status};
use crate::types::ids::KiB;
use crate::types::printable::visible;
use crate::version;

/// Returns all metrics of a host. Each family stands in one piece, its series in the order of nodes
/// and of guests' names.
pub(crate) fn text(status: &Status, map: &Map, found: Found) -> String {
    let mut out = Page::default();
    of_itself(&mut out, status, found);
    of_the_host(&mut out, map);
    of_guests(&mut out, status);
    out.text
}

fn of_itself(out: &mut Page, status: &Status, found: Found) {
    out.family(
        "virtfit_build_info",
        "gauge",
        "Version of virtfit; the value is 1.",
    );
    out.series("virtfit_build_info", &[("version", version::NUMBER)], 1);
    for (name, help, value) in [
        ("virtfit_daemon_up", "1: virtfitd answers.", !found.no_daemon),
        (
            "virtfit_policy_valid",
            "1: the policy has no errors.",
            found.policy == PolicyRead::Whole,
        ),
        ("virtfit_ok", "1: nothing is wrong by virtfit status.", status.ok),
        (
            "virtfit_observe",
            "1: the policy says mode = observe.",
            status.observe,
        ),
        ("virtfit_disabled", "1: virtfit is switched off.", status.disabled),
    ] {
        out.family(name, "gauge", help);
        out.series(name, &[], u8::from(value));
    }
    let undecided = status.guests.iter().filter(|guest| guest.undecided.is_some());
    let help = "Guests that started without a decision: others may have their CPUs.";
    out.family("virtfit_undecided_guests", "gauge", help);
    out.series("virtfit_undecided_guests", &[], undecided.count());
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for guest in &status.guests {
        *states.entry(guest.state.as_str()).or_default() += 1;
    }
    out.family("virtfit_guests", "gauge", "Guests by state.");
    for (state, count) in states {
        out.series("virtfit_guests", &[("state", state)], count);
    }
}

fn of_the_host(out: &mut Page, map: &Map) {
    // CPUs of a role that no CPU has are counted, too: a series that comes and goes is no zero.
    out.family("virtfit_cpus", "gauge", "Online CPUs by NUMA node and role.");
    for node in &map.now.nodes {
        let cpus = node.caches.iter().flat_map(|cache| cache.cores.iter().flatten());
        let mut roles: BTreeMap<Role, usize> = Role::ALL.iter().map(|role| (*role, 0)).collect();
        for cpu in cpus {
            *roles.entry(cpu.role).or_default() += 1;
        }
        let id = node.id.to_string();
        for (role, count) in roles {
            out.series("virtfit_cpus", &[("node", &id), ("role", role.word())], count);
        }
    }
    out.family("virtfit_cpus_offline", "gauge", "CPUs that are offline.");
    out.series("virtfit_cpus_offline", &[], map.offline.len());
    let whole = "Memory by NUMA node and page size; small: pages of the usual size.";
    let free = "Part of the memory that may still be given to guests.";
    for (name, help, all) in [
        ("virtfit_memory_bytes", whole, true),
        ("virtfit_memory_free_bytes", free, false),
    ] {
        out.family(name, "gauge", help);
        for node in &map.now.nodes {
            for pool in &node.memory {
                let page = pool.page_kib.map_or("small".to_string(), bytes);
                let labels = [("node", node.id.to_string()), ("page", page)];
                let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
                let amount = if all { pool.total_kib } else { pool.free_kib };
                out.series(name, &labels, bytes(amount));
            }
        }
    }
}

/// Value of one guest.
type OfGuest = fn(&Guest) -> usize;

fn of_guests(out: &mut Page, status: &Status) {
    let running: Vec<&Guest> = status
        .guests
        .iter()
        .filter(|guest| guest.state != "shut off")
        .collect();
    let gauges: [(&str, &str, OfGuest); 4] = [
        (
            "virtfit_guest_held_cpus",
            "CPUs that a guest holds, withheld siblings included.",
            |guest| guest.held.len(),
        ),
        (
            "virtfit_guest_floating_cpus",
            "CPUs on which a guest's vCPUs float.",
            |guest| guest.floating.len(),
        ),
        (
            "virtfit_guest_threads_astray",
            "Threads of a guest that are, or may run, where they should not.",
            |guest| {
                guest
                    .threads
                    .iter()
                    .filter(|thread| thread.wrong.is_some())
                    .count()
            },
        ),
        (
            "virtfit_guest_wrong",
            "1: something is wrong with a guest by virtfit status.",
            |guest| usize::from(guest.notes.iter().any(|note| note.wrong)),
        ),
    ];
    for (name, help, value) in gauges {
        out.family(name, "gauge", help);
        for guest in &running {
            out.series(name, &[("domain", &guest.name)], value(guest));
        }
    }
    let run = "Time that threads of a guest ran.";
    let wait = "Time that threads of a guest were ready to run and waited for a CPU.";
    for (name, help, is_run) in [
        ("virtfit_guest_run_seconds_total", run, true),
        ("virtfit_guest_wait_seconds_total", wait, false),
    ] {
        out.family(name, "counter", help);
        for guest in &running {
            let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
            for thread in &guest.threads {
                let time = if is_run { thread.run_ns } else { thread.wait_ns };
                let kind = thread.role.split(' ').next().unwrap_or_default();
                if let Some(time) = time {
                    let sum = kinds.entry(kind).or_default();
                    *sum = sum.saturating_add(time);
                }
            }
            for (kind, nanoseconds) in kinds {
                let labels = [("domain", guest.name.as_str()), ("threads", kind)];
                out.series(name, &labels, seconds(nanoseconds));
            }
        }
    }
}

fn bytes(amount: KiB) -> String {
    (u128::from(amount.0) * 1024).to_string()
}

/// Writes nanoseconds as seconds, without rounding.
fn seconds(nanoseconds: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    format!("{}.{:09}", nanoseconds / SECOND, nanoseconds % SECOND)
}

/// Metrics as they are written.
#[derive(Debug, Default)]
struct Page {
    text: String,
    /// Series that stand there already: one that came twice would make the whole page unreadable,
    /// and names of guests may look alike once they are safe to show.
    seen: BTreeSet<String>,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.text
            .push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn series(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let series = match labels.is_empty() {
            true => name.to_string(),
            false => format!("{name}{{{}}}", labels.join(",")),
        };
        if self.seen.insert(series.clone()) {
            self.text.push_str(&format!("{series} {value}\n"));
        }
    }
}

/// Escapes the value of a label; characters that a terminal would obey or hide are shown.
fn escaped(value: &str) -> String {
    let value = visible(value);
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_no_series_comes_twice() {
        let mut page = Page::default();
        for name in ["a\"b", "a\\b", "a\nb", "a\u{202e}b", "a\"b"] {
            page.series("x", &[("domain", name)], 1);
        }
        assert_eq!(
            page.text,
            "x{domain=\"a\\\"b\"} 1\nx{domain=\"a\\\\b\"} 1\nx{domain=\"a\\nb\"} 1\nx{domain=\"a\\\\u{202e}b\"} 1\n"
        );
    }

    #[test]
    fn seconds_are_exact() {
        for (nanoseconds, shown) in [
            (0, "0.000000000"),
            (1_500_000_000, "1.500000000"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(seconds(nanoseconds), shown);
        }
    }
}
