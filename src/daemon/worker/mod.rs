//! Worker: the one thread that calls libvirt. It sleeps until a folder changes or a hook has ended,
//! examines the guests that this concerns, and sleeps again. It connects to libvirt only when there
//! is something to call, and disconnects when there is nothing more.

mod events;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::daemon::added_threads::IothreadCounts;
use crate::daemon::definitions::{DefineContext, Definitions, Next};
use crate::daemon::in_flight::Inflight;
use crate::daemon::kept_records::KeptRecords;
use crate::daemon::page_pools::PagePools;
use crate::daemon::pending::{Pending, Why};
use crate::daemon::queue::Queue;
use crate::daemon::starts::Starts;
use crate::daemon::unhooked::Unhooked;
use crate::daemon::watch::{Change, Watch};
use crate::daemon::{earlier_pins, history};
use crate::hook_events::lines::one_line;
use crate::hostfs::HostFs;
use crate::hostfs::stems::stems;
use crate::ledger::claims;
use crate::ledger::status;
use crate::libvirt::Hypervisor;
use crate::live::{Round, Running};
use crate::panics::guarded;
use crate::snapshot::cache::SnapshotCache;
use crate::snapshot::{Snapshot, SnapshotError, Sources};
use virtfit_hook::wire::DISABLED;

/// Most rounds over the running guests in a row that the ledger's changes made necessary; after
/// these there is a pause.
const MOST_AGAIN: u32 = 10;

/// Source of the worker's snapshots.
pub(crate) trait Snapshots: Send {
    /// Returns policy, host and ledger as they are now.
    ///
    /// # Errors
    /// There never was a good policy, or host or ledger cannot be read.
    fn view(&mut self, now: SystemTime) -> Result<Arc<Snapshot>, SnapshotError>;
    /// Returns the errors in the policy's files, while the last good policy is used.
    fn policy_problem(&self) -> Option<String>;
    /// Makes the next snapshot read everything again.
    fn forget(&mut self);
    /// Writes policy and host for other processes again where others removed the files.
    fn keep_again(&mut self);
}

impl Snapshots for Arc<SnapshotCache> {
    fn view(&mut self, now: SystemTime) -> Result<Arc<Snapshot>, SnapshotError> {
        let view = SnapshotCache::current(self, now);
        self.keep_policy();
        view
    }

    fn policy_problem(&self) -> Option<String> {
        let errors = SnapshotCache::policy_problem(self)?;
        Some(errors.to_string())
    }

    fn forget(&mut self) {
        SnapshotCache::forget(self);
    }

    fn keep_again(&mut self) {
        SnapshotCache::keep_again(self);
    }
}

/// Events that come in a row, as when others remove virtfit's own files or write the policy's.
#[derive(Debug, Clone, Copy)]
struct Burst {
    began: Instant,
    /// Time at which the events count as all that come.
    over: Instant,
}

impl Burst {
    /// Makes a burst of an event that comes now, or prolongs the `earlier` one: it is over when
    /// nothing came for `rest`, and `longest` after its first event at the latest.
    fn prolonged(earlier: Option<Self>, rest: Duration, longest: Duration) -> Self {
        let now = Instant::now();
        let began = earlier.map_or(now, |burst| burst.began);
        Self {
            began,
            over: (now + rest).min(began + longest),
        }
    }
}

/// Worker with its queues and records.
pub(crate) struct Worker {
    root: HostFs,
    watch: Watch,
    queue: Arc<Queue>,
    views: Box<dyn Snapshots>,
    hypervisor: Box<dyn Hypervisor>,
    /// Guests that libvirt is starting or stopping.
    inflight: Arc<Inflight>,
    definitions: Definitions,
    /// Records of running guests in `/run/virtfit`.
    kept: KeptRecords,
    pending: Pending,
    running: Running,
    /// Changes that came while libvirt was called.
    backlog: Vec<Change>,
    /// Definitions of guests that do not run are to be examined, as CPUs or pages became free.
    reconsider: bool,
    /// Driver that ran when it was last looked for; `None`: it did not run.
    driver: Option<String>,
    disabled: bool,
    /// Digest of the last policy read.
    policy: Option<String>,
    /// Last error logged about policy, host or ledger.
    said: String,
    /// Starts that no hook reported.
    unhooked: Unhooked,
    iothreads: IothreadCounts,
    /// Time at which the next tentative reservation ends.
    tentative: Option<Instant>,
    /// Time of the next round over running guests, as reservations changed.
    promised: Option<Instant>,
    /// Time at which definitions of guests that do not run are to be examined, as a guest ended.
    freed: Option<Instant>,
    /// Removal of virtfit's own files, until they are written again.
    removed: Option<Burst>,
    /// Change of the policy's files, until it is followed.
    policy_changing: Option<Burst>,
    /// Pools of huge pages, while definitions depend on them.
    pools: PagePools,
    /// Guests whose launch failed without a word, by UUID: time at which QEMU's log counts as
    /// whole, and name.
    unexplained: BTreeMap<String, (Instant, String)>,
}

impl Worker {
    /// Creates a worker that watches the folders from now on. No call is made for a guest that is
    /// in `inflight`.
    ///
    /// # Errors
    /// The kernel gives no inotify.
    pub(crate) fn new(
        place: &Sources,
        queue: Arc<Queue>,
        views: Box<dyn Snapshots>,
        hypervisor: Box<dyn Hypervisor>,
        inflight: Arc<Inflight>,
    ) -> io::Result<Self> {
        let root = place.root.clone();
        Ok(Self {
            watch: Watch::new(place)?,
            definitions: Definitions::new(
                history::LastOutcomes::load(&root),
                earlier_pins::PreviousPinsRecords::load(&root),
                Starts::load(&root),
            ),
            kept: KeptRecords::default(),
            driver: events::driver_id(&root),
            unhooked: Unhooked::new(stems(&root, status::FOLDER, "xml").unwrap_or_default()),
            iothreads: IothreadCounts::load(&root),
            disabled: root.exists(DISABLED),
            root,
            queue,
            views,
            hypervisor,
            inflight,
            pending: Pending::default(),
            running: Running::default(),
            backlog: Vec::new(),
            reconsider: false,
            policy: None,
            said: String::new(),
            tentative: None,
            promised: None,
            freed: None,
            removed: None,
            pools: PagePools::default(),
            policy_changing: None,
            unexplained: BTreeMap::new(),
        })
    }

    /// Works until the process ends.
    ///
    /// # Errors
    /// `poll` fails, which does not happen.
    pub(crate) fn run(&mut self) -> io::Result<Infallible> {
        self.rescan();
        self.look_at_reservations();
        loop {
            self.work();
            self.hypervisor.close();
            self.sleep()?;
            self.absorb();
        }
    }

    /// Returns the present snapshot. An error in policy, host or ledger is logged once.
    fn view(&mut self) -> Option<Arc<Snapshot>> {
        let view = self.views.view(SystemTime::now());
        let (view, problem) = match view {
            Ok(view) => (Some(view), self.views.policy_problem()),
            Err(error) => (None, Some(error.to_string())),
        };
        let problem = problem.map_or_else(String::new, |problem| one_line(&problem));
        if problem != self.said {
            match (problem.is_empty(), &view) {
                (true, _) => log::info!("policy, host and ledger can be read again"),
                (false, Some(_)) => log::error!("the last good policy stays in force: {problem}"),
                (false, None) => log::error!("nothing can be decided: {problem}"),
            }
            self.said = problem;
        }
        if let Some(view) = &view {
            self.kept.note(&self.root, &view.reading);
            self.pools
                .watch(self.definitions.depend_on_pages(view), Instant::now());
        }
        view
    }

    /// Works on running guests, and on all definitions that can be examined now, one after the
    /// other: each sees the claims of the one before it.
    fn work(&mut self) {
        let mut again = 0;
        loop {
            if self.disabled {
                // When the switch is removed, all guests are examined again.
                self.pending = Pending::default();
                self.running = Running::default();
                self.reconsider = false;
                return;
            }
            // Refused and degraded definitions get another try when something became free.
            if std::mem::take(&mut self.reconsider) {
                let Some(view) = self.view() else { return };
                for name in self.definitions.to_reconsider(&view) {
                    self.pending.add(&name, Why::Reconsider);
                }
                self.definitions.fresh_start();
            }
            let now = Instant::now();
            // Running guests come first: they may be on CPUs that others hold.
            if self.running.is_ready(now) {
                let Some(view) = self.view() else { return };
                let inflight = Arc::clone(&self.inflight);
                let busy = |name: &str| inflight.contains(name);
                let round = self.running.round(&view, self.hypervisor.as_mut(), &busy);
                self.absorb();
                if round == Round::Again {
                    again += 1;
                    if again >= MOST_AGAIN {
                        self.running.later();
                    }
                }
            }
            let now = Instant::now();
            // Changes that came while libvirt was called do not wake the worker later.
            if self.reconsider || self.running.is_ready(now) {
                continue;
            }
            // Then one definition, with a new snapshot, so that it sees what the one before it
            // claims.
            if !self.pending.is_ready(now) {
                return;
            }
            let Some(view) = self.view() else { return };
            if self.policy.is_none() {
                self.policy = Some(view.policy.digest.clone());
            }
            let autostart = |name: &str| view.reading.autostart.contains(name);
            let class = |name: &str| {
                let file = self.root.metadata(claims::path(name));
                claims::size_class(file.map_or(0, |file| file.len()))
            };
            let Some((name, why)) = self.pending.next(now, autostart, class) else {
                return;
            };
            // Events that come during the call are seen by it, and kept for afterwards.
            let (watch, backlog) = (&mut self.watch, &mut self.backlog);
            let inflight = &self.inflight;
            let mut around = DefineContext {
                view: &view,
                hypervisor: self.hypervisor.as_mut(),
                busy: &|name: &str| inflight.contains(name),
                drain: &mut || {
                    let changes = watch.drain();
                    backlog.extend(changes.iter().cloned());
                    changes
                },
            };
            // A bug met with one definition is remembered and stops no other.
            match guarded(|| self.definitions.look(&name, why, &mut around)) {
                Ok(Next::Wait(waits)) => self.pending.put(&name, why, waits),
                Ok(Next::Done) => {}
                Err(bug) => self.definitions.failed(&self.root, &name, bug),
            }
            self.absorb();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
