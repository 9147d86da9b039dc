//! Status of a host: every guest, the CPUs it holds, where its threads really run, and what is
//! pending; and what is free.
//!
//! All of it is read through the one root path, so a fixture host has a status too. [`Status`] is
//! both the JSON of `status --json` (`docs/status.md` has its keys) and the daemon's answer to an
//! ordinary user who asks.

mod by_hand;
mod exclusive;
mod guests;
mod held;
mod held_twice;
pub(crate) mod hook;
pub(crate) mod note;
mod overlaps;
mod pending;
mod place;
mod running;
mod service;
pub(crate) mod text;
mod threads;
mod too_much_memory;

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::ledger::{Ledger, taken};
use crate::snapshot::Snapshot;
use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::CpuSet;
use crate::types::printable::visible_json;

pub use note::{Code, Note};
pub(crate) use service::{Found, PolicyRead};

/// Version of the format; there is only one.
const VERSION: u32 = 1;

/// Status of a host: its guests, and what is left of its nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the format, [`VERSION`].
    pub version: u32,
    /// `mode = "observe"`: virtfit changes nothing.
    pub observe: bool,
    /// `/run/virtfit/disabled` exists: every hook event is a no-op.
    pub disabled: bool,
    /// Nothing is wrong: no note is, neither here nor with a guest.
    #[serde(default)]
    pub ok: bool,
    /// Notes on virtfit itself, wrong ones first.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// Guests, by name.
    pub guests: Vec<Guest>,
    /// Nodes, by number.
    pub nodes: Vec<Node>,
    /// Texts on what could not be taken into account.
    pub warnings: Vec<String>,
}

/// Guest with the CPUs it holds and its threads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// Guest's name.
    pub name: String,
    /// Guest's UUID.
    pub uuid: String,
    /// State as libvirt calls it (`running`, `paused`, …); `starting`; `reserved`: promised its
    /// CPUs and not known to libvirt as running yet; `shut off`.
    pub state: String,
    /// The guest runs and has no definition.
    pub transient: bool,
    /// Profile by rule or request; null: none.
    pub profile: Option<String>,
    /// CPUs the guest holds: no other guest gets them. As a cpulist.
    #[serde(with = "text")]
    pub held: CpuSet,
    /// CPUs on which its vCPUs float; empty: none floats.
    #[serde(with = "text")]
    pub floating: CpuSet,
    /// CPUs its definition claims while it does not run.
    #[serde(with = "text")]
    pub claims: CpuSet,
    /// Scheduler of its real-time vCPU threads as the kernel has it: `fifo`, `rr`; null: none.
    pub realtime: Option<String>,
    /// Nodes it is bound to, otherwise those of its CPUs.
    pub nodes: Vec<NodeId>,
    /// Memory of the guest (`<memory>`).
    pub memory_kib: KiB,
    /// Huge page size; null: small pages.
    pub page_kib: Option<KiB>,
    /// Share of the time its vCPU threads wanted a CPU, since they started, that they waited for
    /// one, in per cent; null: unknown.
    pub wait_percent: Option<f64>,
    /// Threads of the guest, vhost kernel threads included.
    pub threads: Vec<Thread>,
    /// Devices passed through to the guest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Texts on changes that wait, and until when.
    pub pending: Vec<String>,
    /// Reason why the guest started undecided: other guests may have its CPUs too.
    pub undecided: Option<String>,
    /// Text on a start that failed right after virtfit changed the guest, with the way back; null
    /// once the guest has started.
    #[serde(default)]
    pub failed_start: Option<String>,
    /// Text on what could not be read.
    pub problem: Option<String>,
    /// Notes on what is wrong or worth knowing, wrong ones first. They include `pending`,
    /// `undecided`, `failed_start` and `problem`.
    #[serde(default)]
    pub notes: Vec<Note>,
}

/// Thread of a guest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Thread id.
    pub tid: u32,
    /// Thread name.
    pub name: String,
    /// Role of the thread: `vcpu 0`, `emulator`, `iothread 1`, `vhost`, `kvm`.
    pub role: String,
    /// CPUs the kernel lets it run on. As a cpulist.
    #[serde(with = "text")]
    pub allowed: CpuSet,
    /// CPUs its guest's XML lets it run on; empty: any.
    #[serde(with = "text")]
    pub expected: CpuSet,
    /// CPU it ran on last.
    pub cpu: Option<HostCpu>,
    /// Scheduling policy: `other`, `fifo`, `rr`, ….
    pub scheduler: String,
    /// Real-time priority.
    pub priority: u32,
    /// Nanoseconds it ran since it started; null: the kernel does not say.
    pub run_ns: Option<u64>,
    /// Nanoseconds it waited for a CPU since it started.
    pub wait_ns: Option<u64>,
    /// Text on the CPUs where it is though it should not be; null: it is where it should be.
    pub wrong: Option<String>,
}

/// Device passed through to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Device, named for people: `PCI device 0000:3b:00.0`.
    pub name: String,
    /// NUMA node of the device; null: on no node, or not known.
    pub node: Option<NodeId>,
}

/// NUMA node with what is left of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Node number.
    pub id: NodeId,
    /// Online CPUs.
    #[serde(with = "text")]
    pub cpus: CpuSet,
    /// CPUs that guests hold or that are withheld.
    #[serde(with = "text")]
    pub held: CpuSet,
    /// Dedicated CPUs that no guest holds.
    #[serde(with = "text")]
    pub free: CpuSet,
    /// Number of cores all of whose CPUs are free.
    pub whole_cores: usize,
    /// Small-page memory that may still be given out; null: unknown.
    pub memory_free_kib: Option<KiB>,
    /// Huge pages that may still be given out, by size in KiB.
    pub pages_free: BTreeMap<KiB, u64>,
}

impl Status {
    /// Returns whether no note is wrong.
    pub(crate) fn nothing_is_wrong(&self) -> bool {
        let guests = self.guests.iter().flat_map(|guest| &guest.notes);
        self.notes.iter().chain(guests).all(|note| !note.wrong)
    }

    /// Returns the status as one line of JSON.
    ///
    /// # Errors
    /// None that is known; serialisation is fallible by type.
    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(visible_json(&serde_json::to_string(self)?) + "\n")
    }
}

impl Guest {
    /// Returns the number of threads that are where they should not be.
    pub fn wrong(&self) -> usize {
        self.threads
            .iter()
            .filter(|thread| thread.wrong.is_some())
            .count()
    }

    /// Returns whether the guest runs and it is not known what it holds.
    pub(crate) fn is_unknown(&self) -> bool {
        let hides = |note: &Note| note.wrong && matches!(note.code, Code::Unreadable | Code::Failed);
        self.state != "shut off" && self.notes.iter().any(hides)
    }

    /// Returns whether a note of the guest is wrong.
    pub fn is_wrong(&self) -> bool {
        self.notes.iter().any(|note| note.wrong)
    }
}

/// Makes the status of the host a snapshot was read from.
pub(crate) fn answer(view: &Snapshot, found: Found) -> Status {
    let mut warnings = view.policy.warnings.clone();
    warnings.extend(view.reading.warnings.iter().cloned());
    let (mut guests, running) = guests::all(view, &mut warnings);
    if found.policy == PolicyRead::None {
        // Without any policy no guest is known to be left over.
        let left_over = |note: &note::Note| note.code == note::Code::LeftOver;
        guests
            .iter_mut()
            .for_each(|guest| guest.notes.retain(|note| !left_over(note)));
    }
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

/// Works out what is left of each node.
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
