//! The one thread that calls libvirt: it sleeps until a folder changes or a hook has ended, looks at what that concerns, and
//! sleeps again. It connects only when there is something to call and leaves the connection when there is nothing more.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::define::{Around, Definitions, Next};
use super::inflight::Inflight;
use super::memory::Memory;
use super::pending::{Pending, Why};
use super::queue::Queue;
use super::running::{self, Round, Running};
use super::tasks::Task;
use super::watch::{Change, Watch};
use super::{earlier, seen};
use crate::host::libvirtd;
use crate::hypervisor::Hypervisor;
use crate::ledger::claims;
use crate::ledger::files::stems;
use crate::ledger::reservation::{self, Reservation};
use crate::root::Root;
use crate::view::{Place, View, ViewError};
use crate::wire::DISABLED;

/// How often in a row guests that run are looked at again because the ledger changed meanwhile, before there is a pause.
const MOST_AGAIN: u32 = 10;

/// How long the worker waits after something happened, before it looks.
const MOMENT: Duration = Duration::from_millis(2);

/// How long after a reservation those that run are looked at, which may be on its CPUs: its guest is not there yet, and its hook, or
/// those of guests that start beside it, go first.
const PROMISED: Duration = Duration::from_millis(30);

/// Where the worker gets policy, host and ledger from.
pub trait Views: Send {
    /// As they are now.
    ///
    /// # Errors
    /// There never was a good policy, or host or ledger cannot be read.
    fn view(&mut self, now: SystemTime) -> Result<Arc<View>, ViewError>;
    /// What is wrong with the policy's files, while the last good policy is used.
    fn policy_problem(&self) -> Option<String>;
    /// Reads all of it again for the next view.
    fn forget(&mut self);
}

impl Views for Arc<Memory> {
    fn view(&mut self, now: SystemTime) -> Result<Arc<View>, ViewError> {
        Memory::view(self, now)
    }

    fn policy_problem(&self) -> Option<String> {
        let errors = Memory::policy_problem(self)?;
        Some(errors.to_string())
    }

    fn forget(&mut self) {
        Memory::forget(self);
    }
}

/// The worker.
pub struct Worker {
    root: Root,
    watch: Watch,
    queue: Arc<Queue>,
    views: Box<dyn Views>,
    hypervisor: Box<dyn Hypervisor>,
    /// The guests libvirt is starting or stopping.
    inflight: Arc<Inflight>,
    definitions: Definitions,
    pending: Pending,
    running: Running,
    /// What came while libvirt was called.
    backlog: Vec<Change>,
    /// Inactive definitions are to be looked at: CPUs or pages became free.
    reconsider: bool,
    /// The driver's pid file when it was looked at last; `None`: it did not run.
    driver: Option<String>,
    disabled: bool,
    /// The policy that was looked at last.
    policy: Option<String>,
    /// What was said last about policy, host or ledger.
    said: String,
    /// When the next tentative reservation ends.
    tentative: Option<Instant>,
    /// When those that run are looked at, as reservations changed.
    promised: Option<Instant>,
    stop: bool,
}

impl Worker {
    /// Watches the folders from now on. No call is made for a guest that is in `inflight`.
    ///
    /// # Errors
    /// The kernel gives no inotify.
    pub fn new(
        place: &Place,
        queue: Arc<Queue>,
        views: Box<dyn Views>,
        hypervisor: Box<dyn Hypervisor>,
        inflight: Arc<Inflight>,
    ) -> io::Result<Self> {
        let root = place.root.clone();
        Ok(Self {
            watch: Watch::new(place)?,
            definitions: Definitions::new(
                seen::SeenRecords::load(&root, seen::FOLDER),
                earlier::EarlierRecords::load(&root, earlier::FOLDER),
            ),
            driver: driver_id(&root),
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
            stop: false,
        })
    }

    /// Works until [`Task::Stop`].
    ///
    /// # Errors
    /// `poll` fails, which it does not.
    pub fn run(&mut self) -> io::Result<()> {
        self.rescan();
        self.look_at_reservations();
        while !self.stop {
            self.work();
            self.hypervisor.close();
            self.sleep()?;
            self.absorb();
        }
        Ok(())
    }

    /// Until something happens, or something that waits may go on.
    fn sleep(&self) -> io::Result<()> {
        if !self.backlog.is_empty() {
            return Ok(());
        }
        let deadlines = [
            self.pending.deadline(),
            self.running.deadline(),
            self.tentative,
            self.promised,
            self.inflight.deadline(),
        ];
        let timeout = match deadlines.into_iter().flatten().min() {
            None => PollTimeout::NONE,
            Some(time) => {
                let wait = time.saturating_duration_since(Instant::now());
                // Rounded up, so that it is over when we wake.
                let milliseconds = wait.as_millis().saturating_add(1);
                PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = [
            PollFd::new(self.watch.fd(), PollFlags::POLLIN),
            PollFd::new(self.queue.fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Mostly the end of a hook, or more of the same, comes right behind what happened: that goes first.
        if fds.iter().any(|fd| fd.any() == Some(true)) {
            thread::sleep(MOMENT);
        }
        Ok(())
    }

    /// Takes in all that happened.
    fn absorb(&mut self) {
        let mut changes = std::mem::take(&mut self.backlog);
        changes.extend(self.watch.drain());
        // A burst on one folder is one look.
        let mut once = Vec::new();
        for change in changes {
            match change {
                Change::Driver
                | Change::Policy
                | Change::Switch
                | Change::Reservation
                | Change::ReservationGone
                | Change::Lost => {
                    if !once.contains(&change) {
                        once.push(change);
                    }
                }
                change => self.changed(change),
            }
        }
        once.into_iter().for_each(|change| self.changed(change));
        for task in self.queue.take() {
            self.task(task);
        }
        if self.promised.is_some_and(|time| time <= Instant::now()) {
            self.promised = None;
            self.running.ledger_changed();
            self.look_at_reservations();
        }
        if self.tentative.is_some_and(|time| time <= Instant::now()) {
            self.pending.hooks_ended();
            self.reconsider = true;
            self.look_at_reservations();
        }
        self.let_marks_fall();
    }

    /// A mark that falls because nobody ended it, is no event for those that wait for its end.
    fn let_marks_fall(&mut self) {
        if self.inflight.deadline().is_none_or(|time| time > Instant::now()) {
            return;
        }
        let _ = self.inflight.names();
        self.pending.hooks_ended();
        self.running.ledger_changed();
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::Defined(name) => {
                if !self.definitions.is_ours(&self.root, &name) {
                    self.pending.add(&name, Why::Changed);
                }
            }
            Change::Undefined(name) => {
                self.pending.remove(&name);
                self.definitions.forget(&name);
            }
            Change::Autostart(name) => self.pending.add(&name, Why::Autostart),
            Change::Status(name) => self.pending.hook_ended(&name),
            Change::StatusGone(name) => {
                self.pending.hook_ended(&name);
                self.running.remove(&name);
                self.reconsider = true;
            }
            Change::Driver => self.look_at_driver(),
            Change::Policy => self.look_at_policy(),
            Change::Switch => {
                let disabled = self.root.exists(DISABLED);
                if std::mem::replace(&mut self.disabled, disabled) != disabled {
                    let is = if disabled { "there" } else { "gone" };
                    log::info!("{DISABLED} is {is}");
                    self.rescan();
                }
            }
            Change::Reservation => self.promised_soon(),
            Change::ReservationGone => {
                self.pending.hooks_ended();
                self.reconsider = true;
                self.promised_soon();
            }
            Change::Lost => {
                self.look_at_driver();
                self.disabled = self.root.exists(DISABLED);
                self.look_at_policy();
                self.look_at_reservations();
                self.rescan();
            }
        }
    }

    fn task(&mut self, task: Task) {
        match task {
            Task::Defined { name } => self.changed(Change::Defined(name)),
            Task::Undefined { name } => self.changed(Change::Undefined(name)),
            Task::Prepared { name, .. } => self.pending.hook_ended(&name),
            Task::Incoming { .. } => {
                self.look_at_reservations();
                // Also one that nothing was reserved for does not come for ever.
                let wait = Duration::from_secs(reservation::TENTATIVE_SECONDS + 1);
                let end = Instant::now().checked_add(wait);
                self.tentative = self.tentative.or(end);
            }
            Task::Started { name, .. } | Task::Reconnected { name, .. } => {
                self.pending.hook_ended(&name);
                self.running.add(&name);
            }
            Task::Released { name, .. } => {
                self.pending.hook_ended(&name);
                self.running.remove(&name);
                self.reconsider = true;
                if let Err(error) = running::forget_ended(&self.root) {
                    log::debug!("records of live pins: {error}");
                }
            }
            Task::PolicyChanged => self.look_at_policy(),
            Task::HostChanged => self.reconsider = true,
            Task::LibvirtUp | Task::LibvirtDown => self.look_at_driver(),
            Task::Rescan => {
                self.views.forget();
                self.look_at_policy();
                self.rescan();
            }
            Task::Stop => self.stop = true,
        }
    }

    /// All definitions, and what is remembered of those that are gone.
    fn rescan(&mut self) {
        let names = match stems(&self.root, claims::FOLDER, "xml") {
            Ok(names) => names,
            Err(error) => {
                log::warn!("definitions cannot be looked at: {error}");
                return;
            }
        };
        for name in &names {
            self.pending.add(name, Why::Rescan);
        }
        self.definitions.keep_only(&names);
        self.pending.hooks_ended();
        self.running.add_all(&self.root);
    }

    fn look_at_driver(&mut self) {
        let driver = driver_id(&self.root);
        if driver == self.driver {
            return;
        }
        self.driver = driver;
        self.hypervisor.close();
        if self.driver.is_some() {
            log::debug!("libvirt's driver runs");
            self.pending.libvirt_is_up();
            self.running.libvirt_is_up();
            self.definitions.libvirt_is_new();
            self.rescan();
        }
    }

    /// A policy that changed concerns every definition.
    fn look_at_policy(&mut self) {
        let Some(view) = self.view() else { return };
        if self.policy.as_ref() == Some(&view.policy.digest) {
            return;
        }
        if self.policy.replace(view.policy.digest.clone()).is_some() {
            log::info!("the policy changed");
        }
        self.definitions.fresh_start();
        for name in stems(&self.root, claims::FOLDER, "xml").unwrap_or_default() {
            self.pending.add(&name, Why::Policy);
        }
    }

    fn promised_soon(&mut self) {
        self.promised = self.promised.or_else(|| Instant::now().checked_add(PROMISED));
    }

    fn look_at_reservations(&mut self) {
        self.tentative = next_end(&self.root, SystemTime::now());
    }

    /// Policy, host and ledger; what is wrong with them is said once.
    fn view(&mut self) -> Option<Arc<View>> {
        let view = self.views.view(SystemTime::now());
        let (view, problem) = match view {
            Ok(view) => (Some(view), self.views.policy_problem()),
            Err(error) => (None, Some(error.to_string())),
        };
        let problem = problem.unwrap_or_default();
        if problem != self.said {
            match (problem.is_empty(), &view) {
                (true, _) => log::info!("policy, host and ledger can be read again"),
                (false, Some(_)) => log::error!("the last good policy stays in force: {problem}"),
                (false, None) => log::error!("nothing can be decided: {problem}"),
            }
            self.said = problem;
        }
        view
    }

    /// Looks at all definitions that wait for nothing, one after the other: each sees what the one before it claims.
    fn work(&mut self) {
        let mut again = 0;
        loop {
            if self.disabled {
                // When the switch goes, all of them are looked at.
                self.pending = Pending::default();
                self.running = Running::default();
                self.reconsider = false;
                return;
            }
            if std::mem::take(&mut self.reconsider) {
                let Some(view) = self.view() else { return };
                for name in self.definitions.to_reconsider(&view) {
                    self.pending.add(&name, Why::Reconsider);
                }
                self.definitions.fresh_start();
            }
            let now = Instant::now();
            // Guests that run come first: they may be on others' CPUs.
            if self.running.is_ready(now) {
                let Some(view) = self.view() else { return };
                let inflight = Arc::clone(&self.inflight);
                let busy = |name: &str| inflight.contains(name);
                let round = self.running.round(&view, self.hypervisor.as_mut(), &busy);
                self.absorb();
                if self.stop {
                    return;
                }
                if round == Round::Again {
                    again += 1;
                    if again >= MOST_AGAIN {
                        self.running.later();
                    }
                }
            }
            let now = Instant::now();
            // What came while libvirt was called wakes nobody later.
            if self.reconsider || self.running.is_ready(now) {
                continue;
            }
            if !self.pending.is_ready(now) {
                return;
            }
            let Some(view) = self.view() else { return };
            if self.policy.is_none() {
                self.policy = Some(view.policy.digest.clone());
            }
            let autostart = |name: &str| view.reading.autostart.contains(name);
            let Some((name, why)) = self.pending.next(now, autostart) else {
                return;
            };
            let (watch, backlog) = (&mut self.watch, &mut self.backlog);
            let inflight = &self.inflight;
            let mut around = Around {
                view: &view,
                hypervisor: self.hypervisor.as_mut(),
                busy: &|name: &str| inflight.contains(name),
                drain: &mut || {
                    let changes = watch.drain();
                    backlog.extend(changes.iter().cloned());
                    changes
                },
            };
            if let Next::Wait(waits) = self.definitions.look(&name, why, &mut around) {
                self.pending.put(&name, why, waits);
            }
            self.absorb();
            if self.stop {
                return;
            }
        }
    }
}

/// Which driver runs, by what it wrote into its pid file.
fn driver_id(root: &Root) -> Option<String> {
    libvirtd::driver_runs(root).then(|| libvirtd::driver_text(root))
}

/// When the next tentative reservation ends.
fn next_end(root: &Root, now: SystemTime) -> Option<Instant> {
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let ends = stems(root, reservation::FOLDER, "json").ok()?;
    let ends = ends.iter().filter_map(|uuid| {
        let text = root.read(reservation::path(uuid)).ok()?;
        Reservation::from_json(&text).ok()?.tentative_until
    });
    // One that is over already was counted when it was read; one far away is void.
    let left = ends
        .filter_map(|end| end.checked_sub(now))
        .filter(|left| (1..=reservation::TENTATIVE_SECONDS).contains(left));
    let left = left.min()?;
    Instant::now().checked_add(Duration::from_secs(left))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::daemon::inflight::Phase;
    use crate::daemon::pending::Waits;
    use crate::hypervisor::{HypervisorError, LiveChange};
    use crate::ledger::process::Parent;

    struct Nobody;

    impl Hypervisor for Nobody {
        fn define(&mut self, _: &str) -> Result<(), HypervisorError> {
            Err(HypervisorError::Gone("nobody".into()))
        }

        fn undefine(&mut self, _: &str) -> Result<(), HypervisorError> {
            Err(HypervisorError::Gone("nobody".into()))
        }

        fn live(&mut self, _: &str, _: &LiveChange) -> Result<(), HypervisorError> {
            Err(HypervisorError::Gone("nobody".into()))
        }
    }

    /// Its `started` was missed: nothing tells that it is over.
    #[test]
    fn who_waits_for_a_hook_that_never_ends_goes_on_when_the_mark_falls() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place {
            root: Root::new(dir.path()),
            policy: None,
            topology: None,
            assume_empty: false,
        };
        let limit = Duration::from_millis(50);
        let inflight = Arc::new(Inflight::with_limit(place.root.clone(), limit));
        let memory = Arc::new(Memory::new(place.clone()));
        let mut worker = Worker::new(
            &place,
            Arc::new(Queue::new().unwrap()),
            Box::new(memory),
            Box::new(Nobody),
            Arc::clone(&inflight),
        )
        .unwrap();
        inflight.begin("db", Phase::Starting, &Parent::new(7));
        worker.pending.put("db", Why::Changed, Waits::Hook);
        let begin = Instant::now();
        worker.sleep().unwrap();
        worker.absorb();
        let waited = begin.elapsed();
        assert!(waited >= limit, "{waited:?}");
        assert!(worker.pending.is_ready(Instant::now()) && worker.running.is_ready(Instant::now()));
        assert!(!inflight.contains("db"));
        assert_eq!(inflight.deadline(), None, "it is waited for once");
    }
}
