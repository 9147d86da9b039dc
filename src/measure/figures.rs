//! Figures of guests, from the counters of some moments.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::host::Host;
use crate::measure::VERSION;
use crate::measure::data::{Figure, Guest, Kind, Measurement, Other, Pages, Thread};
use crate::measure::sampler::{Moment, Rest, Subject, Watched};
use crate::measure::sums::{Seats, Sums};
use crate::types::guest_thread::vcpu_of_role;

/// Number of others that are named.
const OTHERS: usize = 8;
/// Part of a guest's running time that makes a node one of those where it runs: a hundredth.
const RUNS_THERE: u64 = 100;

/// Makes the figures of guests. `names`: guests that run, by process; `began`: seconds since 1970.
pub(crate) fn measurement(
    host: &Host,
    subjects: &[Subject],
    names: &BTreeMap<u32, String>,
    moments: &[Moment],
    began: u64,
) -> Measurement {
    let seats = Seats::of(host);
    let borders: Vec<usize> = (0..moments.len())
        .filter(|at| moments.get(*at).is_some_and(|moment| moment.rest.is_some()))
        .collect();
    let slices: Vec<&[Moment]> = borders
        .windows(2)
        .filter_map(|pair| moments.get(*pair.first()?..=*pair.last()?))
        .collect();
    let guests = subjects
        .iter()
        .map(|subject| guest(subject, &slices, &seats, names));
    Measurement {
        version: VERSION,
        began,
        seconds: rounded(seconds(moments)),
        samples: moments.len(),
        guests: guests.collect(),
    }
}

fn guest(subject: &Subject, slices: &[&[Moment]], seats: &Seats, names: &BTreeMap<u32, String>) -> Guest {
    // Each thread in each slice; everything else is a sum of these.
    let table: Vec<(&Watched, Vec<Sums>)> = subject
        .threads
        .iter()
        .map(|thread| {
            let each = slices.iter().map(|slice| Sums::of(thread, slice, seats));
            (thread, each.collect())
        })
        .collect();
    let vcpus = || table.iter().filter(|(thread, _)| is_vcpu(thread));
    let whole = Sums::all(vcpus().flat_map(|(_, sums)| sums));
    let by_slice: Vec<(Sums, f64)> = slices
        .iter()
        .enumerate()
        .map(|(at, slice)| {
            let sums = Sums::all(vcpus().filter_map(|(_, sums)| sums.get(at)));
            (sums, seconds(slice))
        })
        .collect();
    let length = by_slice.iter().map(|(_, length)| length).sum();
    let figures = Kind::ALL.map(|kind| match kind {
        Kind::Remote => figure(kind, remote(subject, &whole), &[]),
        _ => {
            let values = by_slice.iter();
            let values = values.filter_map(|(sums, length)| sums.value(kind, *length));
            figure(kind, whole.value(kind, length), &values.collect::<Vec<_>>())
        }
    });
    let rests = || {
        let first = slices.first().and_then(|slice| slice.first());
        let ends = slices.iter().filter_map(|slice| slice.last());
        first
            .into_iter()
            .chain(ends)
            .filter_map(|moment| moment.rest.as_ref())
    };
    let exits = |rest: Option<&Rest>| rest?.exits.get(&subject.pid).copied();
    let exits = (exits(rests().next()), exits(rests().next_back()));
    let pages = |((node, page), kib): (&(_, _), &_)| Pages {
        node: *node,
        page_kib: *page,
        kib: *kib,
    };
    Guest {
        name: subject.name.clone(),
        uuid: subject.uuid.clone(),
        profile: subject.profile.clone(),
        figures: figures.to_vec(),
        threads: table
            .iter()
            .map(|(thread, sums)| threads(thread, Sums::all(sums.iter())))
            .collect(),
        memory: subject
            .memory
            .as_ref()
            .map(|memory| memory.iter().map(pages).collect()),
        others: others(subject, &whole, rests(), names),
        kvm_exits: match exits {
            (Some(before), Some(now)) => now.checked_sub(before),
            _ => None,
        },
    }
}

fn is_vcpu(thread: &Watched) -> bool {
    vcpu_of_role(&thread.role).is_some()
}

fn threads(thread: &Watched, sums: Sums) -> Thread {
    Thread {
        role: thread.role.clone(),
        tid: thread.tid,
        planned: thread.planned.clone(),
        cpus: sums.cpus,
        run_ns: sums.run,
        wait_ns: sums.wait,
        off_cpu_ns: sums.off_cpu,
        off_node_ns: sums.off_node,
        migrations: sums.migrations,
        preempted: sums.preempted,
        moves: sums.moves,
    }
}

/// Makes a figure of its value over the interval and those of the slices.
fn figure(kind: Kind, value: Option<f64>, slices: &[f64]) -> Figure {
    let count = slices.len() as f64;
    let mean = slices.iter().sum::<f64>() / count;
    let squares: f64 = slices.iter().map(|value| (value - mean).powi(2)).sum();
    let spread = (slices.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
    Figure {
        figure: kind,
        value: value.map(rounded),
        spread: spread.map(rounded),
    }
}

/// Returns the share of the memory on nodes where none of the vCPUs ran, in per cent.
fn remote(subject: &Subject, vcpus: &Sums) -> Option<f64> {
    let memory = subject.memory.as_ref()?;
    let ran = vcpus
        .nodes
        .values()
        .fold(0u64, |all, ran| all.saturating_add(*ran));
    let (mut all, mut away) = (0.0, 0.0);
    for ((node, _), kib) in memory {
        let there = vcpus.nodes.get(node).copied().unwrap_or(0);
        all += kib.0 as f64;
        if there == 0 || there < ran / RUNS_THERE {
            away += kib.0 as f64;
        }
    }
    (ran > 0 && all > 0.0).then(|| away * 100.0 / all)
}

/// Lists those who ran on the CPUs of the vCPUs, the greatest first.
fn others<'m>(
    subject: &Subject,
    vcpus: &Sums,
    rests: impl Iterator<Item = &'m Rest>,
    names: &BTreeMap<u32, String>,
) -> Vec<Other> {
    let own = |tid: u32| subject.threads.iter().any(|thread| thread.tid == tid);
    let mut ran: BTreeMap<(bool, &str), u64> = BTreeMap::new();
    for task in rests.flat_map(|rest| &rest.tasks) {
        let here = task.cpu.is_some_and(|cpu| vcpus.cpus.contains(cpu));
        if !here || task.pid == subject.pid || own(task.tid) {
            continue;
        }
        let who = match names.get(&task.pid) {
            Some(guest) => (true, guest.as_str()),
            None => (false, task.name.as_str()),
        };
        let all = ran.entry(who).or_default();
        *all = all.saturating_add(task.ran_ns);
    }
    let mut out: Vec<Other> = ran
        .into_iter()
        .map(|((guest, name), run_ns)| Other {
            name: name.to_string(),
            guest,
            run_ns,
        })
        .collect();
    out.sort_by_key(|other| Reverse(other.run_ns));
    out.truncate(OTHERS);
    out
}

/// Returns the time from the first to the last moment.
fn seconds(moments: &[Moment]) -> f64 {
    let at = |moment: Option<&Moment>| moment.map(|moment| moment.at).unwrap_or_default();
    at(moments.last())
        .saturating_sub(at(moments.first()))
        .as_secs_f64()
}

/// Rounds to thousandths: more is noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
