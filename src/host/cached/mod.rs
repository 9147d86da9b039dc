//! Reads of a host again what changes without a word: sysfs and procfs send no inotify events.
//!
//! The structure (hwloc) costs milliseconds and changes only with CPUs, nodes and pools that come
//! and go. So a host that is kept has a mark of all of these; while it stays the same only the
//! pools' page counts are read. And while every file that the mark was read from says the same,
//! byte for byte, it is not even put together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hostfs::{HostFs, ReadSet};
use crate::types::ids::NodeId;
use crate::types::idset::CpuSet;

use crate::host::cgroup::GuestLimits;
use crate::host::error::HostError;
use crate::host::failed_starts::FailedStarts;
use crate::host::memory::NodeState;
use crate::host::mounts::Mount;
use crate::host::{Host, PagePool, cgroup, kept_file, kernel, load, memory, mounts};

/// A host that is kept, and what tells that it is still the same.
#[derive(Debug)]
pub struct CachedHost {
    root: HostFs,
    /// The same, with the files of the mark kept open.
    watched: HostFs,
    host: Arc<Host>,
    /// `None`: something changed while the host was read; it is read again.
    mark: Option<Mark>,
    /// What mark and page counts were read from.
    trail: ReadSet,
    /// When [`cgroup::rt_runtime_us`] was read.
    rt_runtime_at: Instant,
}

/// How old [`cgroup::rt_runtime_us`] may be: reading it costs the whole machine something.
const RT_RUNTIME_AGE: Duration = Duration::from_secs(60);

/// CPUs of isolated partitions.
const PARTITIONS: &str = "/sys/fs/cgroup/cpuset.cpus.isolated";

/// Everything that can change silently but the pools' page counts; and devices, which are looked at
/// when a guest has one.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Mark {
    online: Option<CpuSet>,
    present: Option<CpuSet>,
    isolated: Option<CpuSet>,
    partitions: Option<CpuSet>,
    nodes: Vec<(NodeId, NodeState)>,
    hugetlbfs: Option<Vec<Mount>>,
    limits: GuestLimits,
    failed: FailedStarts,
}

/// The pools of each node, taken out of the mark.
type Pools = Vec<(NodeId, Option<Vec<PagePool>>)>;

/// Reads the host for a hook: as whoever read it last wrote it down, if nothing that tells of
/// changes says otherwise, else as a whole.
///
/// # Errors
/// As [`load::load`].
pub fn load_kept(root: &HostFs) -> Result<Host, HostError> {
    match from_file(root)? {
        Some(host) => Ok(host),
        None => load_and_keep(root),
    }
}

/// Reads the whole host and writes it down for hooks.
///
/// # Errors
/// As [`load::load`].
pub fn load_and_keep(root: &HostFs) -> Result<Host, HostError> {
    let kept = CachedHost::load(root, root)?;
    Ok(Arc::unwrap_or_clone(kept.host))
}

/// The host of the file, with what may change as it is now; `None`: there is none, or the host is
/// another one.
fn from_file(root: &HostFs) -> Result<Option<Host>, HostError> {
    let Some((written, host)) = kept_file::read::<Mark>(root) else {
        return Ok(None);
    };
    let (mark, pools) = Mark::read(root)?;
    if mark != written {
        return Ok(None);
    }
    let mut host = Arc::new(Host {
        rt_runtime_us: cgroup::rt_runtime_us(root)?,
        ..host
    });
    count(&mut host, pools);
    Ok(Some(Arc::unwrap_or_clone(host)))
}

impl CachedHost {
    /// Reads the whole host, as [`load::load`] does. `watched` is the same host for what is looked
    /// at again and again: with its files kept open ([`HostFs::keeping_files_open`]). What is read
    /// once a change is not to stay open.
    ///
    /// # Errors
    /// As [`load::load`].
    pub fn load(root: &HostFs, watched: &HostFs) -> Result<Self, HostError> {
        let (before, _) = Mark::read(watched)?;
        Self::load_since(root, watched, &before)
    }

    /// Reads the whole host, of which this was the mark just before.
    fn load_since(root: &HostFs, watched: &HostFs, before: &Mark) -> Result<Self, HostError> {
        let mut host = Arc::new(load::load(root, None)?);
        let (read, trail) = watched.trace(Mark::read);
        let (mark, pools) = read?;
        count(&mut host, pools);
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

    /// The host.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// The host as it is now: itself while nothing changed, with new page counts, or read again as
    /// a whole. But the time that real-time tasks may run can be a minute old.
    ///
    /// # Errors
    /// As [`load::load`]; what was kept stays then.
    pub fn refresh(&mut self) -> Result<&Arc<Host>, HostError> {
        if self.rt_runtime_at.elapsed() >= RT_RUNTIME_AGE {
            if cgroup::rt_runtime_us(&self.watched)? != self.host.rt_runtime_us {
                self.mark = None;
            }
            self.rt_runtime_at = Instant::now();
        }
        self.refresh_quickly()
    }

    /// As [`CachedHost::refresh`], for somebody who waits: the time that real-time tasks may run is
    /// that of the last refresh. It is slow to read and counts only where it is 0, and libvirt
    /// starts a guest with what its definition says of that in any case.
    ///
    /// # Errors
    /// As there.
    pub fn refresh_quickly(&mut self) -> Result<&Arc<Host>, HostError> {
        if self.mark.is_some() && self.trail.is_same(&self.watched) {
            return Ok(&self.host);
        }
        let (read, trail) = self.watched.trace(Mark::read);
        let (mark, pools) = read?;
        if self.mark.as_ref() != Some(&mark) {
            *self = Self::load_since(&self.root, &self.watched, &mark)?;
            return Ok(&self.host);
        }
        count(&mut self.host, pools);
        self.trail = trail;
        Ok(&self.host)
    }
}

/// Gives a host the page counts of now, where they are others.
fn count(host: &mut Arc<Host>, pools: Pools) {
    let other = |(id, pools): &(NodeId, Option<Vec<PagePool>>)| is_other(host, *id, pools.as_deref());
    if !pools.iter().any(other) {
        return;
    }
    let host = Arc::make_mut(host);
    for (id, pools) in pools {
        let node = host.nodes.iter_mut().find(|node| node.id == id);
        if let (Some(node), Some(pools)) = (node, pools) {
            node.pools = pools;
        }
    }
}

/// Whether a node's pools have other counts than the host knows.
fn is_other(host: &Host, id: NodeId, pools: Option<&[PagePool]>) -> bool {
    match (host.node(id), pools) {
        (Some(node), Some(pools)) => node.pools != pools,
        _ => false,
    }
}

impl Mark {
    fn read(root: &HostFs) -> Result<(Self, Pools), HostError> {
        let cpus = |name: &str| kernel::list(root, &format!("/sys/devices/system/cpu/{name}"));
        let mut pools = Pools::new();
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
                // Kernels before 6.7: it comes with another kernel, or a mount.
                false => None,
            },
            nodes,
            hugetlbfs: mounts::read(root)?.map(|mut mounts| {
                mounts.retain(|mount| mount.fstype == "hugetlbfs");
                mounts
            }),
            limits: cgroup::read(root)?,
            failed: FailedStarts::read(root),
        };
        Ok((mark, pools))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
