//! Answers to hooks, decided from the daemon's cached snapshot.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::daemon::server::{HookAnswerer, Unanswered};
use crate::daemon::turns::Turns;
use crate::engine::{Decision, EngineError, Question};
use crate::hook_events;
use crate::hook_events::{Answer, Call, Context, Source};
use crate::hostfs::HostFs;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::hook_calls::{self, Caller};
use crate::ledger::reader::LedgerError;
use crate::ledger::reader::promises::Promises;
use crate::ledger::store::{Store, StoreError};
use crate::snapshot::cache::SnapshotCache;
use crate::snapshot::decisions::DecisionCache;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::xml::XmlError;
use virtfit_hook::operation::HookAction;
use virtfit_hook::wire::DISABLED;

/// Longest wait for the lock to sweep.
const SWEEP: Duration = Duration::from_millis(100);

/// Decision maker for hooks, with the daemon's caches.
#[derive(Debug)]
pub struct Hooks {
    memory: Arc<SnapshotCache>,
    memo: DecisionCache,
    store: Store,
    /// Libvirt daemon that was last marked as calling the hook.
    caller: Mutex<Option<Caller>>,
    turns: Turns,
}

impl Hooks {
    /// Creates the decision maker; reservations are kept below the root that `memory` reads.
    pub fn new(memory: Arc<SnapshotCache>) -> Self {
        let store = Store::new(&memory.place().root);
        Self {
            memory,
            memo: DecisionCache::default(),
            store,
            caller: Mutex::default(),
            turns: Turns::default(),
        }
    }

    /// Leaves the mark that libvirt calls the hook.
    fn mark_called(&self, call: &Call) {
        let mut known = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        match hook_calls::mark(self.memory.root(), &call.parent, *known) {
            Ok(caller) => *known = caller,
            Err(error) => log::debug!("no mark that the hook is called: {error}"),
        }
    }

    fn is_disabled(&self) -> bool {
        self.memory.place().root.exists(DISABLED)
    }
}

impl Source for Hooks {
    fn current(&self) -> Result<Arc<Snapshot>, SnapshotError> {
        self.memory.current_for_hook(SystemTime::now())
    }

    fn guest(&self, xml: &str) -> Result<Arc<GuestXml>, XmlError> {
        self.memo.guest(xml)
    }

    fn decide(&self, view: &Snapshot, xml: &str, ask: Question<'_>) -> Result<Arc<Decision>, EngineError> {
        self.memo.decide(view, xml, ask)
    }

    fn under_lock(&self, _: &HostFs, now: SystemTime) -> Result<Promises, LedgerError> {
        self.memory.under_lock(now)
    }

    fn unchanged(&self, view: &Snapshot) -> bool {
        self.memory.unchanged(view)
    }
}

impl HookAnswerer for Hooks {
    fn answer(&self, call: &Call, deadline: Instant) -> Result<Answer, Unanswered> {
        // The hook checks this too; the file may have come since then.
        if self.is_disabled() {
            return Ok(Answer::default());
        }
        // One start is decided at a time, in the order in which their hooks asked.
        let reserves = matches!(call.action(), HookAction::Prepare | HookAction::Filter);
        let turn = reserves.then(|| self.turns.take(deadline));
        if matches!(turn, Some(None)) {
            return Err(Unanswered::Queue(self.turns.waiting() + 1));
        }
        let context = Context {
            source: self,
            store: &self.store,
            deadline,
            now: SystemTime::now(),
            daemon: true,
        };
        let outcome = hook_events::answer(call, &context);
        match outcome.undecided {
            // The hook, which then decides by itself, has more time.
            Some(why) if Instant::now() >= deadline => Err(Unanswered::Late(why)),
            Some(_) => {
                // libvirt throws away the stderr of a hook that ends well.
                for line in &outcome.answer.stderr {
                    log::warn!("{}", line.strip_prefix("virtfit: ").unwrap_or(line));
                }
                Ok(outcome.answer)
            }
            None => Ok(outcome.answer),
        }
    }

    /// Marks libvirt as a caller of the hook, and after a `release` removes void records: they are
    /// found under the lock, and no hook waits now.
    fn afterwards(&self, call: &Call) {
        if !self.is_disabled() {
            self.mark_called(call);
        }
        let released = call.action() == HookAction::Release;
        if !released || self.is_disabled() {
            return;
        }
        let now = SystemTime::now();
        let sweep = || -> Result<(), StoreError> {
            let locked = self.store.lock(Instant::now() + SWEEP)?;
            locked.sweep(&self.memory.under_lock(now)?, now);
            Ok(())
        };
        if let Err(error) = sweep() {
            log::debug!("nothing was swept: {error}");
        }
    }
}
