//! What the daemon's threads tell the one thread that calls libvirt: something happened, look at
//! it.
//!
//! A task carries names, no contents: whoever takes it reads the files as they are then, so that a
//! task that comes late, twice or out of order is harmless.

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerEvent {
    /// A definition appeared or changed: `/etc/libvirt/qemu/NAME.xml`.
    Defined {
        /// The guest's name, which is the file's.
        name: String,
    },
    /// A definition is gone.
    Undefined {
        /// The guest's name.
        name: String,
    },
    /// The hook of `prepare begin` ended: the guest is about to start, or was refused.
    Prepared {
        /// UUID, lower case; empty where the XML told none.
        uuid: String,
        /// The guest's name.
        name: String,
    },
    /// The hook of `started begin` ended: the guest runs, and libvirt may be asked about it again.
    Started {
        /// UUID, lower case; empty where the XML told none.
        uuid: String,
        /// The guest's name.
        name: String,
    },
    /// The hook of `release end` ended: what the guest held is free.
    Released {
        /// UUID, lower case; empty where the XML told none.
        uuid: String,
        /// The guest's name.
        name: String,
    },
    /// The hook of `reconnect begin` ended: a libvirt daemon that was restarted found the guest
    /// running.
    Reconnected {
        /// UUID, lower case; empty where the XML told none.
        uuid: String,
        /// The guest's name.
        name: String,
    },
    /// The hook of `migrate begin` or `restore begin` ended: the guest may arrive.
    Incoming {
        /// UUID, lower case; empty where the XML told none.
        uuid: String,
        /// The guest's name.
        name: String,
    },
    /// A file of the policy changed.
    PolicyChanged,
    /// The host changed: CPUs, huge page pools, mounts.
    HostChanged,
    /// A libvirt daemon with the qemu driver runs (again).
    LibvirtUp,
    /// It ended.
    LibvirtDown,
    /// Look at everything.
    Rescan,
    /// Finish what is begun and end.
    Stop,
}
