//! Guest topology that mirrors the chosen CPUs: the guest sees what it runs on.

use crate::domain::Topology;
use crate::host::Host;
use crate::placement::Placed;

/// Returns the sockets, dies, cores and threads that mirror a placement in which every vCPU has one
/// CPU.
///
/// Sockets mirror host packages when all cells are equal; dies mirror last-level caches (that is
/// how QEMU shows an L3, x86 only) when each holds equally many cores. What cannot be shown
/// truthfully is shown as one.
pub(crate) fn topology(host: &Host, placed: &Placed, x86: bool) -> Topology {
    let threads = placed.threads.max(1);
    let cores: Vec<_> = placed
        .vcpus
        .values()
        .step_by(threads as usize)
        .filter_map(|pin| host.core_of(pin.first()?))
        .collect();
    let all = (placed.vcpus.len() as u32 / threads).max(1);
    let whole = cores.len() as u32 == all;
    let packages: Vec<u32> = cores.iter().map(|core| core.package).collect();
    let sockets = if whole { sockets(placed, &packages) } else { 1 };
    let cached = cores
        .iter()
        .all(|core| host.llcs.get(core.llc).is_some_and(|llc| llc.level >= 3));
    let llcs: Vec<usize> = cores.iter().map(|core| core.llc).collect();
    let caches = match x86 && whole && cached {
        true => equal_runs(&llcs).unwrap_or(1),
        false => 1,
    };
    // Dies are counted per socket: a cache must not span two sockets.
    let dies = if caches.is_multiple_of(sockets) {
        caches / sockets
    } else {
        1
    };
    Topology {
        sockets,
        dies,
        clusters: 1,
        cores: all / (sockets * dies),
        threads,
    }
}

/// Returns the topology for a placement in which some vCPUs float: only packages can be shown, as
/// siblings and caches change.
pub(crate) fn packages(host: &Host, placed: &Placed) -> Topology {
    let all = placed.vcpus.len() as u32;
    let packages: Vec<u32> = placed
        .vcpus
        .values()
        .filter_map(|pin| {
            let mut packages = pin.iter().filter_map(|cpu| Some(host.core_of(cpu)?.package));
            let first = packages.next()?;
            packages.all(|package| package == first).then_some(first)
        })
        .collect();
    let sockets = match packages.len() as u32 == all {
        true => sockets(placed, &packages),
        false => 1,
    };
    Topology {
        sockets,
        cores: all / sockets,
        ..flat(all)
    }
}

/// Returns one socket for each host package in a row, if all cells that have vCPUs are equal;
/// otherwise one.
fn sockets(placed: &Placed, packages: &[u32]) -> u32 {
    let mut sizes = placed
        .cells
        .iter()
        .map(|cell| cell.vcpus.len())
        .filter(|size| *size > 0);
    let first = sizes.next();
    match sizes.all(|size| Some(size) == first) {
        true => equal_runs(packages).unwrap_or(1),
        false => 1,
    }
}

/// Returns all vCPUs as cores of one socket.
pub(crate) fn flat(vcpus: u32) -> Topology {
    Topology {
        sockets: 1,
        dies: 1,
        clusters: 1,
        cores: vcpus,
        threads: 1,
    }
}

/// Returns the number of runs of equal length in a sequence, each with a value of its own; `None`
/// where runs differ in length or a value comes back.
fn equal_runs<T: PartialEq + Ord + Copy>(sequence: &[T]) -> Option<u32> {
    let runs: Vec<&[T]> = sequence.chunk_by(|a, b| a == b).collect();
    let mut values: Vec<T> = runs.iter().map(|run| run[0]).collect();
    values.sort_unstable();
    values.dedup();
    let equal = runs.windows(2).all(|pair| pair[0].len() == pair[1].len());
    (equal && values.len() == runs.len() && !runs.is_empty()).then_some(runs.len() as u32)
}
