//! What wakes the worker, and what each of these things asks of it.

use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::daemon::pending::{Waits, Why};
use crate::daemon::tasks::WorkerEvent;
use crate::daemon::watch::Change;
use crate::daemon::worker::Worker;
use crate::host::libvirt_daemon;
use crate::hostfs::HostFs;
use crate::ledger::claims;
use crate::ledger::reader::files::stems;
use crate::ledger::reservation::{self, Reservation};
use crate::live;
use crate::panics::guarded;
use virtfit_hook::wire::DISABLED;

/// How long the worker waits after something happened, before it looks.
const MOMENT: Duration = Duration::from_millis(2);

/// How long after a reservation those that run are looked at, which may be on its CPUs, and after a
/// guest's end those that could have what it had: libvirt is not through with that guest yet. Its
/// next hooks, or those of guests beside it, go first.
pub(crate) const SOON: Duration = Duration::from_millis(30);

impl Worker {
    /// Until something happens, or something that waits may go on.
    pub(crate) fn sleep(&self) -> io::Result<()> {
        if !self.backlog.is_empty() {
            return Ok(());
        }
        let deadlines = [
            self.pending.deadline(),
            self.running.deadline(),
            self.tentative,
            self.promised,
            self.freed,
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
        // Mostly the end of a hook, or more of the same, comes right behind what happened: that
        // goes first.
        if fds.iter().any(|fd| fd.any() == Some(true)) {
            thread::sleep(MOMENT);
        }
        Ok(())
    }

    /// Takes in all that happened.
    pub(crate) fn absorb(&mut self) {
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
            // Each is one guest's: what goes wrong with it stops nothing that concerns others.
            if let Err(bug) = guarded(|| self.task(task)) {
                log::error!("a hook's end was not followed up: {bug}");
            }
        }
        self.look_for_hooks();
        let is_over = |time: &mut Instant| *time <= Instant::now();
        if self.freed.take_if(is_over).is_some() {
            self.reconsider = true;
        }
        if self.promised.take_if(is_over).is_some() {
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

    /// Says it where guests start and no hook tells of them.
    fn look_for_hooks(&mut self) {
        let inflight = &self.inflight;
        let found = self.unhooked.take(|name| inflight.contains(name));
        if let Some(name) = found.filter(|_| !self.disabled) {
            log::warn!(
                "{name}: started, and no hook told of it: is the link in /etc/libvirt/hooks/qemu.d there, and was libvirt reloaded \
                 since? Without the hook guests may start on CPUs that others hold"
            );
        }
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
        log::trace!("{change:?}");
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
            Change::Status(name) => {
                self.pending.hook_ended(&name);
                self.unhooked.written(&name);
            }
            Change::StatusGone(name) => {
                self.unhooked.ended(&name);
                self.pending.hook_ended(&name);
                self.running.remove(&name);
                self.freed_soon();
            }
            Change::Driver => self.look_at_driver(),
            Change::Policy => self.look_at_policy(),
            Change::Switch => {
                let disabled = self.root.exists(DISABLED);
                if std::mem::replace(&mut self.disabled, disabled) != disabled {
                    match disabled {
                        true => log::info!("{DISABLED} exists: nothing is changed until it is removed"),
                        false => log::info!("{DISABLED} was removed: virtfit works again"),
                    }
                    self.rescan();
                }
            }
            Change::Reservation => self.promised_soon(),
            Change::ReservationGone => {
                self.pending.hooks_ended();
                self.freed_soon();
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

    fn task(&mut self, task: WorkerEvent) {
        log::trace!("{task:?}");
        match task {
            WorkerEvent::Defined { name } => self.changed(Change::Defined(name)),
            WorkerEvent::Undefined { name } => self.changed(Change::Undefined(name)),
            WorkerEvent::Prepared { name, .. } => {
                self.pending.hook_ended(&name);
                self.unhooked.told(&name);
            }
            WorkerEvent::Incoming { name, .. } => {
                self.unhooked.told(&name);
                self.look_at_reservations();
                // Also one that nothing was reserved for does not come for ever.
                let wait = Duration::from_secs(reservation::TENTATIVE_SECONDS + 1);
                let end = Instant::now().checked_add(wait);
                self.tentative = self.tentative.or(end);
            }
            WorkerEvent::Started { uuid, name } => {
                self.unhooked.told(&name);
                self.pending.hook_ended(&name);
                self.running.add(&name);
                self.reconsider |= self.definitions.starts.started(&uuid);
            }
            WorkerEvent::Reconnected { uuid, name } => {
                self.unhooked.told(&name);
                self.pending.hook_ended(&name);
                self.running.add_found(&name);
                self.reconsider |= self.definitions.starts.started(&uuid);
            }
            WorkerEvent::Released { uuid, name } => {
                self.pending.hook_ended(&name);
                self.definitions.starts.check_host();
                if self.definitions.starts.released(&uuid) {
                    let soon = Instant::now() + SOON;
                    self.pending.put(&name, Why::FailedStart, Waits::Until(soon));
                }
                self.running.remove(&name);
                self.freed_soon();
                if let Err(error) = live::forget_ended(&self.root) {
                    log::debug!("records of live pins: {error}");
                }
            }
            WorkerEvent::PolicyChanged => self.look_at_policy(),
            WorkerEvent::HostChanged => self.reconsider = true,
            WorkerEvent::LibvirtUp | WorkerEvent::LibvirtDown => self.look_at_driver(),
            WorkerEvent::Rescan => {
                self.views.forget();
                self.look_at_policy();
                self.rescan();
            }
            WorkerEvent::Stop => self.stop = true,
        }
    }

    /// All definitions, and what is remembered of those that are gone.
    pub(crate) fn rescan(&mut self) {
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
            self.definitions.starts.check_host();
            self.rescan();
        }
    }

    /// A policy that changed concerns every guest.
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
        self.running.add_all(&self.root);
    }

    fn promised_soon(&mut self) {
        // Read now that nobody waits, so that the next hook need not.
        self.view();
        self.promised = self.promised.or_else(|| Instant::now().checked_add(SOON));
    }

    fn freed_soon(&mut self) {
        self.freed = self.freed.or_else(|| Instant::now().checked_add(SOON));
    }

    pub(crate) fn look_at_reservations(&mut self) {
        self.tentative = next_end(&self.root, SystemTime::now());
    }
}

/// Which driver runs, by what it wrote into its pid file.
pub(crate) fn driver_id(root: &HostFs) -> Option<String> {
    libvirt_daemon::driver_runs(root).then(|| libvirt_daemon::driver_text(root))
}

/// When the next tentative reservation ends.
fn next_end(root: &HostFs, now: SystemTime) -> Option<Instant> {
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
