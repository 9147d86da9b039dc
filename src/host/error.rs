//! Errors in a host's files.

use std::io;
use std::path::PathBuf;

use crate::host::synthetic::SyntheticError;
use crate::hostfs::at_path::io_words;
use crate::types::cpulist::CpulistError;

/// Reason for which there is no topology.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The synthetic line is refused before hwloc gets it.
    #[error(transparent)]
    Line(#[from] SyntheticError),
    /// hwloc takes the text for no synthetic line.
    #[error("there is no such file, and hwloc does not accept it as a synthetic line")]
    NoLine,
    /// hwloc takes the file for no topology.
    #[error("hwloc does not accept this file as hwloc XML (lstopo --of xml writes it)")]
    NoXml,
    /// The file is larger than any topology, in MiB.
    #[error("is larger than {0} MiB")]
    FileTooLarge(u64),
    /// The file cannot be read.
    #[error("{}", io_words(.0))]
    File(#[from] io::Error),
    /// hwloc fails, as it says.
    #[error("hwloc fails: {0}")]
    Hwloc(String),
}

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
        problem: TopologyError,
    },
    /// hwloc finds no topology in the root.
    #[error("hwloc cannot read the topology below {}: {problem}", .root.display())]
    Hwloc {
        /// Folder of the root.
        root: PathBuf,
        /// Error of hwloc.
        problem: TopologyError,
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
