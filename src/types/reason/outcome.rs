//! Reasons about the course that is taken, and notes on the placement.

use std::fmt;

use crate::types::ids::KiB;
use crate::types::idset::VcpuSet;
use crate::types::plural::counted;
use crate::types::reason::amounts::{MemoryHolders, asking_for};
use crate::types::topology::Topology;

reasons! {
    /// Course that is taken, with notes on the placement.
    Outcome {
        /// The guest floats on the shared CPUs, as nothing fits.
        RunsShared = "runs-shared",
        /// The guest stays as it is, as nothing fits.
        RunsUntuned = "runs-untuned",
        /// The guest stays as it is: nothing fits, and there are no shared CPUs to float on.
        RunsUntunedWithoutShared = "runs-untuned-without-shared",
        /// The guest floats without the pins that virtfit wrote, as nothing fits: by the profile,
        /// or for lack of shared CPUs.
        FloatsUntuned { wished: bool } = "floats-untuned",
        /// The guest has virtfit's settings, and all are in force.
        TunedAlready = "tuned-already",
        /// An administrator's pins stay, and all else is in force.
        PinsStay = "pins-stay",
        /// virtfit's record names no guest, and gets the guest's UUID.
        RecordNamed = "record-named",
        /// virtfit's record is of another guest, from which the definition was copied.
        CopiedRecord = "copied-record",
        /// The definition of `guest` claims the same CPUs, and the record names no guest.
        SameClaim { guest: String } = "same-claim",
        /// Profile and XML agree.
        NothingToChange = "nothing-to-change",
        /// Too few pages are there for the guest and for other definitions together.
        PagesContested { page: KiB, asking: MemoryHolders } = "pages-contested",
        /// The search was cut short.
        SearchCutShort = "search-cut-short",
        /// Some vCPUs share a core.
        CoresShared = "cores-shared",
        /// The guest is on cores that are not of the fastest kind.
        SlowCores = "slow-cores",
        /// vCPU slots float, as they are empty: by the profile, or as too few CPUs are free.
        SlotsFloat { slots: VcpuSet, wished: bool } = "slots-float",
        /// The guest sees more sockets than some systems use, and the XML does not name its system.
        ManySockets { sockets: u32 } = "many-sockets",
        /// No placement mirrors the topology that the guest was given.
        ShapeFitsNowhere { shown: Topology, guest: String } = "shape-fits-nowhere",
        /// Huge pages are required, and the XML rules them out.
        HugePagesExcluded { by: Excludes } = "huge-pages-excluded",
        /// Real-time vCPUs that are busy are stopped by the kernel for a part of each period.
        RealtimeThrottled { runtime_us: i64 } = "real-time-throttled",
        /// Real-time scheduling is asked for, and the host allows none.
        NoRealtime = "no-realtime",
        /// Locked memory is asked for, and libvirt's daemon could not lock it.
        NoLockedMemory = "no-locked-memory",
    }
}

/// Memory backing that rules huge pages out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excludes {
    /// `<allocation mode='ondemand'/>`.
    Ondemand,
    /// `<source type='anonymous'/>`.
    Anonymous,
    /// Option of QEMU that rules the guest's memory.
    QemuOption(&'static str),
}

impl Outcome {
    /// Returns the command that the words end in.
    pub(super) fn command(&self) -> Option<String> {
        match self {
            Self::ShapeFitsNowhere { guest, .. } => Some(format!("virtfit apply --reshape {guest}")),
            _ => None,
        }
    }

    /// Returns whether the reason only names what is done where nothing fits.
    pub(crate) fn is_fallback(&self) -> bool {
        matches!(
            self,
            Self::RunsShared | Self::RunsUntuned | Self::FloatsUntuned { wished: true }
        )
    }
}

impl fmt::Display for Excludes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QemuOption(option) => return write!(f, "{option} of qemu:commandline"),
            Self::Ondemand => "memoryBacking allocation mode='ondemand'",
            Self::Anonymous => "memoryBacking source type='anonymous'",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RunsShared => "it runs on the shared CPUs (on_no_fit = run-shared)",
            Self::RunsUntuned => "it runs untuned (on_no_fit = run-untuned)",
            Self::RunsUntunedWithoutShared => "it runs untuned: there are no shared CPUs to run on",
            Self::FloatsUntuned { wished: true } => {
                "it runs untuned (on_no_fit = run-untuned): it floats without the pins that virtfit wrote"
            }
            Self::FloatsUntuned { wished: false } => {
                "it floats without the pins that virtfit wrote: there are no shared CPUs to run on"
            }
            Self::TunedAlready => "it is tuned already",
            Self::PinsStay => "your pins stay (on_existing = keep), and nothing else is to change",
            Self::RecordNamed => "virtfit's record in it gets the guest's UUID",
            Self::CopiedRecord => "virtfit's record in it is of another guest, from which it was copied",
            Self::SameClaim { guest } => {
                return write!(
                    f,
                    "{guest} claims the same CPUs, and virtfit's record in it does not say which guest it is of"
                );
            }
            Self::NothingToChange => "there is nothing to change",
            Self::PagesContested { page, asking } => {
                let asking = asking_for(asking);
                return write!(f, "too few {page} pages are there for it and other definitions{asking}");
            }
            Self::SearchCutShort => "the search was cut short: a better place may exist",
            Self::CoresShared => "some of its vCPUs share a core: too few cores are free for one each",
            Self::SlowCores => "it is on slow cores: too few fast ones are free for it",
            Self::SlotsFloat { slots, wished } => {
                let (them, is, it) = match slots.len() {
                    1 => ("vCPU", "is", "floats when it is"),
                    _ => ("vCPUs", "are", "float when they are"),
                };
                let why = match wished {
                    true => " (hotplug = float)",
                    false => ": too few CPUs are free for all",
                };
                return write!(f, "{them} {slots} {is} not plugged in, and {it}{why}");
            }
            Self::ManySockets { sockets } => {
                return write!(
                    f,
                    "it sees {sockets} sockets, of which a Windows client uses 2, and its XML names no system \
                     (libosinfo): max_sockets = 2 if it is one"
                );
            }
            Self::ShapeFitsNowhere { shown, guest } => {
                return write!(
                    f,
                    "no place has the shape the guest sees ({}, {}, {}, {}); to give it another: virtfit apply --reshape {guest}",
                    counted(shown.sockets as usize, "socket"),
                    counted(shown.dies as usize, "die"),
                    counted(shown.cores as usize, "core"),
                    counted(shown.threads as usize, "thread")
                );
            }
            Self::HugePagesExcluded { by } => {
                return write!(f, "huge pages are required, but {by} in its XML rules them out");
            }
            Self::RealtimeThrottled { runtime_us } => {
                return write!(
                    f,
                    "the kernel throttles real-time vCPUs: one that is busy runs no more than {} ms of a second \
                     (kernel.sched_rt_runtime_us = {runtime_us}; -1 is no limit)",
                    runtime_us / 1000
                );
            }
            Self::NoRealtime => {
                "this host allows no real-time scheduling (kernel.sched_rt_runtime_us or the cgroup's \
                 cpu.rt_runtime_us is 0)"
            }
            Self::NoLockedMemory => {
                "libvirt's daemon has no CAP_SYS_RESOURCE and a limit on locked memory (LimitMEMLOCK= of its \
                 unit): a guest with locked memory would not start"
            }
        })
    }
}
