//! Start and end of the daemon's threads.
//!
//! ```text
//! main      waits for signals; when it ends, the process ends, whatever libvirt does
//! worker    inotify, events, libvirt: the only thread that calls libvirt
//! server    hooks and questions, one thread a connection
//! ```

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{self, SigSet, Signal};
use nix::unistd::Pid;
use sd_notify::NotifyState;

use crate::daemon::hook_answers::Hooks;
use crate::daemon::in_flight::Inflight;
use crate::daemon::questions;
use crate::daemon::queue::Queue;
use crate::daemon::server::{Server, Services};
use crate::daemon::tasks::WorkerEvent;
use crate::daemon::worker::Worker;
use crate::libvirt::Hypervisor;
use crate::panics::guarded;
use crate::snapshot::Sources;
use crate::snapshot::cache::SnapshotCache;

/// Wait before a worker that failed or panicked (a bug) is started again.
const AFTER_PANIC: Duration = Duration::from_secs(10);

/// Function that connects the worker to libvirt, called in the worker's thread.
type NewHypervisor = Box<dyn Fn() -> Box<dyn Hypervisor> + Send>;

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// There is no socket to listen on any more, or the kernel gives no inotify, eventfd or thread.
pub fn run(place: Sources, hypervisor: NewHypervisor) -> io::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Blocked before there are threads, as these inherit the mask.
    signals.thread_block()?;
    let memory = Arc::new(SnapshotCache::new(place.clone()));
    // Before there are threads, too: the first reading of a host sets an environment variable. The
    // worker logs the errors of a reading.
    let _ = memory.current(SystemTime::now());
    let queue = Arc::new(Queue::new()?);
    let inflight = Arc::new(Inflight::new(memory.root().clone()));
    let server = Server::listen(&place.root).map_err(io::Error::other)?;
    let stopper = server.stopper()?;
    let services = services(&memory, &inflight, &queue);
    let server = thread::Builder::new().name("server".into()).spawn(move || {
        let ended = server.run(services);
        // A daemon that no hook can reach is of no use: its supervisor starts another.
        if ended.is_err() {
            let _ = signal::kill(Pid::this(), Signal::SIGTERM);
        }
        ended
    })?;
    tell(&[NotifyState::Ready]);
    log::info!("ready");
    let worker_queue = Arc::clone(&queue);
    spawn("worker", move || {
        work(&place, &hypervisor, &worker_queue, &memory, &inflight);
    })?;
    while signals.wait()? == Signal::SIGHUP {
        queue.push(WorkerEvent::Rescan);
    }
    tell(&[NotifyState::Stopping]);
    log::info!("stopped");
    // The worker may be inside a libvirt call for long; its work can be cut off anywhere without
    // harm.
    stopper.stop();
    match server.join() {
        Ok(ended) => ended.map_err(io::Error::other),
        Err(_) => Ok(()),
    }
}

/// Runs the worker, and starts it again whenever it fails.
fn work(
    place: &Sources,
    hypervisor: &NewHypervisor,
    queue: &Arc<Queue>,
    memory: &Arc<SnapshotCache>,
    inflight: &Arc<Inflight>,
) {
    loop {
        let once = || {
            let views = Box::new(Arc::clone(memory));
            let inflight = Arc::clone(inflight);
            Worker::new(place, Arc::clone(queue), views, hypervisor(), inflight)?.run()
        };
        match guarded(once) {
            Ok(Err(error)) => log::error!("the worker ended: {error}"),
            Err(bug) => log::error!("the worker ended: {bug}"),
        }
        thread::sleep(AFTER_PANIC);
    }
}

fn services(memory: &Arc<SnapshotCache>, inflight: &Arc<Inflight>, queue: &Arc<Queue>) -> Services {
    let hooks = Box::new(Hooks::new(Arc::clone(memory)));
    let queue = Arc::clone(queue);
    let tell = Box::new(move |task| queue.push(task));
    let mut services = Services::new(hooks, Arc::clone(inflight), tell);
    questions::answer_all(&mut services, memory);
    services
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(run)
}

/// Reports a state to systemd, where the daemon was started by it.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("sd_notify: {error}");
    }
}
