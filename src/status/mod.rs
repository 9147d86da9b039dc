//! What `virtfit status` tells: every guest, what it holds, where its threads really run, what is
//! pending; and what is free.
//!
//! Gathered through the one root path, so that a fixture host has a status, too. [`Status`] is both
//! the JSON of `status --json` (`docs/status.md` has its keys) and what the daemon answers an
//! ordinary user who asks.

mod by_hand;
mod exclusive;
mod guests;
mod hook;
pub mod note;
mod overlaps;
mod pending;
mod place;
mod running;
mod service;
mod text;

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::ledger::{Ledger, taken};
use crate::snapshot::Snapshot;
use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::CpuSet;

pub use note::{Code, Note};
pub use service::{Found, PolicyRead};

/// The only format there is.
pub const VERSION: u32 = 1;

/// A host's guests and what is left of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// `mode = "observe"`: virtfit changes nothing.
    pub observe: bool,
    /// `/run/virtfit/disabled` exists: every door is a no-op.
    pub disabled: bool,
    /// Nothing is wrong: no note is, neither here nor with a guest.
    #[serde(default)]
    pub ok: bool,
    /// On virtfit itself, what is wrong first.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// By name.
    pub guests: Vec<Guest>,
    /// By number.
    pub nodes: Vec<Node>,
    /// What could not be taken into account, for people.
    pub warnings: Vec<String>,
}

/// One guest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// `running`, `paused`, …, as libvirt calls it; `starting`; `reserved`: promised its CPUs and
    /// not seen by libvirt yet; `shut off`.
    pub state: String,
    /// It runs and has no definition.
    pub transient: bool,
    /// The profile by rule or request; null: none.
    pub profile: Option<String>,
    /// CPUs it holds: nobody else gets them. As a cpulist.
    #[serde(with = "text")]
    pub held: CpuSet,
    /// CPUs its vCPUs float on; empty: none floats.
    #[serde(with = "text")]
    pub floating: CpuSet,
    /// CPUs its definition claims while it does not run.
    #[serde(with = "text")]
    pub claims: CpuSet,
    /// Scheduler of its real-time vCPU threads as the kernel has it: `fifo`, `rr`; null: none.
    pub realtime: Option<String>,
    /// Nodes it is bound to, else those of its CPUs.
    pub nodes: Vec<NodeId>,
    /// `<memory>`.
    pub memory_kib: KiB,
    /// Huge page size; null: small pages.
    pub page_kib: Option<KiB>,
    /// Of the time its vCPU threads wanted a CPU since they started, how much they waited for one,
    /// in per cent; null: not known.
    pub wait_percent: Option<f64>,
    /// Its threads, vhost kernel threads included.
    pub threads: Vec<Thread>,
    /// What waits, and until when.
    pub pending: Vec<String>,
    /// It started undecided: why; its CPUs may not be its own.
    pub undecided: Option<String>,
    /// It failed to start right after virtfit changed it, and has not started since: what, and the
    /// way back.
    #[serde(default)]
    pub failed_start: Option<String>,
    /// What could not be read.
    pub problem: Option<String>,
    /// What is not as it should be or worth knowing, what is wrong first. The three above are in
    /// it, too.
    #[serde(default)]
    pub notes: Vec<Note>,
}

/// One thread.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Whose it is: `vcpu 0`, `emulator`, `iothread 1`, `vhost`, `kvm`.
    pub role: String,
    /// CPUs the kernel lets it run on. As a cpulist.
    #[serde(with = "text")]
    pub allowed: CpuSet,
    /// CPUs its guest's XML lets it run on; empty: any.
    #[serde(with = "text")]
    pub expected: CpuSet,
    /// The CPU it ran on last.
    pub cpu: Option<HostCpu>,
    /// `other`, `fifo`, `rr`, ….
    pub scheduler: String,
    /// Real-time priority.
    pub priority: u32,
    /// Nanoseconds it ran since it started; null: the kernel does not tell.
    pub run_ns: Option<u64>,
    /// Nanoseconds it waited for a CPU since it started.
    pub wait_ns: Option<u64>,
    /// Where it is though it should not be; null: it is where it should be.
    pub wrong: Option<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its online CPUs.
    #[serde(with = "text")]
    pub cpus: CpuSet,
    /// Those that guests hold or that are withheld.
    #[serde(with = "text")]
    pub held: CpuSet,
    /// Dedicated CPUs that nobody holds.
    #[serde(with = "text")]
    pub free: CpuSet,
    /// Cores all of whose CPUs are free.
    pub whole_cores: usize,
    /// Small-page memory that may still be given out; null: not known.
    pub memory_free_kib: Option<KiB>,
    /// Huge pages that may still be given out, by size in KiB.
    pub pages_free: BTreeMap<KiB, u64>,
}

impl Status {
    /// Whether nothing is wrong by the notes.
    pub fn nothing_is_wrong(&self) -> bool {
        let guests = self.guests.iter().flat_map(|guest| &guest.notes);
        self.notes.iter().chain(guests).all(|note| !note.wrong)
    }

    /// One line of JSON.
    ///
    /// # Errors
    /// None that is known; serialisation is fallible by type.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

impl Guest {
    /// Threads that are elsewhere than they should be.
    pub fn wrong(&self) -> usize {
        self.threads
            .iter()
            .filter(|thread| thread.wrong.is_some())
            .count()
    }

    /// Whether anything is wrong with it.
    pub fn is_wrong(&self) -> bool {
        self.notes.iter().any(|note| note.wrong)
    }
}

/// The status of the host a view was read from.
pub fn answer(view: &Snapshot, found: Found) -> Status {
    let mut warnings = view.policy.warnings.clone();
    warnings.extend(view.reading.warnings.iter().cloned());
    let (guests, running) = guests::all(view, &mut warnings);
    let mut status = Status {
        version: VERSION,
        ok: false,
        notes: service::notes(view, &running, found, SystemTime::now()),
        observe: view.policy.host.observe,
        disabled: view.root.exists(virtfit_hook::wire::DISABLED),
        guests,
        nodes: nodes(view),
        warnings,
    };
    status.ok = status.nothing_is_wrong();
    status
}

/// What is left of each node.
fn nodes(view: &Snapshot) -> Vec<Node> {
    let Ledger { holders, .. } = &view.reading.ledger;
    let host = &view.host;
    let policy = &view.policy.host;
    let nobody = taken::taken(&view.reading.ledger, "", "", host, &view.sets.dedicated, policy);
    let held = holders.iter().fold(CpuSet::new(), |all, holder| {
        all.union(&taken::held(
            holder,
            host,
            &view.sets.dedicated,
            policy.share_cores,
        ))
    });
    let free = view.sets.dedicated.difference(&held);
    host.nodes
        .iter()
        .map(|node| {
            let cpus = host.cpus_of(node.id);
            let whole = |core: &&crate::host::Core| {
                core.node == node.id && core.cpus.iter().all(|cpu| free.contains(*cpu))
            };
            let pages = nobody.pages_free.iter().filter(|((id, _), _)| *id == node.id);
            Node {
                id: node.id,
                held: cpus.intersection(&held),
                free: cpus.intersection(&free),
                whole_cores: host.cores.iter().filter(whole).count(),
                memory_free_kib: nobody.memory_free.get(&node.id).copied(),
                pages_free: pages.map(|((_, size), free)| (*size, *free)).collect(),
                cpus,
            }
        })
        .collect()
}
