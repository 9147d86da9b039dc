//! The definitions to look at: why, and when.

use std::collections::BTreeMap;
use std::time::Instant;

/// Why a definition is looked at, the weakest reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// CPUs or pages became free, or the host may have changed.
    Reconsider,
    /// The policy changed.
    Policy,
    /// The daemon or libvirt started, or events were lost.
    Rescan,
    /// Its autostart link came or went.
    Autostart,
    /// It failed to start.
    FailedStart,
    /// Its file changed.
    Changed,
}

/// What has to come before it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// Nothing.
    No,
    /// Until then.
    Until(Instant),
    /// The end of a hook: libvirt is starting or stopping the guest.
    Hook,
    /// libvirt's driver; with a time where it runs and did not answer.
    Libvirt(Option<Instant>),
}

/// One definition that is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Why.
    pub why: Why,
    /// What it waits for.
    pub waits: Waits,
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

/// All of them, by name.
#[derive(Debug, Default)]
pub struct Pending {
    entries: BTreeMap<String, Entry>,
}

impl Pending {
    /// Looks at a definition as soon as it can be. A stronger reason takes the place of a weaker
    /// one, and what made it wait is looked at again.
    pub fn add(&mut self, name: &str, why: Why) {
        self.put(name, why, Waits::No);
    }

    /// The same, not before something.
    pub fn put(&mut self, name: &str, why: Why, waits: Waits) {
        let entry = self
            .entries
            .entry(name.to_string())
            .or_insert(Entry { why, waits });
        entry.why = entry.why.max(why);
        entry.waits = waits;
    }

    /// It is not looked at any more.
    pub fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// The hook of this guest may have ended.
    pub fn hook_ended(&mut self, name: &str) {
        if let Some(entry) = self
            .entries
            .get_mut(name)
            .filter(|entry| entry.waits == Waits::Hook)
        {
            entry.waits = Waits::No;
        }
    }

    /// Whether one waits for nothing.
    pub fn is_ready(&self, now: Instant) -> bool {
        self.entries.values().any(|entry| entry.is_ready(now))
    }

    /// Takes the next that waits for nothing: autostarted guests choose first, then by name.
    pub fn next(&mut self, now: Instant, is_autostart: impl Fn(&str) -> bool) -> Option<(String, Why)> {
        let mut all = self.entries.iter().filter(|(_, entry)| entry.is_ready(now));
        let first = all.next().map(|(name, _)| name.clone())?;
        let name = match is_autostart(&first) {
            true => first,
            false => all
                .map(|(name, _)| name)
                .find(|name| is_autostart(name))
                .cloned()
                .unwrap_or(first),
        };
        let entry = self.entries.remove(&name)?;
        Some((name, entry.why))
    }

    /// Those that wait for libvirt may go on.
    pub fn libvirt_is_up(&mut self) {
        self.free(|waits| matches!(waits, Waits::Libvirt(_)));
    }

    /// Those that wait for a hook may be looked at again.
    pub fn hooks_ended(&mut self) {
        self.free(|waits| waits == Waits::Hook);
    }

    fn free(&mut self, which: impl Fn(Waits) -> bool) {
        for entry in self.entries.values_mut().filter(|entry| which(entry.waits)) {
            entry.waits = Waits::No;
        }
    }

    /// When the next one that waits for a time may go on.
    pub fn deadline(&self) -> Option<Instant> {
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
        let mut order = Vec::new();
        while let Some((name, _)) = pending.next(now, auto) {
            order.push(name);
        }
        assert_eq!(order, ["b", "a", "c"]);
        assert_eq!(pending.deadline(), Some(later));
        pending.hook_ended("later");
        pending.hook_ended("hook");
        assert_eq!(pending.next(now, auto), Some(("hook".into(), Why::Changed)));
        pending.libvirt_is_up();
        assert_eq!(pending.next(now, auto), Some(("libvirt".into(), Why::Changed)));
        assert_eq!(pending.next(now, auto), None);
        assert_eq!(pending.next(later, auto), Some(("later".into(), Why::Policy)));
        assert_eq!(pending.deadline(), None);
    }

    #[test]
    fn the_stronger_reason_stays() {
        let mut pending = Pending::default();
        pending.add("a", Why::Changed);
        pending.add("a", Why::Reconsider);
        assert_eq!(
            pending.next(Instant::now(), |_| false),
            Some(("a".into(), Why::Changed))
        );
    }
}
