//! Ids and sizes, each a type of its own.
//!
//! vCPU 3, host CPU 3 and NUMA node 3 are three different things; the compiler keeps them apart.

use std::fmt;

/// Small non-negative number that identifies a CPU, a node, a vCPU and the like.
pub trait Id: Copy + Ord + fmt::Display + fmt::Debug {
    /// Noun in messages, e.g. "CPU".
    const NOUN: &'static str;
    /// Wraps a raw number.
    fn new(raw: u32) -> Self;
    /// Returns the raw number.
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
    /// Logical CPU of the host (one hardware thread), as Linux numbers it.
    HostCpu,
    "CPU"
);
id!(
    /// NUMA node of the host.
    NodeId,
    "node"
);
id!(
    /// vCPU of a guest, numbered from 0.
    VcpuId,
    "vCPU"
);
id!(
    /// NUMA cell of a guest, numbered from 0.
    CellId,
    "cell"
);
id!(
    /// Iothread of a guest; libvirt numbers iothreads from 1.
    IothreadId,
    "iothread"
);

/// Amount of memory or page size, in KiB (libvirt's unit).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct KiB(pub u64);

impl KiB {
    /// One GiB.
    pub const GIB: KiB = KiB(1024 * 1024);
    /// One MiB.
    pub(crate) const MIB: KiB = KiB(1024);

    /// Words the amount in GiB with one decimal: `3.1 GiB`.
    pub(crate) fn in_gib(self) -> String {
        let tenths = self.0.saturating_mul(10) / Self::GIB.0;
        format!("{}.{} GiB", tenths / 10, tenths % 10)
    }
}

impl fmt::Display for KiB {
    /// Writes the amount in the largest unit that divides it: `8 GiB`, `1536 MiB`, `4 KiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "0"),
            k if k % (1 << 20) == 0 => write!(f, "{} GiB", k >> 20),
            k if k % (1 << 10) == 0 => write!(f, "{} MiB", k >> 10),
            k => write!(f, "{k} KiB"),
        }
    }
}
