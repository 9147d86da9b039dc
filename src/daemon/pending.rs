//! Definitions to examine: for which reason, and when.

use std::collections::BTreeMap;
use std::time::Instant;

/// Reason to examine a definition, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// CPUs or pages became free, or the host may have changed.
    Reconsider,
    /// The policy changed.
    Policy,
    /// The daemon or libvirt started, or events were lost.
    Rescan,
    /// The definition's autostart link came or went.
    Autostart,
    /// The guest failed to start.
    FailedStart,
    /// The definition's file changed.
    Changed,
}

/// Event that has to come before a definition can be examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// No event.
    No,
    /// This time.
    Until(Instant),
    /// The end of a hook: libvirt is starting or stopping the guest.
    Hook,
    /// The start of libvirt's driver; or a time, where the driver runs and did not answer.
    Libvirt(Option<Instant>),
}

/// Reason and wait of one definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Reason to examine the definition.
    pub why: Why,
    /// Event that it waits for.
    pub waits: Waits,
    /// Class of its length, once it was asked for.
    pub class: Option<u32>,
}

impl Entry {
    fn is_ready(&self, now: Instant) -> bool {
        match self.waits {
            Waits::No => true,
            Waits::Until(time) | Waits::Libvirt(Some(time)) => time <= now,
            Waits::Hook | Waits::Libvirt(None) => false,
        }
    }
}

/// Definitions to examine, by name.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    entries: BTreeMap<String, Entry>,
}

impl Pending {
    /// Adds a definition to examine as soon as possible. A stronger reason replaces a weaker one,
    /// and an earlier wait ends.
    pub(crate) fn add(&mut self, name: &str, why: Why) {
        self.put(name, why, Waits::No);
    }

    /// Adds a definition to examine after a wait, which replaces an earlier one.
    pub(crate) fn put(&mut self, name: &str, why: Why, waits: Waits) {
        let entry = self.entries.entry(name.to_string()).or_insert(Entry {
            why,
            waits,
            class: None,
        });
        entry.why = entry.why.max(why);
        entry.waits = waits;
        entry.class = None;
    }

    /// Removes a definition.
    pub(crate) fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Ends the wait of this guest's definition for a hook.
    pub(crate) fn hook_ended(&mut self, name: &str) {
        if let Some(entry) = self
            .entries
            .get_mut(name)
            .filter(|entry| entry.waits == Waits::Hook)
        {
            entry.waits = Waits::No;
        }
    }

    /// Returns whether any definition can be examined now.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.entries.values().any(|entry| entry.is_ready(now))
    }

    /// Takes the next definition that can be examined: one of the smallest class
    /// ([`size_class`](crate::ledger::claims::size_class)), so that a costly definition delays none
    /// of an ordinary size; among these autostart guests, as they choose first; then by name.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        is_autostart: impl Fn(&str) -> bool,
        class: impl Fn(&str) -> u32,
    ) -> Option<(String, Why)> {
        let ready = self.entries.iter_mut().filter(|(_, entry)| entry.is_ready(now));
        let keys = ready.map(|(name, entry)| {
            let class = *entry.class.get_or_insert_with(|| class(name));
            (class, !is_autostart(name), name)
        });
        let (_, _, name) = keys.min()?;
        let name = name.clone();
        let entry = self.entries.remove(&name)?;
        Some((name, entry.why))
    }

    /// Ends all waits for libvirt.
    pub(crate) fn libvirt_is_up(&mut self) {
        self.free(|waits| matches!(waits, Waits::Libvirt(_)));
    }

    /// Ends all waits for a hook.
    pub(crate) fn hooks_ended(&mut self) {
        self.free(|waits| waits == Waits::Hook);
    }

    fn free(&mut self, which: impl Fn(Waits) -> bool) {
        for entry in self.entries.values_mut().filter(|entry| which(entry.waits)) {
            entry.waits = Waits::No;
        }
    }

    /// Returns the time at which the next wait ends by itself.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let times = self.entries.values().filter_map(|entry| match entry.waits {
            Waits::Until(time) | Waits::Libvirt(Some(time)) => Some(time),
            Waits::No | Waits::Hook | Waits::Libvirt(None) => None,
        });
        times.min()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn autostart_first_then_by_name_and_each_when_it_may() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let mut pending = Pending::default();
        for name in ["c", "b", "a"] {
            pending.add(name, Why::Rescan);
        }
        pending.put("later", Why::Policy, Waits::Until(later));
        pending.put("hook", Why::Changed, Waits::Hook);
        pending.put("libvirt", Why::Changed, Waits::Libvirt(None));
        let auto = |name: &str| name == "b";
        let alike = |_: &str| 15;
        let mut order = Vec::new();
        while let Some((name, _)) = pending.next(now, auto, alike) {
            order.push(name);
        }
        assert_eq!(order, ["b", "a", "c"]);
        assert_eq!(pending.deadline(), Some(later));
        pending.hook_ended("later");
        pending.hook_ended("hook");
        assert_eq!(
            pending.next(now, auto, alike),
            Some(("hook".into(), Why::Changed))
        );
        pending.libvirt_is_up();
        assert_eq!(
            pending.next(now, auto, alike),
            Some(("libvirt".into(), Why::Changed))
        );
        assert_eq!(pending.next(now, auto, alike), None);
        assert_eq!(
            pending.next(later, auto, alike),
            Some(("later".into(), Why::Policy))
        );
        assert_eq!(pending.deadline(), None);
    }

    #[test]
    fn what_is_costly_comes_last() {
        let mut pending = Pending::default();
        for name in ["a-huge", "b-large", "c", "d"] {
            pending.add(name, Why::Changed);
        }
        let auto = |name: &str| name == "a-huge" || name == "d";
        let class = |name: &str| match name {
            "a-huge" => 20,
            "b-large" => 17,
            _ => 15,
        };
        let mut order = Vec::new();
        while let Some((name, _)) = pending.next(Instant::now(), auto, class) {
            order.push(name);
        }
        assert_eq!(order, ["d", "c", "b-large", "a-huge"]);
    }

    #[test]
    fn the_stronger_reason_stays() {
        let mut pending = Pending::default();
        pending.add("a", Why::Changed);
        pending.add("a", Why::Reconsider);
        assert_eq!(
            pending.next(Instant::now(), |_| false, |_| 15),
            Some(("a".into(), Why::Changed))
        );
    }
}
