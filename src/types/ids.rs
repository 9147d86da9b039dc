//! The numbers a person could mix up, each a type of its own.
//!
//! A vCPU 3, a host CPU 3 and a NUMA node 3 are three different things; the compiler keeps them
//! apart.

use std::fmt;

/// A small non-negative number that names something: a CPU, a node, a vCPU.
pub trait Id: Copy + Ord + fmt::Display + fmt::Debug {
    /// What a message calls it, e.g. "CPU".
    const NOUN: &'static str;
    /// Wraps a raw number.
    fn new(raw: u32) -> Self;
    /// The raw number.
    fn get(self) -> u32;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl Id for $name {
            const NOUN: &'static str = $noun;
            fn new(raw: u32) -> Self {
                Self(raw)
            }
            fn get(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} {}", $noun, self.0)
            }
        }
    };
}

id!(
    /// A logical CPU of the host, as Linux numbers it (one hardware thread).
    HostCpu,
    "CPU"
);
id!(
    /// A NUMA node of the host.
    NodeId,
    "node"
);
id!(
    /// A virtual CPU of a guest, from 0.
    VcpuId,
    "vCPU"
);
id!(
    /// A NUMA cell of a guest, from 0.
    CellId,
    "cell"
);
id!(
    /// An iothread of a guest; libvirt numbers them from 1.
    IothreadId,
    "iothread"
);

/// An amount of memory, or a page size, in KiB (libvirt's unit).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct KiB(pub u64);

impl KiB {
    /// One GiB.
    pub const GIB: KiB = KiB(1024 * 1024);
    /// One MiB.
    pub const MIB: KiB = KiB(1024);
}

impl fmt::Display for KiB {
    /// The largest unit that divides it: `8 GiB`, `1536 MiB`, `4 KiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "0"),
            k if k % (1 << 20) == 0 => write!(f, "{} GiB", k >> 20),
            k if k % (1 << 10) == 0 => write!(f, "{} MiB", k >> 10),
            k => write!(f, "{k} KiB"),
        }
    }
}
