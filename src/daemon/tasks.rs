//! Events that the daemon's threads pass to the one thread that calls libvirt.
//!
//! An event carries names and no contents: the worker reads the files as they are when it takes the
//! event, so that one that comes late, twice or out of order is harmless.

/// Event for the worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerEvent {
    /// The hook of `prepare begin` ended: the guest is about to start, or was refused.
    Prepared {
        /// Guest's name.
        name: String,
    },
    /// The hook of `started begin` ended: the guest runs, and libvirt may be asked about it again.
    Started {
        /// UUID in lower case; empty where the XML has none.
        uuid: String,
        /// Guest's name.
        name: String,
    },
    /// The hook of `release end` ended: what the guest held is free.
    Released {
        /// UUID in lower case; empty where the XML has none.
        uuid: String,
        /// Guest's name.
        name: String,
    },
    /// The hook of `reconnect begin` ended: a libvirt daemon that was restarted found the guest
    /// running.
    Reconnected {
        /// UUID in lower case; empty where the XML has none.
        uuid: String,
        /// Guest's name.
        name: String,
    },
    /// The hook of `migrate begin` or `restore begin` ended: the guest may arrive.
    Incoming {
        /// Guest's name.
        name: String,
    },
    /// Everything has to be read again (`SIGHUP`).
    Rescan,
}
