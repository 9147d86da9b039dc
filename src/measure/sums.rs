//! Sums over one thread, or the vCPUs of a guest, between some moments.

use std::collections::BTreeMap;

use crate::host::Host;
use crate::host::thread_counts::Counts;
use crate::measure::data::{Kind, Moves};
use crate::measure::sampler::{Moment, Watched};
use crate::types::ids::{HostCpu, NodeId};
use crate::types::idset::{CpuSet, NodeSet};

/// Core, last-level cache and node of a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    core: usize,
    cache: usize,
    pub node: NodeId,
}

/// Seats of all CPUs of a host.
#[derive(Debug)]
pub(crate) struct Seats(BTreeMap<HostCpu, Seat>);

impl Seats {
    /// Lists the seats of a host.
    pub(crate) fn of(host: &Host) -> Self {
        let seats = host.cores.iter().enumerate().flat_map(|(number, core)| {
            let seat = Seat {
                core: number,
                cache: core.llc,
                node: core.node,
            };
            core.cpus.iter().map(move |cpu| (*cpu, seat))
        });
        Self(seats.collect())
    }

    fn seat(&self, cpu: HostCpu) -> Option<Seat> {
        self.0.get(&cpu).copied()
    }

    fn nodes(&self, cpus: &CpuSet) -> NodeSet {
        cpus.iter().filter_map(|cpu| Some(self.seat(cpu)?.node)).collect()
    }
}

/// Times and events.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sums {
    /// Nanoseconds run.
    pub run: u64,
    /// Nanoseconds waited for a CPU.
    pub wait: u64,
    /// Nanoseconds run by threads that have a place.
    pub placed: u64,
    /// Part of `placed` outside of the place.
    pub off_cpu: u64,
    /// Part of `placed` on other nodes than those of the place.
    pub off_node: u64,
    /// Moves that the kernel counted.
    pub migrations: Option<u64>,
    /// Times a thread had to leave its CPU.
    pub preempted: Option<u64>,
    /// Moves that were seen.
    pub moves: Moves,
    /// CPUs that were seen.
    pub cpus: CpuSet,
    /// Nanoseconds run, by node.
    pub nodes: BTreeMap<NodeId, u64>,
}

impl Sums {
    /// Sums up one thread over consecutive moments, of which the first and the last have events.
    pub(crate) fn of(thread: &Watched, moments: &[Moment], seats: &Seats) -> Self {
        let mut out = Self::default();
        let own_nodes = seats.nodes(&thread.planned);
        for pair in moments.windows(2) {
            let at = |index: usize| pair.get(index)?.times.get(&thread.tid);
            let (Some(before), Some(now)) = (at(0), at(1)) else {
                continue;
            };
            // Where a counter fell, another thread has the id.
            let (Some(run), Some(wait)) = (
                now.run_ns.checked_sub(before.run_ns),
                now.wait_ns.checked_sub(before.wait_ns),
            ) else {
                continue;
            };
            out.wait = out.wait.saturating_add(wait);
            if run > 0 {
                out.ran(run, (before.cpu, now.cpu), (&thread.planned, &own_nodes), seats);
            }
        }
        let events = |moment: Option<&Moment>| moment?.rest.as_ref()?.counts.get(&thread.tid).copied();
        if let (Some(before), Some(now)) = (events(moments.first()), events(moments.last())) {
            let grown = |of: fn(&Counts) -> Option<u64>| Some(of(&now)?.saturating_sub(of(&before)?));
            out.migrations = grown(|counts| counts.migrations);
            out.preempted = grown(|counts| counts.preempted);
        }
        out
    }

    /// Counts time that a thread ran. All of it counts for the CPU on which it was seen last.
    fn ran(
        &mut self,
        run: u64,
        (before, now): (Option<HostCpu>, Option<HostCpu>),
        (planned, own_nodes): (&CpuSet, &NodeSet),
        seats: &Seats,
    ) {
        let add = |sum: &mut u64| *sum = sum.saturating_add(run);
        add(&mut self.run);
        let Some(cpu) = now else {
            return;
        };
        self.cpus.insert(cpu);
        let seat = seats.seat(cpu);
        if let Some(seat) = seat {
            add(self.nodes.entry(seat.node).or_default());
        }
        if !planned.is_empty() {
            add(&mut self.placed);
            if !planned.contains(cpu) {
                add(&mut self.off_cpu);
            }
            if seat.is_some_and(|seat| !own_nodes.contains(seat.node)) {
                add(&mut self.off_node);
            }
        }
        let Some(from) = before.filter(|before| *before != cpu) else {
            return;
        };
        if let (Some(from), Some(to)) = (seats.seat(from), seat) {
            let count = match (from.node == to.node, from.cache == to.cache, from.core == to.core) {
                (false, ..) => &mut self.moves.nodes,
                (_, false, _) => &mut self.moves.node,
                (_, _, false) => &mut self.moves.cache,
                _ => &mut self.moves.core,
            };
            *count += 1;
        }
    }

    /// Adds up several sums. Events that are not known of one are known of none.
    pub(crate) fn all<'s>(sums: impl Iterator<Item = &'s Self>) -> Self {
        let mut out = Self {
            migrations: Some(0),
            preempted: Some(0),
            ..Self::default()
        };
        for sum in sums {
            for (all, one) in [
                (&mut out.run, sum.run),
                (&mut out.wait, sum.wait),
                (&mut out.placed, sum.placed),
                (&mut out.off_cpu, sum.off_cpu),
                (&mut out.off_node, sum.off_node),
                (&mut out.moves.core, sum.moves.core),
                (&mut out.moves.cache, sum.moves.cache),
                (&mut out.moves.node, sum.moves.node),
                (&mut out.moves.nodes, sum.moves.nodes),
            ] {
                *all = all.saturating_add(one);
            }
            let both = |all: Option<u64>, one: Option<u64>| Some(all?.saturating_add(one?));
            out.migrations = both(out.migrations, sum.migrations);
            out.preempted = both(out.preempted, sum.preempted);
            out.cpus.extend_from(&sum.cpus);
            for (node, run) in &sum.nodes {
                let all = out.nodes.entry(*node).or_default();
                *all = all.saturating_add(*run);
            }
        }
        out
    }

    /// Returns the value of a figure over so many seconds; `None`: not known. The memory is not in
    /// these sums.
    pub(crate) fn value(&self, kind: Kind, seconds: f64) -> Option<f64> {
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 * 100.0 / whole as f64);
        let rate = |count: Option<u64>| Some(count? as f64 / seconds).filter(|rate| rate.is_finite());
        let wanted = self.run.saturating_add(self.wait);
        match kind {
            Kind::Load => rate(Some(wanted)).map(|ns| ns / 1e9),
            Kind::Waited => share(self.wait, wanted),
            Kind::OffNode => share(self.off_node, self.placed),
            Kind::OffCpu => share(self.off_cpu, self.placed),
            Kind::Migrations => rate(self.migrations),
            Kind::Preempted => rate(self.preempted),
            Kind::Remote => None,
        }
    }
}
