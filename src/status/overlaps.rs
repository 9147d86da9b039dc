//! Claims of several definitions on one CPU: at most one of their guests can get what its
//! definition says.

use std::collections::BTreeMap;
use std::fmt;

use crate::snapshot::Snapshot;
use crate::status::Guest;
use crate::status::note::{Code, Note, first_names};
use crate::types::ids::{HostCpu, Id};
use crate::types::idset::{CpuSet, IdSet};
use crate::types::plural::cpus;

/// Place of a guest in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u32);

impl Id for Place {
    const NOUN: &'static str = "guest";
    fn new(raw: u32) -> Self {
        Self(raw)
    }
    fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Adds a note to each guest whose CPUs others claim too. Guests that libvirt starts by itself
/// start together: among them an overlap is wrong. `guests` are in the order of their names.
pub(crate) fn note(view: &Snapshot, guests: &mut [Guest]) {
    // Anybody who may define guests may define thousands with one claim: sets keep that cheap.
    let mut claimants: BTreeMap<HostCpu, IdSet<Place>> = BTreeMap::new();
    let mut at_boot: IdSet<Place> = IdSet::new();
    for (place, guest) in (0..).map(Place).zip(guests.iter()) {
        for cpu in guest.claims.iter() {
            claimants.entry(cpu).or_default().insert(place);
        }
        if view.reading.autostart.contains(&guest.name) {
            at_boot.insert(place);
        }
    }
    let mut notes: Vec<(usize, Note)> = Vec::new();
    for (place, guest) in guests.iter().enumerate() {
        let mut others: IdSet<Place> = IdSet::new();
        for claiming in guest.claims.iter().filter_map(|cpu| claimants.get(&cpu)) {
            others.extend_from(claiming);
        }
        let own = Place(place as u32);
        others.remove(own);
        let together = match at_boot.contains(own) {
            true => others.intersection(&at_boot),
            false => IdSet::new(),
        };
        let apart = others.difference(&together);
        for (code, with, when) in [
            (Code::BootClaimsOverlap, together, " at host boot"),
            (Code::ClaimsOverlap, apart, ""),
        ] {
            if with.is_empty() {
                continue;
            }
            let shared = |cpu: &HostCpu| {
                claimants
                    .get(cpu)
                    .is_some_and(|claiming| !claiming.is_disjoint(&with))
            };
            let both: CpuSet = guest.claims.iter().filter(shared).collect();
            let first = with.iter().take(3);
            let first: Vec<&str> = first
                .filter_map(|at| Some(guests.get(at.0 as usize)?.name.as_str()))
                .collect();
            let verb = if with.len() == 1 { "does" } else { "do" };
            let with = first_names(&first, with.len());
            let text = format!("claims {}, as {verb} {with}{when}", cpus(&both));
            notes.push((place, Note::new(code, text)));
        }
    }
    for (place, note) in notes {
        guests[place].notes.push(note);
    }
}
