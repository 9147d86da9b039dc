//! Access to hwloc, which no other module names: it turns a tree of sysfs, an hwloc XML file or a
//! synthetic line into a [`Structure`].
//!
//! Two habits of hwloc are switched off. Its `x86` component asks the processor itself (cpuid) and
//! to that end moves the calling thread over every CPU: wrong for a root that describes another
//! machine, and on this machine it would wait for CPUs that belong to guests' real-time threads.
//! hwloc also leaves out CPUs that this process's own cgroup disallows; here they are included.

mod build;
mod distances;
mod kinds;
mod pci;
mod read;

use std::ffi::CStr;
use std::path::Path;

use hwlocality::object::TopologyObject;

use crate::host::error::HostError;
use crate::host::structure::Structure;
use crate::host::synthetic;
use crate::hostfs::HostFs;
use crate::types::ids::KiB;

/// Source of a topology.
#[derive(Debug, Clone)]
pub(crate) enum TopologySource<'a> {
    /// sysfs and procfs below a root.
    Root(&'a HostFs),
    /// File that hwloc (`lstopo --of xml`) wrote.
    Xml(&'a Path),
    /// Synthetic line of hwloc's, e.g. `pack:2 numa:1(memory=16GB) l3:1 core:8 pu:2`.
    Synthetic(&'a str),
}

impl<'a> TopologySource<'a> {
    /// Distinguishes a file from a synthetic line: an argument that exists, or looks like a path,
    /// is a file.
    pub(crate) fn from_argument(given: &'a str) -> Self {
        let path = Path::new(given);
        let looks_like_path = !given.contains(':') && (given.contains('/') || given.ends_with(".xml"));
        match path.exists() || looks_like_path {
            true => Self::Xml(path),
            false => Self::Synthetic(given),
        }
    }
}

/// Reads a topology.
///
/// # Errors
/// hwloc does not accept the source, or it has CPU or node numbers above
/// [`crate::types::cpulist::MAX_ID`].
pub(crate) fn discover(source: &TopologySource) -> Result<Structure, HostError> {
    let topology = build::build(source)?;
    let mut structure = read::read(&topology)?;
    if let TopologySource::Synthetic(line) = source
        && !synthetic::names_memory(line)
    {
        for node in &mut structure.nodes {
            node.memory = KiB(0);
        }
    }
    Ok(structure)
}

fn info(object: &TopologyObject, key: &str) -> String {
    text(object.info(key))
}

fn text(value: Option<&CStr>) -> String {
    value
        .map(|value| value.to_string_lossy().trim().to_string())
        .unwrap_or_default()
}
