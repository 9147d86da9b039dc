//! Errors in a host's files.

use std::io;
use std::path::PathBuf;

use crate::types::cpulist::CpulistError;

/// Reason for which a host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file could not be read; the message has its path.
    #[error("cannot read the host: {0}")]
    Read(#[from] io::Error),
    /// A file of the kernel has no cpulist where it should.
    #[error("{}: {problem}", .path.display())]
    Cpulist {
        /// File with the error.
        path: PathBuf,
        /// Error in the cpulist.
        problem: CpulistError,
    },
    /// A file of the kernel has no number where it should.
    #[error("{}: '{value}' is not {wanted}", .path.display())]
    Value {
        /// File with the error.
        path: PathBuf,
        /// Text of the file.
        value: String,
        /// Expected value, in words.
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
        /// Argument of `--topology`.
        given: String,
        /// Error in it.
        problem: String,
    },
    /// hwloc finds no topology in the root.
    #[error("hwloc cannot read the topology below {}: {problem}", .root.display())]
    Hwloc {
        /// Folder of the root.
        root: PathBuf,
        /// Error of hwloc.
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
        /// Number that is too large.
        number: usize,
    },
}
