//! Examination of one definition. `docs/design.md` section 5.4 has the rules; the questions are
//! asked in this order:
//!
//! ```text
//! others changed it several times in a row ─► examined when they rest
//! file gone ────────────────────────────────► forgotten
//! a hook runs, the guest starts or stops ───► examined when that has ended
//! text, policy and host as last seen ───────► left alone, unless another try may help
//! decided: unchanged, refused ──────────────► remembered
//! decided: tuned
//!   observe, on_policy_change = report ─────► logged, remembered
//!   an administrator changed it just now ───► later, unless it would collide at its start
//!   libvirt's driver does not run ──────────► when it runs
//!   file changed since it was read ─────────► examined again
//!   define ── the file had gone away ───────► undone
//!          └─ taken ────────────────────────► remembered as libvirt stored it
//! ```

mod backoff;
mod define;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use crate::daemon::earlier_pins;
use crate::daemon::earlier_pins::PreviousPinsRecords;
use crate::daemon::history::{HostDigest, LastOutcome, LastOutcomes, Outcome};
use crate::daemon::pending::{Waits, Why};
use crate::daemon::starts::Starts;
use crate::daemon::watch::Change;
use crate::domain::{self, Domain};
use crate::engine::{Decision, Question};
use crate::hook_events::claims::is_there;
use crate::hook_events::lines::{Mood, summary_with_causes};
use crate::host::libvirt_daemon;
use crate::host::memory::default_huge_page;
use crate::hostfs::HostFs;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::reader;
use crate::ledger::reader::unread::{MAX_BYTES, Unread};
use crate::ledger::taken::same_guest;
use crate::ledger::{Taken, claims, taken};
use crate::libvirt::Hypervisor;
use crate::libvirt::definition_file::DefinitionFile;
use crate::libvirt::overwritten;
use crate::live::failed_guests::Bugs;
use crate::panics::Bug;
use crate::snapshot::Snapshot;
use crate::types::guest_word::guest_word;
use crate::types::plan::{Plan, Scope};
use backoff::{MOST_DEFINES, MOST_IN_A_ROW, RecentChanges, Track};

/// Next step for a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// No step.
    Done,
    /// Another examination, after a wait.
    Wait(Waits),
}

/// Records about all definitions, on disk and in memory.
#[derive(Debug)]
pub(crate) struct Definitions {
    /// Outcome of each definition's last examination.
    pub seen: LastOutcomes,
    /// Pins that the guests had earlier.
    pub earlier: PreviousPinsRecords,
    /// Definitions that were not started since virtfit wrote them, and starts that failed.
    pub starts: Starts,
    tracks: BTreeMap<String, Track>,
    recent: RecentChanges,
    /// UUID and name of the definition that went away last.
    gone: Option<(String, String)>,
    /// UUIDs of definitions that failed and get one more try, as libvirt's driver started since
    /// then.
    again: BTreeSet<String>,
    /// Definitions that virtfit itself failed on.
    bugs: Bugs,
}

/// Inputs of an examination, and its way to libvirt.
pub(crate) struct DefineContext<'a> {
    /// Policy, host and ledger as they are now.
    pub view: &'a Snapshot,
    /// Calls to libvirt.
    pub hypervisor: &'a mut dyn Hypervisor,
    /// Test by guest name: true where libvirt must not be asked about the guest now.
    pub busy: &'a dyn Fn(&str) -> bool,
    /// Source of the events in the watched folders since its last call.
    pub drain: &'a mut dyn FnMut() -> Vec<Change>,
}

impl Definitions {
    /// Creates the state from the records on disk.
    pub(crate) fn new(seen: LastOutcomes, earlier: PreviousPinsRecords, starts: Starts) -> Self {
        Self {
            seen,
            earlier,
            starts,
            tracks: BTreeMap::new(),
            recent: RecentChanges::default(),
            gone: None,
            again: BTreeSet::new(),
            bugs: Bugs::default(),
        }
    }

    /// Notes that others wrote or removed a definition just now.
    pub(crate) fn changed_by_others(&mut self, name: &str) {
        self.recent.note(name, Instant::now());
    }

    /// Returns whether the file is as it was last seen: its event came from virtfit's own define
    /// then.
    pub(crate) fn is_ours(&self, root: &HostFs, name: &str) -> bool {
        let uuid = self.tracks.get(name).map(|track| track.uuid.as_str());
        let seen = uuid.and_then(|uuid| self.seen.get(uuid));
        let Some(seen) = seen.filter(|seen| seen.name == name) else {
            return false;
        };
        matches!(DefinitionFile::read(root, name), Ok(Some(now)) if now.digest == seen.text)
    }

    /// Forgets all definitions but these; `names` is sorted. Pins of guests that went long ago go,
    /// too.
    pub(crate) fn keep_only(&mut self, root: &HostFs, names: &[String]) {
        self.sweep_earlier(root);
        let gone = |name: &String| names.binary_search(name).is_err();
        let seen = self.seen.iter().map(|(_, seen)| &seen.name);
        let gone: Vec<String> = seen
            .chain(self.tracks.keys())
            .filter(|name| gone(name))
            .cloned()
            .collect();
        gone.iter().for_each(|name| self.forget(name));
    }

    /// Notes which guests are gone, and forgets the pins of those that went long ago.
    pub(crate) fn sweep_earlier(&mut self, root: &HostFs) {
        earlier_pins::sweep(&mut self.earlier, root, reader::seconds(SystemTime::now()));
        if let Some((uuid, _)) = &self.gone {
            overwritten::forget(root, uuid);
        }
    }

    /// Forgets a definition that is gone.
    pub(crate) fn forget(&mut self, name: &str) {
        self.tracks.remove(name);
        self.bugs.forget(name);
        self.starts.forget(name);
        let gone: Vec<String> = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.name == name)
            .map(|(uuid, _)| uuid.clone())
            .collect();
        for uuid in gone {
            self.seen.remove(&uuid);
            self.gone = Some((uuid, name.to_string()));
        }
    }

    /// Writes the records again whose files were removed by others; returns their number.
    pub(crate) fn write_again(&mut self) -> usize {
        self.seen.write_again() + self.earlier.write_again() + self.starts.write_again()
    }

    /// Allows new tries for every definition, as something outside changed.
    pub(crate) fn fresh_start(&mut self) {
        self.tracks.values_mut().for_each(Track::fresh_start);
    }

    /// Gives failed definitions one more try, as libvirt's driver started: libvirt, or the QEMU it
    /// examined, may be a newer version.
    pub(crate) fn libvirt_is_new(&mut self) {
        let failed = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.outcome == Outcome::Failed);
        self.again = failed.map(|(uuid, _)| uuid.clone()).collect();
    }

    /// Returns the names of the definitions that deserve another examination when CPUs became free
    /// or the host changed: refused, degraded, decided for another host, or on CPUs that other
    /// guests hold. Guests that run are left out.
    pub(crate) fn to_reconsider(&self, view: &Snapshot) -> Vec<String> {
        let nobody = Domain {
            name: "/".into(),
            ..Domain::default()
        };
        let host = HostDigest::of(view);
        let running = |name: &str| view.reading.running.contains(name);
        // Without any page to give out, a guest without pages gets none.
        let taken = view.taken(&nobody);
        let room = taken.pages_unclaimed(true).values().any(|pages| *pages > 0);
        let is_poor = |outcome: Outcome| outcome.is_poor() && (room || outcome != Outcome::SmallPages);
        let held = taken.cpus;
        let poor = self
            .seen
            .iter()
            .filter(|(uuid, seen)| is_poor(seen.outcome) || seen.host != host.for_guest(uuid))
            .map(|(_, seen)| seen.name.clone());
        let colliding = view.reading.ledger.claims.iter().filter_map(|claim| {
            let collides = claim.cpus.iter().any(|cpu| held.contains_key(&cpu));
            collides.then(|| claim.name.clone())
        });
        let short = self.short_of_pages(view);
        let mut names: Vec<String> = poor
            .chain(colliding)
            .filter(|name| !running(name))
            .chain(short)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns whether any definition has huge pages of virtfit's, or is to have some.
    pub(crate) fn depend_on_pages(&self, view: &Snapshot) -> bool {
        let lacks = |outcome: Outcome| outcome == Outcome::SmallPages;
        view.reading.ledger.claims.iter().any(|claim| claim.own_pages)
            || self.seen.iter().any(|(_, seen)| lacks(seen.outcome))
    }

    /// Returns the names of the definitions that may not find the huge pages virtfit wrote into
    /// them. Guests that run are left out.
    pub(crate) fn short_of_pages(&self, view: &Snapshot) -> Vec<String> {
        let short = taken::short_of_pages(&view.reading.ledger, &view.host, &view.policy.host);
        let names = short.into_iter().map(|claim| claim.name.clone());
        names
            .filter(|name| !view.reading.running.contains(name))
            .collect()
    }

    /// Examines one definition and does what follows from it.
    pub(crate) fn look(&mut self, name: &str, why: Why, around: &mut DefineContext<'_>) -> Next {
        let root = &around.view.root;
        if let Some(until) = self.recent.rests_until(name, Instant::now()) {
            log::debug!("{name}: changed several times in a row: later");
            return Next::Wait(Waits::Until(until));
        }
        let definition = match DefinitionFile::read(root, name) {
            Ok(Some(definition)) => definition,
            Ok(None) => {
                self.forget(name);
                return Next::Done;
            }
            Err(error) => return self.unreadable(name, &error),
        };
        if self.bugs.has(name, &definition.digest) {
            return Next::Done;
        }
        // Tuned, it would have several times its length, and the daemon's memory is for all.
        let size = definition.text.len() as u64;
        if size > MAX_BYTES {
            return self.unreadable(name, &Unread::TooLarge(size));
        }
        let domain = match domain::parse::from_text(&definition.text) {
            Ok(domain) => domain,
            Err(error) => return self.unreadable(name, &error),
        };
        if domain.name != name || domain.uuid.is_empty() {
            log::debug!("{name}: its file is not one that libvirt wrote: left alone");
            return Next::Done;
        }
        if is_busy(around, &domain) {
            log::debug!("{name}: libvirt is starting or stopping it: later");
            return Next::Wait(Waits::Hook);
        }
        self.note_name(name, &domain.uuid);
        self.note_change(&definition, &domain, why);
        self.decide(&definition, &domain, why, around)
    }

    /// Remembers that virtfit failed on a definition, as far as its file can be read.
    pub(crate) fn failed(&mut self, root: &HostFs, name: &str, bug: Bug) {
        let read = DefinitionFile::read(root, name).ok().flatten();
        let digest = read.map_or_else(String::new, |definition| definition.digest);
        self.bugs.note(name, &digest, &bug.into());
    }

    /// Logs that a definition goes on under another name. libvirt writes the new file first and
    /// removes the old one then, so the old name may be forgotten already.
    fn note_name(&mut self, name: &str, uuid: &str) {
        let seen = self.seen.get(uuid).map(|seen| seen.name.clone());
        let gone = self.gone.take_if(|(gone, _)| gone == uuid).map(|(_, name)| name);
        if let Some(before) = seen.or(gone).filter(|before| before != name) {
            let line = format!("{name}: renamed, it was {before}");
            self.say(name, log::Level::Info, &line);
        }
    }

    /// Logs that a definition cannot be read. The next change of its file leads to another
    /// examination.
    fn unreadable(&mut self, name: &str, error: &dyn std::fmt::Display) -> Next {
        self.say(
            name,
            log::Level::Warn,
            &format!("{name}: its definition: {error}"),
        );
        Next::Done
    }

    /// Notes a write by another program since the definition was last seen, and the time of the
    /// write.
    fn note_change(&mut self, definition: &DefinitionFile, domain: &Domain, why: Why) {
        let seen = self.seen.get(&domain.uuid);
        let outside = seen.is_none_or(|seen| seen.text != definition.digest);
        let track = self.tracks.entry(definition.name.clone()).or_default();
        track.uuid.clone_from(&domain.uuid);
        if !outside {
            return;
        }
        if !self.starts.is_untried(definition, &domain.uuid) {
            self.starts.written_by_others(&domain.uuid);
        }
        let age = match why {
            Why::Changed => Some(Duration::ZERO),
            _ => definition
                .modified
                .and_then(|time| SystemTime::now().duration_since(time).ok()),
        };
        track.written_by_others(age, Instant::now());
    }

    fn decide(
        &mut self,
        definition: &DefinitionFile,
        domain: &Domain,
        why: Why,
        around: &mut DefineContext<'_>,
    ) -> Next {
        // Text, policy and host are compared with those of the last examination.
        let view = around.view;
        let name = &definition.name;
        let host = HostDigest::of(view).for_guest(&domain.uuid);
        let seen = self.seen.get(&domain.uuid).cloned();
        let same_text = seen.as_ref().is_some_and(|seen| seen.text == definition.digest);
        let same_policy = seen
            .as_ref()
            .is_some_and(|seen| seen.policy == view.policy.digest);
        let same_host = seen.as_ref().is_some_and(|seen| seen.host == host);
        let outcome = seen.as_ref().map(|seen| seen.outcome);
        let same = same_text && same_policy && same_host;
        let want = Want::of(view, definition, domain);
        let collides = want == Want::Held;
        let running = view.reading.running.contains(name);
        // Nothing new, and no hope for a better outcome: left alone.
        let worth = match outcome {
            _ if !same || matches!(why, Why::Autostart | Why::FailedStart) => true,
            Some(Outcome::Failed) => self.again.remove(&domain.uuid),
            Some(outcome) => !running && (outcome.is_poor() || want > Want::Nothing) && why != Why::Changed,
            None => true,
        };
        if !worth {
            return Next::Done;
        }
        // A change by an administrator is answered at once; everything else is unasked for. Where
        // the change was not seen happening, or the policy changed as well, the times of the files
        // show which was last.
        let seen_to_change = why == Why::Changed || same_policy;
        let newer = seen_to_change || view.policy.is_older_than(definition.modified);
        let asked = (!same_text && newer) || matches!(why, Why::Autostart | Why::FailedStart);
        // A guest that was defined again without its pins gets the earlier ones if they are free.
        let earlier = earlier_pins::pins(&self.earlier, &domain.uuid, name).cloned();
        let ask = Question {
            earlier: earlier.as_ref(),
            ..Question::of(Scope::Boot)
        };
        let decision = match view.decide(&definition.text, ask) {
            Ok(decision) => decision,
            Err(bug) if bug.is_bug() => {
                self.bugs.note(name, &definition.digest, &bug);
                return Next::Done;
            }
            Err(error) => {
                self.say(name, log::Level::Warn, &format!("{name}: {error}"));
                self.remember(definition, domain, view, &host, Outcome::Failed);
                return Next::Done;
            }
        };
        // Without a tuned text, or in observe mode, the outcome is only logged and remembered.
        let plan = decision.plan();
        let outcome = Outcome::of(plan);
        let Decision::Tuned { xml, .. } = &decision else {
            self.tell(plan, Mood::Done, "");
            self.remember(definition, domain, view, &host, outcome);
            return Next::Done;
        };
        if view.policy.host.observe {
            self.tell(plan, Mood::Would, "; mode = observe: nothing is changed");
            self.remember(definition, domain, view, &host, Outcome::Told);
            return Next::Done;
        }
        // A definition that waits for an administrator goes on waiting, also when the host changes.
        let waits = !same_policy || seen.as_ref().is_some_and(|seen| seen.outcome == Outcome::Told);
        if waits && !asked && !collides && !view.policy.host.apply_policy_change {
            let guest = guest_word(name, &domain.uuid);
            let hint = format!("; older than the policy (on_policy_change = report): virtfit apply {guest}");
            self.tell(plan, Mood::Would, &hint);
            self.remember(definition, domain, view, &host, Outcome::Told);
            return Next::Done;
        }
        // An administrator may have the definition open in `virsh edit`, which an unasked define
        // would make fail.
        let track = self.tracks.entry(name.clone()).or_default();
        let now = Instant::now();
        if !asked
            && !collides
            && let Some(until) = track.edited_until(now)
        {
            log::debug!("{name}: an administrator changed it just now: later");
            return Next::Wait(Waits::Until(until));
        }
        // Another program may write the definition too: virtfit gives way to it.
        if track.never_settles() {
            let line = format!(
                "{name}: redefined {MOST_IN_A_ROW} times in a row and still not settled: left alone until it, the policy or the \
                 host changes"
            );
            self.say(name, log::Level::Warn, &line);
            self.remember(definition, domain, view, &host, Outcome::Failed);
            return Next::Done;
        }
        if let Some(until) = track.quarrels_until(now) {
            let line = format!(
                "{name}: defined {MOST_DEFINES} times within a minute: something else writes it, too; later"
            );
            self.say(name, log::Level::Warn, &line);
            return Next::Wait(Waits::Until(until));
        }
        // Only now is libvirt needed.
        if !libvirt_daemon::driver_runs(&view.root) {
            return Next::Wait(Waits::Libvirt(None));
        }
        self.define(definition, domain, xml, plan, &host, around)
    }

    fn remember(
        &mut self,
        definition: &DefinitionFile,
        domain: &Domain,
        view: &Snapshot,
        host: &str,
        outcome: Outcome,
    ) {
        let seen = LastOutcome {
            name: definition.name.clone(),
            text: definition.digest.clone(),
            policy: view.policy.digest.clone(),
            host: host.into(),
            outcome,
        };
        self.seen.put(&domain.uuid, seen);
    }

    /// Logs one line about a decision.
    fn tell(&mut self, plan: &Plan, mood: Mood, tail: &str) {
        let line = format!("{}{tail}", summary_with_causes(plan, mood));
        self.say(&plan.guest, log::Level::Info, &line);
    }

    /// Logs a line about a guest, unless it is the last line about that guest.
    fn say(&mut self, name: &str, level: log::Level, line: &str) {
        let track = self.tracks.entry(name.to_string()).or_default();
        if track.is_news(line) {
            log::log!(level, "{line}");
        }
    }
}

/// Returns whether libvirt is between `prepare` and `started` or `release` for the guest, by hooks
/// or by files.
fn is_busy(around: &DefineContext<'_>, domain: &Domain) -> bool {
    let holders = &around.view.reading.ledger.holders;
    let by_files = holders
        .iter()
        .filter(|holder| same_guest((&holder.uuid, &holder.name), (&domain.uuid, &domain.name)))
        .any(|holder| holder.starting || holder.reservation);
    by_files || (around.busy)(&domain.name)
}

/// Want of something that virtfit wrote into a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Want {
    /// Everything is there.
    Nothing,
    /// Other definitions claim its huge pages, too.
    Claimed,
    /// Other guests hold its CPUs, or its huge pages are not there.
    Held,
}

impl Want {
    /// Returns what a definition would lack at its start.
    fn of(view: &Snapshot, definition: &DefinitionFile, domain: &Domain) -> Self {
        let Ok(guest) = GuestXml::parse(&definition.text) else {
            return Self::Nothing;
        };
        let taken = view.taken(domain);
        if guest.wrote.iter().any(|cpu| taken.cpus.contains_key(&cpu)) {
            return Self::Held;
        }
        if !guest.own_pages || view.reading.running.contains(&domain.name) {
            return Self::Nothing;
        }
        let pages = claims::huge(&guest.domain, || default_huge_page(&view.root));
        if !is_there(&pages, &taken) {
            return Self::Held;
        }
        let autostart = view.reading.autostart.contains(&domain.name);
        let unclaimed = Taken {
            pages_free: taken.pages_unclaimed(autostart),
            ..taken
        };
        match is_there(&pages, &unclaimed) {
            true => Self::Nothing,
            false => Self::Claimed,
        }
    }
}
