//! Repeated reading of a host whose changes send no events: sysfs and procfs have no inotify.
//!
//! The structure (hwloc) costs milliseconds and changes only when CPUs, nodes or pools come or go.
//! A kept host has a mark of all of these; while the mark is unchanged, only the pools' page
//! counts and the failed starts are read. While every file behind the mark is unchanged, byte for
//! byte, not even the mark is made.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::hostfs::{HostFs, ReadSet};
use crate::types::ids::NodeId;
use crate::types::idset::CpuSet;

use crate::host::cgroup::GuestLimits;
use crate::host::emulators::FileMark;
use crate::host::error::HostError;
use crate::host::failed_starts::FailedStarts;
use crate::host::kept_file::Reader;
use crate::host::memory::NodeState;
use crate::host::mounts::Mount;
use crate::host::{Host, PagePool, cgroup, emulators, kept_file, kernel, load, memory, mounts, priority};

/// Host that is kept, with the mark that shows whether it changed.
#[derive(Debug)]
pub(crate) struct CachedHost {
    root: HostFs,
    /// Host for repeated reads, with the mark's files kept open.
    watched: HostFs,
    host: Arc<Host>,
    /// Mark of the host; `None`: something changed while the host was read, so it is read again.
    mark: Option<Mark>,
    /// Record of the reads for mark and page counts.
    trail: ReadSet,
    /// Time at which [`cgroup::rt_runtime_us`] was read.
    rt_runtime_at: Instant,
}

/// Largest age of [`cgroup::rt_runtime_us`]: reading it costs time on the whole machine.
const RT_RUNTIME_AGE: Duration = Duration::from_secs(60);

/// Time between two looks for the file of another process that reads the host.
const PAUSE: Duration = Duration::from_millis(10);

/// The same, of a process that has the time to read the host to its end.
const OFTEN: Duration = Duration::from_millis(1);

/// File with the CPUs of isolated partitions.
const PARTITIONS: &str = "/sys/fs/cgroup/cpuset.cpus.isolated";

/// Everything that can change without an event except the pools' page counts. Devices are not part
/// of it, as they are looked up when a guest has one; nor are failed starts, from which no other
/// part of the host is derived.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Mark {
    online: Option<CpuSet>,
    present: Option<CpuSet>,
    isolated: Option<CpuSet>,
    partitions: Option<CpuSet>,
    nodes: Vec<(NodeId, NodeState)>,
    hugetlbfs: Option<Vec<Mount>>,
    limits: GuestLimits,
    emulators: Vec<FileMark>,
}

/// Parts of the host that change often and from which no other part is derived.
#[derive(Debug)]
struct Changing {
    /// Pools of each node, taken out of the mark.
    pools: Vec<(NodeId, Option<Vec<PagePool>>)>,
    failed: FailedStarts,
}

/// Reads the host for a hook: from the kept file if the mark shows no change, else completely.
///
/// One of several processes that find no file that counts reads the host. The others wait for
/// that file, until `deadline` at most: all together they would read it in a multiple of the time
/// that a hook has.
///
/// # Errors
/// The errors of [`load::load`].
pub(crate) fn load_kept(root: &HostFs, deadline: Instant) -> Result<Host, HostError> {
    let mut seen = None;
    loop {
        // Another file than the last time is worth a look.
        let id = kept_file::id(root);
        if (seen.is_none() || seen != Some(id))
            && let Some(host) = from_file(root)?
        {
            return Ok(host);
        }
        seen = Some(id);
        match kept_file::reader(root) {
            // The file may have been written between the look at it and the lock.
            Some(Reader::First(_lock)) => {
                priority::go_first();
                let written = if kept_file::id(root) == id {
                    None
                } else {
                    from_file(root)?
                };
                return written.map_or_else(|| load_and_keep(root), Ok);
            }
            Some(Reader::Other) if Instant::now() < deadline => thread::sleep(PAUSE),
            _ => return load_and_keep(root),
        }
    }
}

/// Reads the host and keeps it for later hooks, unless another process has done so. The hook that
/// gave up, and started this process, may have the readers' lock for a moment still.
///
/// # Errors
/// The errors of [`load::load`].
pub(crate) fn keep(root: &HostFs, deadline: Instant) -> Result<(), HostError> {
    loop {
        match kept_file::reader(root) {
            Some(Reader::First(_lock)) => {
                return match from_file(root)? {
                    Some(_) => Ok(()),
                    None => load_and_keep(root).map(drop),
                };
            }
            // Hooks that will give up as well look less often.
            Some(Reader::Other) if Instant::now() < deadline => thread::sleep(OFTEN),
            Some(Reader::Other) | None => return Ok(()),
        }
    }
}

/// Reads the whole host and keeps it in a file for hooks.
///
/// # Errors
/// The errors of [`load::load`].
pub(crate) fn load_and_keep(root: &HostFs) -> Result<Host, HostError> {
    let kept = CachedHost::load(root, root)?;
    Ok(Arc::unwrap_or_clone(kept.host))
}

/// Reads the host from the kept file, with page counts and real-time limit as they are now; `None`:
/// there is no file, or the host has changed.
fn from_file(root: &HostFs) -> Result<Option<Host>, HostError> {
    let Some((written, host)) = kept_file::read::<Mark>(root) else {
        return Ok(None);
    };
    let (mark, changing) = Mark::read(root)?;
    if mark != written {
        return Ok(None);
    }
    let mut host = Arc::new(Host {
        rt_runtime_us: cgroup::rt_runtime_us(root)?,
        ..host
    });
    update(&mut host, changing);
    Ok(Some(Arc::unwrap_or_clone(host)))
}

impl CachedHost {
    /// Reads the whole host, as [`load::load`] does. `watched` is the same host for repeated reads,
    /// with its files kept open ([`HostFs::keeping_files_open`]). Files that are read only after a
    /// change should not stay open.
    ///
    /// # Errors
    /// The errors of [`load::load`].
    pub(crate) fn load(root: &HostFs, watched: &HostFs) -> Result<Self, HostError> {
        let (before, _) = Mark::read(watched)?;
        Self::load_since(root, watched, &before)
    }

    /// Reads the whole host; `before` is the mark from just before.
    fn load_since(root: &HostFs, watched: &HostFs, before: &Mark) -> Result<Self, HostError> {
        let mut host = Arc::new(load::load(root, None)?);
        let (read, trail) = watched.trace(Mark::read);
        let (mark, changing) = read?;
        update(&mut host, changing);
        let mark = (mark == *before).then_some(mark);
        if let Some(mark) = &mark {
            kept_file::write(root, mark, &host);
        }
        Ok(Self {
            root: root.clone(),
            watched: watched.clone(),
            host,
            mark,
            trail,
            rt_runtime_at: Instant::now(),
        })
    }

    /// Writes the host for hooks again, if others removed the file. A host that changed while it
    /// was read is written when it is read again.
    pub(crate) fn keep_again(&self) {
        if let Some(mark) = &self.mark
            && !kept_file::is_there(&self.root)
        {
            kept_file::write(&self.root, mark, &self.host);
        }
    }

    /// Returns the host as last read.
    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Returns the host as it is now: unchanged, with new page counts and failed starts, or read
    /// again completely.
    /// Only the time that real-time tasks may run can be a minute old.
    ///
    /// # Errors
    /// The errors of [`load::load`]; the kept host stays then.
    pub(crate) fn refresh(&mut self) -> Result<&Arc<Host>, HostError> {
        if self.rt_runtime_at.elapsed() >= RT_RUNTIME_AGE {
            if cgroup::rt_runtime_us(&self.watched)? != self.host.rt_runtime_us {
                self.mark = None;
            }
            self.rt_runtime_at = Instant::now();
        }
        self.refresh_quickly()
    }

    /// Refreshes as [`CachedHost::refresh`] does, for callers that must answer quickly: the time
    /// that real-time tasks may run is that of the last refresh. Reading it is slow, it matters
    /// only if it is 0, and libvirt starts a guest with the scheduling in its definition in any
    /// case.
    ///
    /// # Errors
    /// The errors of [`CachedHost::refresh`].
    pub(crate) fn refresh_quickly(&mut self) -> Result<&Arc<Host>, HostError> {
        if self.mark.is_some() && self.trail.is_same(&self.watched) {
            return Ok(&self.host);
        }
        let (read, trail) = self.watched.trace(Mark::read);
        let (mark, changing) = read?;
        if self.mark.as_ref() != Some(&mark) {
            *self = Self::load_since(&self.root, &self.watched, &mark)?;
            return Ok(&self.host);
        }
        update(&mut self.host, changing);
        self.trail = trail;
        Ok(&self.host)
    }
}

/// Gives a host the present page counts and failed starts, if they differ.
fn update(host: &mut Arc<Host>, Changing { pools, failed }: Changing) {
    let other = |(id, pools): &(NodeId, Option<Vec<PagePool>>)| is_other(host, *id, pools.as_deref());
    if host.failed == failed && !pools.iter().any(other) {
        return;
    }
    let host = Arc::make_mut(host);
    host.failed = failed;
    for (id, pools) in pools {
        let node = host.nodes.iter_mut().find(|node| node.id == id);
        if let (Some(node), Some(pools)) = (node, pools) {
            node.pools = pools;
        }
    }
}

/// Returns `true` if a node's pools have other counts than in the host.
fn is_other(host: &Host, id: NodeId, pools: Option<&[PagePool]>) -> bool {
    match (host.node(id), pools) {
        (Some(node), Some(pools)) => node.pools != pools,
        _ => false,
    }
}

impl Mark {
    fn read(root: &HostFs) -> Result<(Self, Changing), HostError> {
        let cpus = |name: &str| kernel::list(root, &format!("/sys/devices/system/cpu/{name}"));
        let mut pools = Vec::new();
        let mut nodes: Vec<(NodeId, NodeState)> = memory::read(root)?.into_iter().collect();
        for (id, node) in &mut nodes {
            pools.push((*id, node.pools.clone()));
            for pool in node.pools.iter_mut().flatten() {
                (pool.total, pool.free) = (0, 0);
            }
        }
        let mark = Self {
            online: cpus("online")?,
            present: cpus("present")?,
            isolated: cpus("isolated")?,
            partitions: match root.unnoted().exists(PARTITIONS) {
                true => kernel::list(root, PARTITIONS)?,
                // Kernels before 6.7; the file comes only with another kernel or a mount.
                false => None,
            },
            nodes,
            hugetlbfs: mounts::read(root)?.map(|mut mounts| {
                mounts.retain(|mount| mount.fstype == "hugetlbfs");
                mounts
            }),
            limits: cgroup::read(root)?,
            emulators: emulators::mark(root),
        };
        let failed = FailedStarts::read(root);
        Ok((mark, Changing { pools, failed }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
