//! What can be wrong with a host's files.

use std::io;
use std::path::PathBuf;

use crate::types::cpulist::CpulistError;

/// Why a host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file could not be read; the message has its path.
    #[error("cannot read the host: {0}")]
    Read(#[from] io::Error),
    /// A file of the kernel holds no cpulist where it should.
    #[error("{}: {problem}", .path.display())]
    Cpulist {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        problem: CpulistError,
    },
    /// A file of the kernel holds no number where it should.
    #[error("{}: '{value}' is not {wanted}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// What it holds.
        value: String,
        /// What was wanted.
        wanted: &'static str,
    },
    /// The root has no CPUs and there is no topology to take them from.
    #[error("no CPUs below {}: neither sys/devices/system/cpu nor proc/cpuinfo has any; give a topology (--topology) or another root", .0.display())]
    NoCpus(PathBuf),
    /// There is neither a root nor a topology.
    #[error("no host to read: give a root (--root) or a topology (--topology)")]
    Nothing,
    /// `--topology` names something hwloc cannot use.
    #[error("topology '{given}': {problem}")]
    Topology {
        /// What was given.
        given: String,
        /// What is wrong with it.
        problem: String,
    },
    /// hwloc cannot make sense of the root.
    #[error("hwloc cannot read the topology below {}: {problem}", .root.display())]
    Hwloc {
        /// The root.
        root: PathBuf,
        /// What hwloc said.
        problem: String,
    },
    /// A number is larger than libvirt's masks hold.
    #[error(
        "{noun} {number} is above {}, the largest libvirt knows",
        crate::types::cpulist::MAX_ID
    )]
    TooLarge {
        /// "CPU" or "node".
        noun: &'static str,
        /// The number.
        number: usize,
    },
}
