//! Holders of a reading: running guests and reservations, one entry for each guest.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ledger::Holder;
use crate::ledger::taken::same_guest;
use crate::types::idset::CpuSet;

/// Holders, found by UUID or name.
pub(crate) struct Holders {
    all: Vec<Arc<Holder>>,
    by_uuid: HashMap<String, usize>,
    by_name: HashMap<String, usize>,
}

impl Holders {
    /// Takes the running guests.
    pub(crate) fn of(all: Vec<Arc<Holder>>) -> Self {
        let mut holders = Self {
            all: Vec::with_capacity(all.len()),
            by_uuid: HashMap::new(),
            by_name: HashMap::new(),
        };
        for holder in all {
            holders.push(holder);
        }
        holders
    }

    fn push(&mut self, holder: Arc<Holder>) {
        let at = self.all.len();
        // Of two guests of one name, the first is found.
        self.by_name.entry(holder.name.clone()).or_insert(at);
        if !holder.uuid.is_empty() {
            self.by_uuid.entry(holder.uuid.to_ascii_lowercase()).or_insert(at);
        }
        self.all.push(holder);
    }

    /// Returns the holders.
    pub(crate) fn all(self) -> Vec<Arc<Holder>> {
        self.all
    }

    /// Finds the entry of the same guest, as [`same_guest`] defines it.
    fn find(&self, other: &Holder) -> Option<usize> {
        let same = |at: &usize| {
            let holder = self.all.get(*at)?;
            same_guest((&holder.uuid, &holder.name), (&other.uuid, &other.name)).then_some(*at)
        };
        let by_uuid = self.by_uuid.get(&other.uuid.to_ascii_lowercase()).and_then(same);
        by_uuid.or_else(|| self.by_name.get(&other.name).and_then(same))
    }

    /// Adds a guest's reservation. A running guest keeps its reservation until its release, because
    /// pins that are not in its XML are set only after the start. A guest that `moves` was promised
    /// other CPUs than those its XML pins it to, or its XML has no pins: until it is moved, the
    /// CPUs in its XML belong to the guest that they were promised to. Memory is taken from the
    /// status file, which is more exact.
    pub(crate) fn merge(&mut self, reserved: Holder, moves: bool) {
        let running = self.find(&reserved);
        let Some(holder) = running.and_then(|at| self.all.get_mut(at)) else {
            self.push(Arc::new(reserved));
            return;
        };
        let holder = Arc::make_mut(holder);
        if moves && !holder.set_live {
            holder.pins.clear();
            holder.wide.clear();
            holder.occupies = CpuSet::new();
        }
        let pinned = |pin: &CpuSet| holder.pins.contains(pin);
        let more: Vec<CpuSet> = reserved.pins.into_iter().filter(|pin| !pinned(pin)).collect();
        holder.pins.extend(more);
        holder.promised.extend_from(&reserved.withheld);
    }
}
