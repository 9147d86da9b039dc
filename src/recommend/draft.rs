//! Draft of a policy: the part of the host that each guest is to have, and why.

use std::cmp::Reverse;

use crate::libvirt::definitions::Definition;
use crate::recommend::facts::{self, Setting};
use crate::snapshot::Snapshot;
use crate::types::ids::KiB;

/// Part of a desktop's cores that its own programs keep: a quarter.
const OF_A_DESKTOP: usize = 4;

/// Part of the host that a guest is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// CPUs of its own.
    Fit,
    /// The CPUs of one node, near its memory.
    Local,
    /// Nothing of virtfit's.
    Alone,
}

/// Guest in a draft.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Guest {
    /// Definition, as if all guests were to start together.
    pub definition: Definition,
    /// The guest runs now, or with the host; where none does, true for all.
    pub counts: bool,
    /// Part of the host that the guest is to have.
    pub level: Level,
    /// Device that is passed through to it.
    pub device: bool,
    /// The guest runs Windows.
    pub windows: bool,
    /// No node has its CPUs and memory.
    pub huge: bool,
    /// Reason why the level is no higher; empty for the highest.
    pub why: &'static str,
}

impl Guest {
    /// Returns the guest's name.
    pub(crate) fn name(&self) -> &str {
        &self.definition.domain.name
    }

    /// Returns the number of vCPUs.
    pub(crate) fn vcpus(&self) -> usize {
        self.definition.domain.vcpus as usize
    }

    /// Gives the guest less than before.
    fn give_up(&mut self) {
        (self.level, self.why) = match self.level {
            Level::Fit => (Level::Local, "not enough CPUs for one each, beside the others"),
            Level::Local | Level::Alone => (Level::Alone, "bound to one node there would be less than now"),
        };
    }
}

/// Draft of a policy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    /// Guests, those first that need CPUs of their own most.
    pub guests: Vec<Guest>,
    /// Whole cores of each node for the host itself, where they are more than usual.
    pub housekeeping: Option<usize>,
    /// Purpose of the host.
    pub setting: Setting,
}

impl Draft {
    /// Makes the first draft: as much for each guest as its facts allow.
    pub(crate) fn new(view: &Snapshot, definitions: &[Definition], setting: Setting) -> Self {
        let host = &view.host;
        let any = definitions.iter().any(|one| one.running || one.autostart);
        let node_memory = host
            .nodes
            .iter()
            .map(|node| node.memory)
            .max()
            .unwrap_or_default();
        let node_cpus = host.nodes.iter().map(|node| host.cpus_of(node.id).len()).max();
        let guest = |definition: &Definition| {
            let domain = &definition.domain;
            let counts = !any || definition.running || definition.autostart;
            let device = facts::has_device(definition);
            let (level, why) = match facts::to_leave(definition) {
                Some(why) => (Level::Alone, why),
                None if device => (Level::Fit, ""),
                None if setting.desktop => (Level::Local, "people at this host want the CPUs, too"),
                None if !counts => (Level::Local, "not running now, and not on autostart"),
                None => (Level::Fit, ""),
            };
            let memory = host.memory_known && node_memory > KiB(0) && domain.memory > node_memory;
            Guest {
                // All of them together: what fits then fits at any time.
                definition: Definition {
                    autostart: true,
                    running: false,
                    ..definition.clone()
                },
                counts,
                level,
                device,
                windows: domain.is_windows(),
                huge: memory || node_cpus.is_some_and(|cpus| domain.vcpus as usize > cpus),
                why,
            }
        };
        let mut guests: Vec<Guest> = definitions.iter().map(guest).collect();
        guests.sort_by_key(|guest| {
            let size = Reverse(guest.vcpus());
            (!guest.device, !guest.counts, size, guest.name().to_string())
        });
        // Guests for whom there is no CPU by number alone need no trial.
        let mut left = view.sets.dedicated.len();
        for guest in guests.iter_mut().filter(|guest| guest.level == Level::Fit) {
            match left.checked_sub(guest.vcpus()) {
                Some(less) => left = less,
                None => guest.give_up(),
            }
        }
        let cores = host.cores.len() / host.nodes.len().max(1);
        let quarter = cores / OF_A_DESKTOP;
        Self {
            guests,
            housekeeping: (setting.desktop && host.isolated.is_empty() && quarter > 0).then_some(quarter),
            setting,
        }
    }

    /// Gives these guests less; positions as in the draft.
    pub(crate) fn give_up(&mut self, guests: &[usize]) {
        for index in guests {
            if let Some(guest) = self.guests.get_mut(*index) {
                guest.give_up();
            }
        }
    }

    /// Leaves all guests alone.
    pub(crate) fn give_up_all(&mut self) {
        for guest in &mut self.guests {
            guest.level = Level::Alone;
            guest.why = "no policy was found that gives no less than now";
        }
    }
}
