//! Reading of a host: structure from hwloc, state from the root.

use crate::hostfs::HostFs;

use crate::host::Host;
use crate::host::assemble::{Frame, Told, assemble};
use crate::host::error::HostError;
use crate::host::failed_starts::FailedStarts;
use crate::host::hwloc::{TopologySource, discover};
use crate::host::{cache_ids, cgroup, cpus, emulators, identity, memory, mounts, pci};

/// Reads the host below `root`. With `topology` (an hwloc XML file or a synthetic line) the
/// structure is that of the topology, and the root gives huge pages, mounts, isolated CPUs and
/// cgroup limits, as far as it has them. [`HostFs::none`] with a topology is an empty host: its
/// huge pages are those in the XML, all free and mounted.
///
/// # Errors
/// There is neither a host nor a topology, hwloc does not accept it, or a file of the kernel has an
/// unexpected text.
pub fn load(root: &HostFs, topology: Option<&str>) -> Result<Host, HostError> {
    let told = told(root)?;
    match topology {
        Some(given) => {
            let structure = discover(&TopologySource::from_argument(given))?;
            Ok(assemble(structure, told, Frame::Overlay))
        }
        None => {
            if let Some(base) = root.base().filter(|_| !root.is_real()) {
                // A missing root gets its own message, rather than one about missing CPUs.
                root.metadata("/")?;
                if !cpus::any(root)? {
                    return Err(HostError::NoCpus(base.to_path_buf()));
                }
            }
            let mut structure = discover(&TopologySource::Root(root))?;
            cpus::add_base_frequencies(root, &mut structure.kinds)?;
            let mut host = assemble(structure, told, Frame::SameMachine);
            host.cache_ids = cache_ids::read(root, &host);
            Ok(host)
        }
    }
}

fn told(root: &HostFs) -> Result<Told, HostError> {
    let default_page = memory::stated_huge_page(root)?;
    Ok(Told {
        cpus: cpus::read(root)?,
        nodes: memory::read(root)?,
        hugetlbfs: mounts::read(root)?.map(|mounts| mounts::hugetlbfs_sizes(&mounts, default_page)),
        limits: cgroup::read(root)?,
        rt_runtime_us: cgroup::rt_runtime_us(root)?,
        identity: identity::read(root)?,
        pci_nodes: pci::read(root)?,
        emulators: emulators::read(root),
        failed: FailedStarts::read(root),
    })
}
