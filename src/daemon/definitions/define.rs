//! Handing a tuned definition to libvirt, with checks right before and right after the call.

use crate::libvirt;
use crate::types::guest_word::guest_word;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::daemon::definitions::{DefineContext, Definitions, Next, is_busy};
use crate::daemon::earlier_pins::{self, PreviousPins};
use crate::daemon::history::Outcome;
use crate::daemon::pending::Waits;
use crate::daemon::untried;
use crate::daemon::watch::Change;
use crate::domain::Domain;
use crate::hook_events::lines::{Mood, summary_with_causes};
use crate::host::running_hooks;
use crate::libvirt::HypervisorError;
use crate::libvirt::definition_file::DefinitionFile;
use crate::libvirt::obstacle::{Obstacle, obstacle};
use crate::libvirt::overwritten;
use crate::types::plan::Plan;
use crate::types::reason::{LeftOut, Reason};
use crate::types::setting::Target;

/// Wait before another examination of a definition that libvirt is writing.
const BEING_WRITTEN: Duration = Duration::from_millis(50);

impl Definitions {
    /// Defines a tuned text through libvirt, with checks right before and right after the call.
    pub(crate) fn define(
        &mut self,
        definition: &DefinitionFile,
        domain: &Domain,
        xml: &str,
        plan: &Plan,
        host: &str,
        around: &mut DefineContext<'_>,
    ) -> Next {
        let name = &definition.name;
        let view = around.view;
        let root = &view.root;
        // The checks come right before the call: no connection is made in between.
        if let Err(error) = around.hypervisor.open() {
            log::debug!("{name}: {error}");
            return Next::Wait(Waits::Libvirt(Some(Instant::now() + libvirt::RETRY)));
        }
        // Everything that happened up to here is in the file that is compared now.
        (around.drain)();
        match obstacle(root, &domain.uuid, definition) {
            // No event reports the end of another program's hook.
            Some(Obstacle::Hook) => {
                log::debug!("{name}: another program's hook runs for it: later");
                return Next::Wait(Waits::Until(Instant::now() + running_hooks::AGAIN));
            }
            Some(Obstacle::Written) => return Next::Wait(Waits::Until(Instant::now() + BEING_WRITTEN)),
            Some(Obstacle::Changed | Obstacle::Gone) => return Next::Wait(Waits::No),
            Some(Obstacle::Start) => return Next::Wait(Waits::Hook),
            None if is_busy(around, domain) => return Next::Wait(Waits::Hook),
            None => {}
        }
        // The events right after the call show what else happened to the file at that moment.
        let result = around.hypervisor.redefine(&definition.text, xml);
        let changes = (around.drain)();
        // Where libvirt refused, a file that changed is the likely reason; otherwise the outcome is
        // failed.
        match result {
            Err(HypervisorError::Gone(why)) => {
                log::debug!("{name}: libvirt does not answer: {why}");
                return Next::Wait(Waits::Libvirt(Some(Instant::now() + libvirt::RETRY)));
            }
            Err(error) => {
                if !definition.is_current(root) {
                    return Next::Wait(Waits::No);
                }
                let line = match error {
                    HypervisorError::Other(why) => format!("{name}: left as it is: {why}"),
                    HypervisorError::Said(why) | HypervisorError::Gone(why) => {
                        format!("{name}: libvirt does not take the tuned definition: {why}")
                    }
                };
                self.say(name, log::Level::Error, &line);
                self.remember(definition, domain, view, host, Outcome::Failed);
                return Next::Done;
            }
            Ok(()) => {}
        }
        // A file that was removed just before the call must not come back; one that was written
        // twice may have lost an administrator's change.
        if went_away(&changes, name) {
            return self.undo(name, domain, around);
        }
        let stored = DefinitionFile::read(root, name).ok().flatten();
        // A change that a define of virtfit's followed may be lost, and goes on being so when
        // virtfit defines the guest again.
        let mut lost = overwritten::is_noted(root, &domain.uuid, || definition.digest.clone());
        let written = of_file(&changes, name);
        if written.iter().filter(|written| **written).count() > 1 {
            let is_ours =
                |stored: &DefinitionFile| untried::record_of(&stored.text) == untried::record_of(xml);
            if !stored.as_ref().is_some_and(is_ours) {
                log::debug!("{name}: changed right after it was defined: examined again");
                self.tracks
                    .entry(name.clone())
                    .or_default()
                    .written_by_us(Instant::now());
                return Next::Wait(Waits::No);
            }
            log::warn!(
                "{name}: its definition was changed at the same moment as virtfit defined it: look whether that change is still there"
            );
            lost = true;
        }
        let track = self.tracks.entry(name.clone()).or_default();
        track.written_by_us(Instant::now());
        // Each define is logged, also where the line repeats the last one.
        let line = format!("{}{}", summary_with_causes(plan, Mood::Done), no_pages(plan));
        track.is_news(&line);
        log::info!("{line}");
        // Records for later: the pins, the text as libvirt stored it, and that it has not been
        // started yet.
        if let Some(earlier) = plan.placement.as_ref().and_then(|p| PreviousPins::of(name, p)) {
            earlier_pins::keep(&mut self.earlier, &domain.uuid, earlier);
        }
        if let Some(stored) = stored {
            self.starts.defined(&stored, domain, plan);
            self.remember(&stored, domain, view, host, Outcome::of(plan));
            if lost {
                overwritten::note(root, &domain.uuid, &stored.digest);
            }
        }
        Next::Done
    }

    /// Takes a define back, as the definition was removed between the last check and the call.
    ///
    /// An administrator may be defining the guest again at this very moment, and libvirt undefines
    /// whatever is there. Therefore the guest is first given a name that is in use nowhere: from
    /// then on libvirt refuses a definition of its UUID under the old name. The events of its file
    /// up to there show whether the definition is still virtfit's; if not, it gets its name back.
    fn undo(&mut self, name: &str, domain: &Domain, around: &mut DefineContext<'_>) -> Next {
        // A name that could be known in advance could be taken in advance.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let aside = format!("virtfit-undo-{}-{}", domain.uuid, now.as_nanos());
        self.forget(name);
        let by_hand = format!("{name}: undefined while virtfit tuned it, so that it is defined again");
        if let Err(error) = around.hypervisor.rename(&domain.uuid, &aside) {
            // Undefined again by now, or it cannot be renamed, for example because it runs.
            if !matches!(DefinitionFile::read(&around.view.root, name), Ok(None)) {
                log::warn!(
                    "{by_hand}: {error}: if it shall not be, virsh undefine {}",
                    guest_word(name, &domain.uuid)
                );
            }
            return Next::Done;
        }
        if is_only_renamed(&(around.drain)(), name) {
            match around.hypervisor.undefine(&domain.uuid) {
                Ok(()) => log::info!("{name}: undefined while it was tuned: it stays undefined"),
                Err(error) => log::error!("{by_hand}, now as {aside}: {error}: virsh undefine {aside}"),
            }
        } else {
            match around.hypervisor.rename(&domain.uuid, name) {
                Ok(()) => log::info!("{name}: undefined and defined anew while it was tuned: it stays"),
                Err(error) => log::error!(
                    "{name}: undefined and defined anew while it was tuned, and is called {aside} now: {error}: virsh domrename {aside} NAME"
                ),
            }
        }
        Next::Done
    }
}

/// Says why a definition gets no huge pages though the host has some: it had them before, or they
/// are left to others.
fn no_pages(plan: &Plan) -> String {
    let gone = plan
        .changes
        .iter()
        .any(|change| change.target == Target::Hugepages);
    let why = plan.notes.not_done.iter().find(|note| match &note.why {
        Reason::LeftOut(LeftOut::FewPages { .. }) => gone,
        Reason::LeftOut(LeftOut::PagesLeft { .. }) => true,
        _ => false,
    });
    why.map_or_else(String::new, |note| format!("; no huge pages: {}", note.why))
}

/// Returns the events of one definition's file, in order: written (true) or gone (false).
fn of_file(changes: &[Change], guest: &str) -> Vec<bool> {
    let of = |change: &Change| match change {
        Change::Defined(name) if name == guest => Some(true),
        Change::Undefined(name) if name == guest => Some(false),
        _ => None,
    };
    changes.iter().filter_map(of).collect()
}

/// Returns whether the file went away and was then written once, by virtfit. False where events
/// were lost, as another program may have written the file too.
fn went_away(changes: &[Change], guest: &str) -> bool {
    of_file(changes, guest) == [false, true] && !changes.contains(&Change::Lost)
}

/// Returns whether nothing happened to the file but that virtfit's own rename took it away.
fn is_only_renamed(changes: &[Change], guest: &str) -> bool {
    of_file(changes, guest) == [false] && !changes.contains(&Change::Lost)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;
    use std::rc::Rc;

    use super::*;
    use crate::daemon::earlier_pins::PreviousPinsRecords;
    use crate::daemon::history::LastOutcomes;
    use crate::daemon::starts::Starts;
    use crate::engine::{Decision, Question};
    use crate::hostfs::HostFs;
    use crate::libvirt::{Hypervisor, LiveChange};
    use crate::snapshot::{Snapshot, Sources};
    use crate::types::plan::Scope;

    /// Hypervisor that records its calls. An administrator's acts during a rename come as events.
    #[derive(Default)]
    struct Fake {
        calls: Vec<String>,
        refuses_rename: bool,
        events: Rc<RefCell<Vec<Change>>>,
        meanwhile: Vec<Change>,
        /// File of the definition, and what another client writes in the moment of a define: before
        /// it, or after it.
        file: PathBuf,
        theirs: [Option<String>; 2],
    }

    impl Hypervisor for Fake {
        fn define(&mut self, xml: &str) -> Result<(), HypervisorError> {
            let [before, after] = &self.theirs;
            for text in [before.as_deref(), Some(xml), after.as_deref()]
                .into_iter()
                .flatten()
            {
                std::fs::write(&self.file, text).unwrap();
                self.events.borrow_mut().push(Change::Defined("a".into()));
            }
            Ok(())
        }

        fn undefine(&mut self, uuid: &str) -> Result<(), HypervisorError> {
            self.calls.push(format!("undefine {uuid}"));
            Ok(())
        }

        fn rename(&mut self, _: &str, name: &str) -> Result<(), HypervisorError> {
            self.calls.push(format!("rename {name}"));
            if self.refuses_rename {
                return Err(HypervisorError::Said("it runs".into()));
            }
            let mut events = self.events.borrow_mut();
            events.append(&mut self.meanwhile);
            events.push(Change::Defined(name.into()));
            events.push(Change::Undefined("a".into()));
            Ok(())
        }

        fn live(&mut self, _: &str, _: &LiveChange) -> Result<(), HypervisorError> {
            Ok(())
        }
    }

    #[test]
    fn what_an_administrator_defined_anew_is_never_undefined() {
        let dir = tempfile::tempdir().unwrap();
        let place = Sources {
            root: HostFs::new(dir.path()),
            topology: Some("node:1 core:2 pu:1".into()),
            ..Sources::default()
        };
        let view = Snapshot::read(&place, SystemTime::now()).unwrap();
        let domain = Domain {
            name: "a".into(),
            uuid: "u".into(),
            ..Domain::default()
        };
        let defined = || Change::Defined("a".into());
        let gone = || Change::Undefined("a".into());
        let (aside, back, off) = ("rename virtfit-undo-u", "rename a", "undefine u");
        // Events between virtfit's define and the rename, whether libvirt renames, the calls
        let rows: [(Vec<Change>, bool, &[&str]); 6] = [
            (vec![], true, &[aside, off]),
            (
                vec![Change::Defined("b".into()), Change::Driver],
                true,
                &[aside, off],
            ),
            (vec![defined()], true, &[aside, back]),
            (vec![gone(), defined()], true, &[aside, back]),
            (vec![Change::Lost], true, &[aside, back]),
            (vec![], false, &[aside]),
        ];
        for (meanwhile, renames, calls) in rows {
            let what = format!("{meanwhile:?}");
            let mut fake = Fake {
                refuses_rename: !renames,
                meanwhile,
                ..Fake::default()
            };
            let events = Rc::clone(&fake.events);
            let mut definitions = Definitions::new(
                LastOutcomes::load(&place.root),
                PreviousPinsRecords::load(&place.root),
                Starts::load(&place.root),
            );
            let mut around = DefineContext {
                view: &view,
                hypervisor: &mut fake,
                busy: &|_| false,
                drain: &mut || events.take(),
            };
            assert_eq!(definitions.undo("a", &domain, &mut around), Next::Done);
            // The name ends with the time.
            let made: Vec<&str> = fake
                .calls
                .iter()
                .map(|call| call.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-'))
                .collect();
            assert_eq!(made, calls, "{what}");
        }
    }

    #[test]
    fn a_change_that_is_lost_is_told_and_one_that_came_last_is_examined() {
        let uuid = "8c1f6f0e-0000-4000-8000-000000000001";
        let text = |title: &str| {
            format!(
                "<domain type='kvm'>\n  <name>a</name>\n  <uuid>{uuid}</uuid>\n  <title>{title}</title>\n  \
                 <memory unit='MiB'>64</memory>\n  <vcpu>1</vcpu>\n  \
                 <os><type arch='x86_64' machine='q35'>hvm</type></os>\n</domain>\n"
            )
        };
        let theirs = || Some(text("theirs"));
        // what others write before and after virtfit's define, next step, is it told, is it ours
        for (others, next, lost, ours) in [
            ([None, None], Next::Done, false, true),
            ([theirs(), None], Next::Done, true, true),
            ([None, theirs()], Next::Wait(Waits::No), false, false),
            ([theirs(), theirs()], Next::Wait(Waits::No), false, false),
        ] {
            let what = format!("{others:?}");
            let dir = tempfile::tempdir().unwrap();
            let root = HostFs::new(dir.path());
            let file = root.path("/etc/libvirt/qemu/a.xml");
            for (path, text) in [
                (file.clone(), text("first")),
                (
                    root.path("/etc/virtfit/policy.toml"),
                    "[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n".to_string(),
                ),
            ] {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            let place = Sources {
                root: root.clone(),
                topology: Some("node:1 core:4 pu:2".into()),
                ..Sources::default()
            };
            let view = Snapshot::read(&place, SystemTime::now()).unwrap();
            let mut fake = Fake {
                file,
                theirs: others,
                ..Fake::default()
            };
            let events = Rc::clone(&fake.events);
            let mut definitions = Definitions::new(
                LastOutcomes::load(&root),
                PreviousPinsRecords::load(&root),
                Starts::load(&root),
            );
            let mut around = DefineContext {
                view: &view,
                hypervisor: &mut fake,
                busy: &|_| false,
                drain: &mut || events.take(),
            };
            let read = DefinitionFile::read(&root, "a").unwrap().unwrap();
            let domain = crate::domain::parse::from_text(&read.text).unwrap();
            let decided = view.decide(&read.text, Question::of(Scope::Boot));
            let Ok(Decision::Tuned { xml, plan }) = decided else {
                panic!("{decided:?}")
            };
            let got = definitions.define(&read, &domain, &xml, &plan, "host", &mut around);
            assert_eq!(got, next, "{what}");
            assert_eq!(definitions.seen.get(uuid).is_some(), ours, "{what}");
            let digest = DefinitionFile::read(&root, "a").unwrap().unwrap().digest;
            assert_eq!(overwritten::is_noted(&root, uuid, || digest), lost, "{what}");
        }
    }

    #[test]
    fn only_gone_and_then_written_once_is_taken_back() {
        let defined = |name: &str| Change::Defined(name.into());
        let gone = |name: &str| Change::Undefined(name.into());
        for (changes, expected) in [
            (vec![], false),
            (vec![defined("a")], false),
            (vec![gone("a"), defined("a")], true),
            (vec![gone("a"), gone("b"), Change::Driver, defined("a")], true),
            (vec![gone("a"), Change::Lost, defined("a")], false),
            (vec![gone("b"), defined("a")], false),
            (vec![defined("a"), gone("a")], false),
            // Defined again by another program: it stays.
            (vec![gone("a"), defined("a"), defined("a")], false),
        ] {
            let what = format!("{changes:?}");
            assert_eq!(went_away(&changes, "a"), expected, "{what}");
        }
    }
}
