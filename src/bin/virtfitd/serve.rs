//! The daemon's threads put together.
//!
//! ```text
//! main      waits for signals; its end is the process's end, whatever libvirt does
//! worker    inotify, tasks, libvirt: the only one that calls it
//! server    hooks and questions, a thread a connection
//! ```

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{SigSet, Signal};
use sd_notify::NotifyState;
use virtfit::daemon::hooks::Hooks;
use virtfit::daemon::inflight::Inflight;
use virtfit::daemon::memory::Memory;
use virtfit::daemon::queue::Queue;
use virtfit::daemon::server::{Server, Services};
use virtfit::daemon::tasks::Task;
use virtfit::daemon::worker::Worker;
use virtfit::view::Place;

use crate::libvirt::Libvirt;

/// A worker that panicked (a bug) begins anew after this.
const AFTER_PANIC: Duration = Duration::from_secs(10);

/// Runs until a signal ends it.
///
/// # Errors
/// There is no socket to listen on, or the kernel gives no inotify, eventfd or thread.
pub fn run(place: Place, uri: &str) -> io::Result<()> {
    quiet_panics();
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Before there are threads: they inherit it.
    signals.thread_block()?;
    let memory = Arc::new(Memory::new(place.clone()));
    // Also before: the first look at a host sets an environment variable. What is wrong with it, the worker tells.
    let _ = memory.view(SystemTime::now());
    let queue = Arc::new(Queue::new()?);
    let inflight = Arc::new(Inflight::new(place.root.clone()));
    let server = Server::listen(&place.root).map_err(io::Error::other)?;
    let stopper = server.stopper()?;
    let services = services(&memory, &inflight, &queue);
    let server = spawn("server", move || server.run(services))?;
    tell(&[NotifyState::Ready]);
    log::info!("ready");
    let (worker_queue, uri) = (Arc::clone(&queue), uri.to_string());
    spawn("worker", move || {
        work(&place, &uri, &worker_queue, &memory, &inflight);
    })?;
    while signals.wait()? == Signal::SIGHUP {
        queue.push(Task::Rescan);
    }
    tell(&[NotifyState::Stopping]);
    log::info!("ends");
    // The worker may be inside a libvirt call for long; what it does is safe to be cut off anywhere.
    stopper.stop();
    let _ = server.join();
    Ok(())
}

/// The worker, for ever.
fn work(place: &Place, uri: &str, queue: &Arc<Queue>, memory: &Arc<Memory>, inflight: &Arc<Inflight>) {
    loop {
        let once = || {
            let views = Box::new(Arc::clone(memory));
            let libvirt = Box::new(Libvirt::new(uri));
            let busy = Arc::clone(inflight);
            let busy = Box::new(move |name: &str| busy.contains(name));
            Worker::new(place, Arc::clone(queue), views, libvirt, busy)?.run()
        };
        match catch_unwind(AssertUnwindSafe(once)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => log::error!("the worker ended: {error}"),
            Err(_) => log::error!("the worker panicked (a bug in virtfit)"),
        }
        thread::sleep(AFTER_PANIC);
    }
}

fn services(memory: &Arc<Memory>, inflight: &Arc<Inflight>, queue: &Arc<Queue>) -> Services {
    let hooks = Box::new(Hooks::new(Arc::clone(memory)));
    let queue = Arc::clone(queue);
    let tell = Box::new(move |task| queue.push(task));
    Services::new(hooks, Arc::clone(inflight), tell)
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(run)
}

/// A panic's own message can quote the text it was working on: only its place is told.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| match panic.location() {
        Some(place) => log::error!("panic at {}:{}", place.file(), place.line()),
        None => log::error!("panic"),
    }));
}

/// systemd, where it is there.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("sd_notify: {error}");
    }
}
