//! Parts of a guest's topology that are not real: the shape the guest is shown, held against the
//! CPUs of its vCPUs.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::Topology;
use crate::host::{Core, Host};
use crate::placement::{Mirror, Placed};
use crate::types::ids::{HostCpu, VcpuId};
use crate::types::idset::VcpuSet;
use crate::types::reason::Untrue;

/// Lists the parts that are not real: all cores that share one, of other kinds the first. A guest
/// with vCPUs that float is not judged: they move.
pub(crate) fn parts(host: &Host, placed: &Placed, shown: Topology, mirror: Mirror) -> Vec<Untrue> {
    let one = |pin: &crate::types::idset::CpuSet| match pin.len() {
        1 => host.core_of(pin.first()?),
        _ => None,
    };
    let cores: Option<Vec<&Core>> = placed.vcpus.values().map(one).collect();
    let Some(cores) = cores.filter(|cores| !cores.is_empty()) else {
        return Vec::new();
    };
    let vcpus = |from: usize, run: &[&Core]| -> VcpuSet {
        (from..from + run.len()).map(|vcpu| VcpuId(vcpu as u32)).collect()
    };
    // Of each level the first run of vCPUs that is shown as one thing and is several.
    let split = |size: u32, of: &dyn Fn(&Core) -> (usize, usize)| {
        let size = size.max(1) as usize;
        let runs = (0..).step_by(size).zip(cores.chunks(size));
        let count = |run: &[&Core]| run.iter().map(|core| of(core)).collect::<BTreeSet<_>>().len();
        let mut runs = runs.map(|(from, run)| (vcpus(from, run), count(run)));
        runs.find(|(_, count)| *count > 1)
    };
    let number = |core: &Core| core.cpus.first().map_or(0, |cpu| cpu.0 as usize);
    let node = |core: &Core| core.node.0 as usize;
    let mut found = Vec::new();
    if let Some((vcpus, _)) = split(shown.threads, &|core| (number(core), 0)) {
        found.push(Untrue::ThreadsApart { vcpus });
    }
    found.extend(together(&cores, shown.threads));
    let die = shown.vcpus_of_die();
    let socket = die.saturating_mul(shown.dies);
    match mirror {
        Mirror::Caches => {
            if let Some((vcpus, caches)) = split(die, &|core| (node(core), core.llc)) {
                found.push(Untrue::CacheApart { vcpus, caches });
            }
        }
        Mirror::Nodes => {
            if let Some((vcpus, nodes)) = split(socket, &|core| (node(core), 0)) {
                found.push(Untrue::SocketOverNodes { vcpus, nodes });
            }
        }
    }
    // Where a socket's one cache is not real, its package is not, either.
    let said = shown.dies == 1 && matches!(found.last(), Some(Untrue::CacheApart { .. }));
    if let Some((vcpus, packages)) = split(socket, &|core| (core.package as usize, 0)).filter(|_| !said) {
        found.push(Untrue::SocketOverPackages { vcpus, packages });
    }
    found
}

/// Returns the guest cores that share host cores, all in one.
fn together(cores: &[&Core], threads: u32) -> Option<Untrue> {
    let guest_core = |vcpu: VcpuId| vcpu.0 / threads.max(1);
    let mut on: BTreeMap<&[HostCpu], VcpuSet> = BTreeMap::new();
    for (vcpu, core) in (0..).map(VcpuId).zip(cores) {
        on.entry(&core.cpus).or_default().insert(vcpu);
    }
    let shared = |vcpus: &&VcpuSet| vcpus.iter().map(guest_core).collect::<BTreeSet<_>>().len() > 1;
    let shared: Vec<&VcpuSet> = on.values().filter(shared).collect();
    (!shared.is_empty()).then(|| Untrue::CoresTogether {
        cores: shared.len(),
        vcpus: shared.into_iter().flat_map(VcpuSet::iter).collect(),
    })
}
