//! Events that wake the worker, and the work that follows from each.

use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::daemon::pending::{Waits, Why};
use crate::daemon::starts::Release;
use crate::daemon::tasks::WorkerEvent;
use crate::daemon::watch::Change;
use crate::daemon::worker::{Burst, Worker};
use crate::host::{failed_starts, libvirt_daemon, libvirt_process};
use crate::hostfs::HostFs;
use crate::hostfs::records::RecordFolder;
use crate::hostfs::stems::stems;
use crate::ledger::claims;
use crate::ledger::reservation::{self, Reservation};
use crate::ledger::store::FOLDER;
use crate::libvirt::overwritten;
use crate::live;
use crate::panics::guarded;
use crate::types::plural::counted;
use virtfit_hook::wire::DISABLED;

/// Wait of the worker after an event, before it acts.
const MOMENT: Duration = Duration::from_millis(2);

/// Wait after a reservation, before the running guests are visited that may be on its CPUs; and
/// after the end of a guest, before definitions are examined that could use its CPUs. libvirt is
/// not through with that guest yet: its next hooks, or those of other guests, go first.
pub(crate) const SOON: Duration = Duration::from_millis(30);

/// Wait after the release of a guest whose launch failed for a reason that QEMU's log does not have
/// yet: libvirt's child that is to become QEMU writes its complaint by itself.
const REST_OF_LOG: Duration = Duration::from_secs(1);

/// Wait after the last removal of one of virtfit's own files, before those of running guests are
/// written again: others are being removed, and the folder at last.
const REST: Duration = Duration::from_millis(100);
/// Longest wait after the first removal.
const LONGEST_REST: Duration = Duration::from_millis(500);

/// Wait after a change of the policy's files before it is followed: an editor, or a script that
/// empties a file and then fills it, may write more.
const SETTLED: Duration = Duration::from_millis(200);
/// Longest wait after the first change.
const LONGEST_CHANGE: Duration = Duration::from_secs(1);

impl Worker {
    /// Waits until an event comes, or a wait of a guest or definition is over.
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
            self.removed.map(|removal| removal.over),
            self.policy_changing.map(|change| change.over),
            self.inflight.deadline(),
            self.pools.deadline(),
            self.unexplained.values().map(|(over, _)| *over).min(),
        ];
        let timeout = match deadlines.into_iter().flatten().min() {
            None => PollTimeout::NONE,
            Some(time) => {
                let wait = time.saturating_duration_since(Instant::now());
                // Rounded up, so that the time is over when the worker wakes.
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
        // The end of a hook, or another event of the kind, mostly comes right behind the first: it
        // goes first.
        if fds.iter().any(|fd| fd.any() == Some(true)) {
            thread::sleep(MOMENT);
        }
        Ok(())
    }

    /// Takes in all events since the last time.
    pub(crate) fn absorb(&mut self) {
        let mut changes = std::mem::take(&mut self.backlog);
        changes.extend(self.watch.drain());
        // Many events of one folder are one event.
        let mut once = Vec::new();
        for change in changes {
            match change {
                Change::Driver
                | Change::Policy
                | Change::Switch
                | Change::Reservation
                | Change::ReservationGone
                | Change::Record
                | Change::Swept
                | Change::State
                | Change::Lost => {
                    if !once.contains(&change) {
                        once.push(change);
                    }
                }
                change => self.changed(change),
            }
        }
        once.into_iter().for_each(|change| self.changed(change));
        // Tasks come after the changes in the folders that their hooks caused.
        for task in self.queue.take() {
            // Each task concerns one guest: a bug met with it stops nothing for others.
            if let Err(bug) = guarded(|| self.task(task)) {
                log::error!("a hook's end was not followed up: {bug}");
            }
        }
        // Waits that are over make their definitions and guests due.
        self.look_for_hooks();
        let is_over = |time: &mut Instant| *time <= Instant::now();
        if self.freed.take_if(is_over).is_some() {
            self.reconsider = true;
        }
        let burst_is_over = |burst: &mut Burst| is_over(&mut burst.over);
        if self.removed.take_if(burst_is_over).is_some() {
            self.write_again();
            self.remember_again();
        }
        if self.policy_changing.take_if(burst_is_over).is_some() {
            self.look_at_policy();
        }
        let now = Instant::now();
        let all = std::mem::take(&mut self.unexplained);
        for (uuid, (over, name)) in all {
            match over <= now {
                true => self.look_at_launch(&uuid, &name, true),
                false => drop(self.unexplained.insert(uuid, (over, name))),
            }
        }
        if self.promised.take_if(is_over).is_some() {
            self.running.ledger_changed();
            self.look_at_reservations();
            self.look_at_pages();
        }
        if self.tentative.is_some_and(|time| time <= Instant::now()) {
            self.pending.hooks_ended();
            self.reconsider = true;
            self.look_at_reservations();
        }
        if self.pools.is_due(Instant::now()) && !self.disabled {
            self.look_at_pools();
        }
        self.let_marks_fall();
    }

    /// Visits guests that start and that no hook reports, and logs a warning.
    fn look_for_hooks(&mut self) {
        let inflight = &self.inflight;
        let missed = self.unhooked.take(|name| inflight.contains(name));
        missed.guests.iter().for_each(|name| self.running.add(name));
        if let Some(name) = missed.news.filter(|_| !self.disabled) {
            log::warn!(
                "{name}: started, and no hook told of it: is the link in /etc/libvirt/hooks/qemu.d there, and was libvirt reloaded \
                 since? Without the hook guests may start on CPUs that others hold"
            );
        }
    }

    /// Drops marks that were never ended, and ends the waits for them: no event reports such an
    /// end.
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
            // An event of virtfit's own define needs no examination.
            Change::Defined(name) => {
                if !self.definitions.is_ours(&self.root, &name) {
                    self.definitions.changed_by_others(&name);
                    self.pending.add(&name, Why::Changed);
                }
            }
            Change::Undefined(name) => {
                self.pending.remove(&name);
                self.definitions.forget(&name);
                self.definitions.changed_by_others(&name);
                self.definitions.sweep_earlier(&self.root);
            }
            Change::Autostart(name) => self.pending.add(&name, Why::Autostart),
            // A written status file shows that a hook ended; its removal, that the guest ended.
            Change::Status(name) => {
                self.pending.hook_ended(&name);
                self.unhooked.written(&name);
                if self.iothreads.has_more(&self.root, &name) && !self.inflight.contains(&name) {
                    self.promised_soon();
                }
            }
            Change::StatusGone(name) => {
                self.unhooked.ended(&name);
                self.iothreads.forget(&name);
                self.pending.hook_ended(&name);
                self.running.remove(&name);
                self.kept.forget(&name);
                self.freed_soon();
            }
            // Driver, policy and switch concern every guest.
            Change::Driver => self.look_at_driver(),
            Change::Policy => {
                let earlier = self.policy_changing;
                self.policy_changing = Some(Burst::prolonged(earlier, SETTLED, LONGEST_CHANGE));
            }
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
            // Reservations concern guests on their CPUs, and guests that find no place.
            Change::Reservation => self.promised_soon(),
            Change::ReservationGone => {
                self.removed_soon();
                self.pending.hooks_ended();
                self.freed_soon();
                self.promised_soon();
            }
            // A record is known from now on, so that it can be written again.
            Change::Record => {
                self.kept.live_changed();
                self.view();
            }
            // A start that came to nothing removes its mark, too: it is not to come back.
            Change::Swept => {
                self.view();
                self.removed_soon();
            }
            Change::State => self.removed_soon(),
            // After a loss of events, everything is read again. The removal of a folder is such a
            // loss.
            Change::Lost => {
                self.removed_soon();
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
            // A hook of a guest that is about to start, or to arrive, shows that hooks are called.
            WorkerEvent::Prepared { name } => {
                self.pending.hook_ended(&name);
                self.unhooked.told(&name);
            }
            WorkerEvent::Incoming { name } => {
                self.unhooked.told(&name);
                self.look_at_reservations();
                // A guest that was announced may never come, also one with no reservation.
                let wait = Duration::from_secs(reservation::TENTATIVE_SECONDS + 1);
                put_off(&mut self.tentative, wait);
            }
            // A guest that runs may lack pins, and its definition is no longer untried.
            WorkerEvent::Started { uuid, name } => {
                self.unhooked.told(&name);
                self.pending.hook_ended(&name);
                self.running.add(&name);
                overwritten::forget(&self.root, &uuid);
                self.reconsider |= self.definitions.starts.started(&uuid);
            }
            WorkerEvent::Reconnected { uuid, name } => {
                self.unhooked.told(&name);
                self.pending.hook_ended(&name);
                self.running.add_found(&name);
                self.reconsider |= self.definitions.starts.found_running(&uuid);
            }
            // A guest that ended leaves CPUs to others, or shows that its definition cannot start.
            WorkerEvent::Released { uuid, name } => {
                self.pending.hook_ended(&name);
                self.definitions.starts.check_host();
                self.look_at_launch(&uuid, &name, false);
                self.running.remove(&name);
                self.kept.forget(&name);
                self.freed_soon();
                if let Err(error) = live::forget_ended(&self.root) {
                    log::debug!("records of live pins: {error}");
                }
            }
            WorkerEvent::Rescan => {
                self.views.forget();
                self.look_at_policy();
                self.rescan();
            }
        }
    }

    /// Follows up on a launch that may have failed. Where QEMU's log does not say why, the log is
    /// read once more [`REST_OF_LOG`] later, and then counts as whole.
    fn look_at_launch(&mut self, uuid: &str, name: &str, log_is_whole: bool) {
        match self.definitions.starts.released(uuid, log_is_whole) {
            Release::Nothing => {}
            Release::Examine => {
                let soon = Instant::now() + SOON;
                self.pending.put(name, Why::FailedStart, Waits::Until(soon));
            }
            Release::Unexplained => {
                let over = Instant::now() + REST_OF_LOG;
                self.unexplained
                    .insert(uuid.to_string(), (over, name.to_string()));
            }
        }
    }

    /// Examines all definitions and running guests, and forgets records of definitions that are
    /// gone.
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
        self.definitions.keep_only(&self.root, &names);
        self.pending.hooks_ended();
        self.running.add_all(&self.root);
    }

    /// Writes the files in `/run/virtfit` again that were removed while the daemon runs.
    fn write_again(&mut self) {
        let again = self.kept.write_again(&self.root);
        self.views.keep_again();
        if let Some(what) = again.what() {
            log::warn!("{FOLDER}: files were removed while the daemon runs: written again: {what}");
            self.running.add_all(&self.root);
        }
    }

    /// Writes the files in `/var/lib/virtfit` again that were removed while the daemon runs.
    fn remember_again(&mut self) {
        let written = self.definitions.write_again();
        if written > 0 {
            log::warn!(
                "{}: files were removed while the daemon runs: {} written again",
                failed_starts::FOLDER,
                counted(written, "record")
            );
        }
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

    /// Examines every guest if the policy changed.
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

    /// Examines definitions for which there are more huge pages now, or too few. Other programs
    /// take pages, too, so the sizes of the pools are not all that counts.
    fn look_at_pools(&mut self) {
        let Some(view) = self.view() else { return };
        self.reconsider |= self.pools.note(&view.host);
        self.look_at_pages();
    }

    /// Examines definitions that lack their huge pages now that others take some.
    fn look_at_pages(&mut self) {
        let Some(view) = self.view() else { return };
        let short = self.definitions.short_of_pages(&view);
        if short.is_empty() {
            return;
        }
        self.definitions.fresh_start();
        for name in short {
            self.pending.add(&name, Why::Reconsider);
        }
    }

    fn promised_soon(&mut self) {
        // Read now that no hook waits, so that the next hook need not read it.
        self.view();
        put_off(&mut self.promised, SOON);
    }

    fn removed_soon(&mut self) {
        self.removed = Some(Burst::prolonged(self.removed, REST, LONGEST_REST));
    }

    fn freed_soon(&mut self) {
        put_off(&mut self.freed, SOON);
    }

    pub(crate) fn look_at_reservations(&mut self) {
        self.tentative = next_end(&self.root, SystemTime::now());
    }
}

/// Sets the time of some work, unless it is set: many events in a row cause the work once.
fn put_off(time: &mut Option<Instant>, wait: Duration) {
    *time = time.or_else(|| Instant::now().checked_add(wait));
}

/// Identifies the driver that runs by its process and the start of that.
pub(crate) fn driver_id(root: &HostFs) -> Option<String> {
    libvirt_daemon::driver_runs(root).then(|| {
        let text = libvirt_daemon::driver_text(root);
        let started = text.parse().map(|pid| libvirt_process::daemon(root, pid));
        format!("{text} {started:?}")
    })
}

/// Returns the time at which the next tentative reservation ends.
fn next_end(root: &HostFs, now: SystemTime) -> Option<Instant> {
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let folder: RecordFolder<Reservation> = RecordFolder::new(root);
    let ends = folder
        .valid()
        .filter_map(|reservation| reservation.tentative_until);
    // A reservation that ended was counted when it was read; one that ends far in the future is
    // void.
    let left = ends
        .filter_map(|end| end.checked_sub(now))
        .filter(|left| (1..=reservation::TENTATIVE_SECONDS).contains(left));
    let left = left.min()?;
    Instant::now().checked_add(Duration::from_secs(left))
}
