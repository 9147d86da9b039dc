//! `virtfit measure` as text: the verdict, then the figures of each guest.

mod compared;

use crate::measure::{Comparison, Figure, Guest, Kind, Measurement, Other, Thread};
use crate::render::Style;
use crate::render::escape::clean;
use crate::render::layout::{Line, Paint, cut, finish, paragraph, width};
use crate::types::guest_thread::vcpu_of_role;
use crate::types::ids::KiB;
use crate::types::idset::CpuSet;
use crate::types::plural::counted;

/// Titles of the columns of a guest's threads.
const TITLES: [&str; 8] = [
    "THREAD",
    "CPUS",
    "RAN",
    "WAITED",
    "OFF CPU",
    "OFF NODE",
    "MOVED",
    "PREEMPTED",
];
/// Widest list of CPUs.
const CPUS: usize = 16;
/// Smallest share of a guest's CPUs that is worth naming another for, in per cent.
const WORTH_NAMING: f64 = 0.1;

/// Returns the whole text.
pub(crate) fn text(measurement: &Measurement, compared: Option<&Comparison>, style: &Style) -> String {
    let mut out = Vec::new();
    if let Some(compared) = compared {
        compared::draw(compared, measurement.began, style, &mut out);
        out.push(Line::new());
    }
    if measurement.guests.is_empty() {
        out.push(Line::of("no guest runs on this host", Paint::Plain));
        return finish(&out, style);
    }
    let said = format!("Measured for {:.0} s.", measurement.seconds);
    out.push(Line::of(said, Paint::Plain));
    for guest in &measurement.guests {
        out.push(Line::new());
        one(guest, measurement.seconds, style, &mut out);
    }
    finish(&out, style)
}

/// Draws the figures of a guest.
fn one(guest: &Guest, seconds: f64, style: &Style, out: &mut Vec<Line>) {
    let profile = guest.profile.as_ref();
    let profile = profile.map(|name| format!(" ({name})")).unwrap_or_default();
    let said = clean(&format!("{}{profile}", guest.name), style.unicode);
    out.push(Line::of(cut(&said, style.columns(), style), Paint::Strong));
    let mut rows = vec![TITLES.map(String::from), whole(guest, seconds)];
    rows.extend(roles(&guest.threads).iter().map(|thread| row(thread, seconds)));
    let mut widths = [0; TITLES.len()];
    for row in &rows {
        for (most, cell) in widths.iter_mut().zip(row) {
            *most = (*most).max(width(cell));
        }
    }
    for (index, row) in rows.iter().enumerate() {
        let mut line = Line::of("  ", Paint::Plain);
        let mut column = 2;
        for (at, (cell, columns)) in row.iter().zip(widths).enumerate() {
            // Words begin, and numbers end, in one column.
            let indent = if at < 2 { 0 } else { columns - width(cell) };
            let paint = if index == 0 { Paint::Strong } else { Paint::Plain };
            line.pad_to(column + indent).push(cell.clone(), paint);
            column += columns + 2;
        }
        out.push(line);
    }
    let mut below = |said: String| paragraph(out, "  ", 4, &clean(&said, style.unicode), Paint::Plain, style);
    if let Some(memory) = guest.memory.as_ref().filter(|memory| !memory.is_empty()) {
        let parts = memory.iter().map(|pages| {
            let (node, page) = (pages.node, pages.page_kib);
            format!("node {node} {} ({page} pages)", amount(pages.kib))
        });
        let remote = match of(guest, Kind::Remote) {
            Some(share) => format!("; {share:.1}% on nodes where it did not run"),
            None => String::new(),
        };
        below(format!(
            "memory: {}{remote}",
            parts.collect::<Vec<_>>().join(", ")
        ));
    }
    let others = others(guest, seconds);
    if !others.is_empty() {
        below(format!("others on the CPUs of its vCPUs: {}", others.join(", ")));
    }
    if let Some(exits) = guest.kvm_exits {
        below(format!("KVM exits: {:.0} a second", exits as f64 / seconds));
    }
}

/// Makes one row of all threads with a role, in the order of the roles' numbers.
fn roles(threads: &[Thread]) -> Vec<Thread> {
    let mut out: Vec<Thread> = Vec::new();
    for thread in threads {
        match out.iter_mut().find(|row| row.role == thread.role) {
            Some(row) => {
                row.run_ns = row.run_ns.saturating_add(thread.run_ns);
                row.wait_ns = row.wait_ns.saturating_add(thread.wait_ns);
                row.off_cpu_ns = row.off_cpu_ns.saturating_add(thread.off_cpu_ns);
                row.off_node_ns = row.off_node_ns.saturating_add(thread.off_node_ns);
                row.cpus.extend_from(&thread.cpus);
                let both = |all: Option<u64>, one: Option<u64>| Some(all?.saturating_add(one?));
                row.migrations = both(row.migrations, thread.migrations);
                row.preempted = both(row.preempted, thread.preempted);
            }
            None => out.push(thread.clone()),
        }
    }
    // vCPUs come first, by number.
    let number = |role: &str| vcpu_of_role(role)?.parse::<u32>().ok();
    out.sort_by_key(|row| number(&row.role).map_or((1, 0), |number| (0, number)));
    out
}

/// Makes the row of all vCPUs together, from the figures.
fn whole(guest: &Guest, seconds: f64) -> [String; 8] {
    let vcpus = guest
        .threads
        .iter()
        .filter(|thread| vcpu_of_role(&thread.role).is_some());
    let ran: f64 = vcpus.clone().map(|thread| thread.run_ns as f64).sum();
    let shown = |kind| value(kind, of(guest, kind));
    [
        counted(vcpus.count(), "vCPU"),
        String::new(),
        percent(ran / 1e9, seconds),
        shown(Kind::Waited),
        shown(Kind::OffCpu),
        shown(Kind::OffNode),
        shown(Kind::Migrations),
        shown(Kind::Preempted),
    ]
}

fn row(thread: &Thread, seconds: f64) -> [String; 8] {
    let (run, wait) = (thread.run_ns as f64, thread.wait_ns as f64);
    let placed = |part: u64| match thread.planned.is_empty() {
        true => "-".to_string(),
        false => percent(part as f64, run),
    };
    let rate =
        |count: Option<u64>| count.map_or("-".into(), |count| format!("{:.1}/s", count as f64 / seconds));
    let cpus = match thread.cpus.is_empty() {
        true => "-".to_string(),
        false => thread.cpus.to_string(),
    };
    [
        thread.role.clone(),
        match width(&cpus) > CPUS {
            true => format!("{} CPUs", thread.cpus.len()),
            false => cpus,
        },
        percent(run / 1e9, seconds),
        percent(wait, run + wait),
        placed(thread.off_cpu_ns),
        placed(thread.off_node_ns),
        rate(thread.migrations),
        rate(thread.preempted),
    ]
}

fn others(guest: &Guest, seconds: f64) -> Vec<String> {
    let mut cpus = CpuSet::new();
    let vcpus = guest
        .threads
        .iter()
        .filter(|thread| vcpu_of_role(&thread.role).is_some());
    vcpus.for_each(|thread| cpus.extend_from(&thread.cpus));
    let share = |other: &Other| other.run_ns as f64 / 1e7 / seconds / cpus.len() as f64;
    let word = |other: &Other| {
        let kind = if other.guest { "guest " } else { "" };
        format!("{kind}{} {:.1}%", other.name, share(other))
    };
    let worth = guest.others.iter().filter(|other| share(other) >= WORTH_NAMING);
    worth.map(word).collect()
}

fn of(guest: &Guest, kind: Kind) -> Option<f64> {
    let found = |figure: &&Figure| figure.figure == kind;
    guest.figures.iter().find(found)?.value
}

fn percent(part: f64, whole: f64) -> String {
    match whole > 0.0 {
        true => format!("{:.1}%", part * 100.0 / whole),
        false => "-".into(),
    }
}

fn value(kind: Kind, value: Option<f64>) -> String {
    let Some(value) = value else {
        return "-".into();
    };
    match kind {
        Kind::Load => format!("{value:.2}"),
        Kind::Waited | Kind::OffNode | Kind::Remote | Kind::OffCpu => format!("{value:.1}%"),
        Kind::Migrations | Kind::Preempted => format!("{value:.1}/s"),
    }
}

fn amount(kib: KiB) -> String {
    match kib < KiB::GIB {
        true => format!("{} MiB", kib.0 / KiB::MIB.0),
        false => kib.in_gib(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
