//! The daemon's threads put together.
//!
//! ```text
//! main      waits for signals; its end is the process's end, whatever libvirt does
//! worker    inotify, tasks, libvirt: the only one that calls it
//! server    hooks and questions, a thread a connection
//! ```

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use nix::sys::signal::{SigSet, Signal};
use sd_notify::NotifyState;
use virtfit::daemon::queue::Queue;
use virtfit::daemon::tasks::Task;
use virtfit::daemon::worker::{Views, Worker};
use virtfit::policy::Policy;
use virtfit::view::{Place, View, ViewError};

use crate::libvirt::Libvirt;

/// Runs until a signal ends it.
///
/// # Errors
/// There is no socket to listen on, or the kernel gives no inotify, eventfd or thread.
pub fn run(place: Place, uri: &str) -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Before there are threads: they inherit it.
    signals.thread_block()?;
    let mut views = Fresh {
        place: place.clone(),
        policy: None,
        problem: None,
    };
    // Also before: the first look at a host sets an environment variable. What is wrong with it, the worker tells.
    let _ = views.view(SystemTime::now());
    let queue = Arc::new(Queue::new()?);
    tell(&[NotifyState::Ready]);
    log::info!("ready");
    let failed = spawn_worker(place, uri, &queue, Box::new(views))?;
    loop {
        match signals.wait()? {
            Signal::SIGHUP => queue.push(Task::Rescan),
            Signal::SIGTERM | Signal::SIGINT => break,
            _ => {}
        }
        if failed.is_finished() {
            break;
        }
    }
    tell(&[NotifyState::Stopping]);
    log::info!("ends");
    Ok(())
}

fn spawn_worker(
    place: Place,
    uri: &str,
    queue: &Arc<Queue>,
    views: Box<dyn Views + Send>,
) -> io::Result<thread::JoinHandle<()>> {
    let queue = Arc::clone(queue);
    let uri = uri.to_string();
    thread::Builder::new().name("worker".into()).spawn(move || {
        let libvirt = Box::new(Libvirt::new(&uri));
        let worker = Worker::new(&place, queue, views, libvirt, Box::new(|_| false));
        if let Err(error) = worker.and_then(|mut worker| worker.run()) {
            log::error!("{error}");
        }
    })
}

/// systemd, where it is there.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("sd_notify: {error}");
    }
}

/// Everything read anew each time.
struct Fresh {
    place: Place,
    policy: Option<Policy>,
    problem: Option<String>,
}

impl Views for Fresh {
    fn view(&mut self, now: SystemTime) -> Result<Arc<View>, ViewError> {
        match self.place.policy_files().policy() {
            Ok(policy) => {
                self.policy = Some(policy);
                self.problem = None;
            }
            Err(error) if self.policy.is_none() => return Err(error.into()),
            Err(error) => self.problem = Some(error.to_string()),
        }
        let host = virtfit::host::load(&self.place.root, self.place.topology.as_deref())?;
        let reading = self.place.ledger(now)?;
        let policy = self.policy.clone().unwrap_or_else(Policy::builtin);
        Ok(Arc::new(View::new(
            self.place.root.clone(),
            policy,
            host,
            reading,
        )))
    }

    fn policy_problem(&self) -> Option<String> {
        self.problem.clone()
    }

    fn forget(&mut self) {}
}
