//! Groups of cores on hybrid processors, as hwloc reports them.

use hwlocality::Topology;
use hwlocality::cpu::kind::CpuKind;
use hwlocality::object::types::ObjectType;

use crate::host::core_kinds::Group;
use crate::types::cpulist::MAX_ID;
use crate::types::ids::HostCpu;

/// Lists the groups of cores with equal facts, fastest first; empty if hwloc reports none.
pub(super) fn kinds(topology: &Topology) -> Vec<Group> {
    let Ok(kinds) = topology.cpu_kinds() else {
        return Vec::new();
    };
    // hwloc ranks the most efficient kind first, which is the slowest. Where it ranks nothing,
    // capacity and frequencies do.
    let mut groups: Vec<(Option<usize>, Group)> = kinds.map(|kind| group(topology, &kind)).collect();
    groups.reverse();
    groups.sort_by_key(|(efficiency, group)| {
        let speed = (*efficiency, group.capacity, group.base, group.maximum);
        std::cmp::Reverse(speed)
    });
    groups.into_iter().map(|(_, group)| group).collect()
}

fn group(topology: &Topology, kind: &CpuKind<'_>) -> (Option<usize>, Group) {
    // A set may be infinite.
    let cpus = kind.cpuset.iter_set().map(usize::from);
    let cpus = cpus.take_while(|cpu| *cpu <= MAX_ID as usize);
    let mut group = Group {
        cpus: cpus.map(|cpu| HostCpu(cpu as u32)).collect(),
        ..Group::default()
    };
    let cores = topology.objects_with_type(ObjectType::Core);
    let here = cores.filter(|core| core.cpuset().is_some_and(|cpus| cpus.intersects(&kind.cpuset)));
    group.cores = here.count();
    let mut design = Vec::new();
    for info in kind.infos {
        let value = info.value().to_string_lossy();
        let number = value.trim().parse().ok();
        match &*info.name().to_string_lossy() {
            "FrequencyBaseMHz" => group.base = number,
            "FrequencyMaxMHz" => group.maximum = number,
            "LinuxCapacity" => group.capacity = number,
            name => design.push(format!("{name}={value}")),
        }
    }
    design.sort();
    // Kinds without any facts differ by efficiency.
    group.design = match kind.infos.is_empty() {
        true => kind.efficiency.map_or(String::new(), |rank| format!("#{rank}")),
        false => design.join(","),
    };
    (kind.efficiency, group)
}
