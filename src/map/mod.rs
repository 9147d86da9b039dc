//! Map of a host: node, last-level cache, core, CPU, with who sits where; and the same with one
//! guest as it is planned.
//!
//! A map is made from a snapshot and a status alone. `render::map` draws it.

mod cpus;
mod data;
mod letters;
mod memory;

#[cfg(test)]
pub(crate) use data::Part;
pub(crate) use data::{After, Cache, Cpu, Guest, Map, Node, Picture, Pool, Role};

use crate::domain::Domain;
use crate::ledger::taken::{self, same_guest};
use crate::ledger::{Holder, Taken};
use crate::snapshot::Snapshot;
use crate::status::{self, Status};
use crate::types::guest_thread;
use crate::types::ids::NodeId;
use crate::types::idset::CpuSet;
use crate::types::plan::{Placement, Plan};
use data::{Seated, Thread, Uses};

/// Version of the format; there is only one.
const VERSION: u32 = 1;

/// Makes the map of the host a snapshot and a status were read from.
pub(crate) fn of(view: &Snapshot, status: &Status) -> Map {
    let mut guests: Vec<Guest> = status.guests.iter().map(|guest| seated(view, guest)).collect();
    letters::give(&mut guests);
    let nobody = taken::taken(
        &view.reading.ledger,
        "",
        "",
        &view.host,
        &view.sets.dedicated,
        &view.policy.host,
    );
    Map {
        version: VERSION,
        now: picture(view, guests, &nobody, None),
        offline: view.host.offline.clone(),
        after: None,
    }
}

impl Map {
    /// Adds the picture with one guest in the place of its plan. A guest that the status does not
    /// know gets no picture.
    pub(crate) fn plan(&mut self, view: &Snapshot, domain: &Domain, plan: &Plan) {
        let own = |guest: &Guest| same_guest((&guest.uuid, &guest.name), (&domain.uuid, &domain.name));
        let Some(at) = self.now.guests.iter().position(own) else {
            return;
        };
        let then = match &plan.placement {
            None => self.now.clone(),
            Some(placement) => {
                let mut guests = self.now.guests.clone();
                if let Some(guest) = guests.get_mut(at) {
                    *guest = planned(guest, placement);
                }
                picture(view, guests, &view.taken(domain), Some(at))
            }
        };
        self.after = Some(After {
            guest: at,
            profile: plan.profile.clone(),
            verdict: plan.verdict,
            reasons: plan.reasons.iter().map(ToString::to_string).collect(),
            then,
        });
    }
}

/// Puts guests on the host. `taken`: what may not be given out, without the guest at `coming`.
fn picture(view: &Snapshot, guests: Vec<Guest>, taken: &Taken, coming: Option<usize>) -> Picture {
    let host = &view.host;
    let mut caches = cpus::caches(host, &view.sets, &guests);
    let nodes = host.nodes.iter().map(|node| Node {
        id: node.id,
        caches: caches.remove(&node.id).unwrap_or_default(),
        memory: memory::pools(host, node, &guests, taken, coming),
        devices: devices(&guests, node.id),
    });
    Picture {
        nodes: nodes.collect(),
        guests,
    }
}

/// Lists the passed-through devices at a node.
fn devices(guests: &[Guest], node: NodeId) -> Vec<Seated> {
    let mut out = Vec::new();
    for (at, guest) in guests.iter().enumerate() {
        let here = guest.devices.iter().filter(|device| device.node == Some(node));
        out.extend(here.map(|device| Seated {
            guest: at,
            name: device.name.clone(),
            elsewhere: !guest.nodes.is_empty() && !guest.nodes.contains(&node),
        }));
    }
    out
}

/// Converts the entry of a status. What a guest holds and what is withheld for it are told apart by
/// the ledger.
fn seated(view: &Snapshot, guest: &status::Guest) -> Guest {
    let own = |holder: &&Holder| same_guest((&holder.uuid, &holder.name), (&guest.uuid, &guest.name));
    let holder = view.reading.ledger.holders.iter().map(AsRef::as_ref).find(own);
    let pinned = holder.map_or_else(CpuSet::new, |holder| taken::pinned(holder, &view.sets.dedicated));
    let thread = |thread: &status::Thread| Thread {
        role: thread.role.clone(),
        cpus: thread.expected.clone(),
        cpu: thread.cpu,
        wrong: thread.wrong.clone(),
    };
    Guest {
        name: guest.name.clone(),
        uuid: guest.uuid.clone(),
        state: guest.state.clone(),
        profile: guest.profile.clone(),
        held: guest.held.intersection(&pinned),
        withheld: guest.held.difference(&pinned),
        floating: guest.floating.clone(),
        claims: guest.claims.clone(),
        threads: guest.threads.iter().map(thread).collect(),
        nodes: guest.nodes.clone(),
        memory: holder.map_or_else(|| unbound(guest), uses),
        devices: guest.devices.clone(),
        wait_percent: guest.wait_percent,
        ..Guest::default()
    }
}

/// Returns the memory of a guest that takes none yet: it is on no node.
fn unbound(guest: &status::Guest) -> Vec<Uses> {
    let uses = Uses {
        kib: guest.memory_kib,
        page_kib: guest.page_kib,
        nodes: Vec::new(),
    };
    Some(uses).filter(|uses| uses.kib.0 > 0).into_iter().collect()
}

fn uses(holder: &Holder) -> Vec<Uses> {
    let uses = holder.memory.iter().map(|uses| Uses {
        kib: uses.amount,
        page_kib: uses.page,
        nodes: uses.nodes.iter().collect(),
    });
    uses.collect()
}

/// Puts a guest in its planned place.
fn planned(guest: &Guest, placement: &Placement) -> Guest {
    let thread = |role: String, cpus: &CpuSet| Thread {
        role,
        cpus: cpus.clone(),
        ..Thread::default()
    };
    let vcpus = placement.vcpus.iter();
    let mut threads: Vec<Thread> = vcpus
        .map(|(id, cpus)| thread(guest_thread::Thread::Vcpu(*id).role(), cpus))
        .collect();
    threads.push(thread(guest_thread::Thread::Emulator.role(), &placement.emulator));
    let iothreads = placement.iothreads.iter();
    threads.extend(iothreads.map(|(id, cpus)| thread(guest_thread::Thread::Iothread(*id).role(), cpus)));
    let cells = placement.cells.iter().map(|cell| Uses {
        kib: cell.memory_kib,
        page_kib: placement.page_kib,
        nodes: cell.node.into_iter().collect(),
    });
    Guest {
        held: placement.dedicated.difference(&placement.withheld),
        withheld: placement.withheld.clone(),
        floating: placement.floating(),
        claims: CpuSet::new(),
        threads,
        nodes: placement.nodes.clone(),
        memory: cells.collect(),
        wait_percent: None,
        ..guest.clone()
    }
}
