//! Small hosts for tests, made from numbers.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

pub mod hard;

use std::collections::BTreeMap;

use virtfit::host::{Core, Host, Llc, Node, PagePool};
use virtfit::types::ids::{HostCpu, KiB, NodeId};
use virtfit::types::idset::CpuSet;

/// Regular host: all nodes alike.
#[derive(Debug, Clone)]
pub struct Plan {
    pub nodes: u32,
    pub caches_per_node: u32,
    pub cores_per_cache: u32,
    pub threads: u32,
    /// Siblings are numbered next to each other rather than in a second round.
    pub adjacent: bool,
    /// Memory of a node.
    pub memory: KiB,
    /// 2 MiB pages of a node.
    pub pages: u64,
    /// Every second core of each cache is of a second kind.
    pub hybrid: bool,
}

impl Plan {
    pub fn host(&self) -> Host {
        let per_node = self.caches_per_node * self.cores_per_cache;
        let all = self.nodes * per_node;
        let mut host = Host {
            arch: "x86_64".into(),
            memory_known: true,
            rt_allowed: true,
            ..Host::default()
        };
        for node in 0..self.nodes {
            host.nodes.push(Node {
                id: NodeId(node),
                memory: self.memory,
                pools: vec![PagePool {
                    size: KiB(2048),
                    total: self.pages,
                    free: self.pages,
                }],
                distances: (0..self.nodes)
                    .map(|to| {
                        (
                            NodeId(to),
                            if to == node {
                                10
                            } else {
                                10 + 6 * node.abs_diff(to)
                            },
                        )
                    })
                    .collect::<BTreeMap<_, _>>(),
            });
            for core in 0..per_node {
                let number = node * per_node + core;
                let cpu = |thread: u32| match self.adjacent {
                    true => number * self.threads + thread,
                    false => number + thread * all,
                };
                host.cores.push(Core {
                    cpus: (0..self.threads).map(|thread| HostCpu(cpu(thread))).collect(),
                    node: NodeId(node),
                    llc: (number / self.cores_per_cache) as usize,
                    package: node,
                    die: node,
                    kind: if self.hybrid { core % 2 } else { 0 },
                });
            }
        }
        host.llcs = (0..self.nodes * self.caches_per_node)
            .map(|_| Llc {
                level: 3,
                size: KiB(11 * 1024),
            })
            .collect();
        host.cores.sort_by_key(|core| core.cpus[0]);
        host.online = host
            .cores
            .iter()
            .flat_map(|core| core.cpus.iter().copied())
            .collect();
        host.hugetlbfs = vec![KiB(2048)];
        host
    }
}

/// Returns the paper's server.
pub fn paper() -> Host {
    Plan {
        nodes: 2,
        caches_per_node: 1,
        cores_per_cache: 8,
        threads: 2,
        adjacent: false,
        memory: KiB(16 << 20),
        pages: 6144,
        hybrid: false,
    }
    .host()
}

/// Parses a set from a cpulist.
pub fn cpus(list: &str) -> CpuSet {
    virtfit::types::cpulist::parse(list).unwrap()
}
