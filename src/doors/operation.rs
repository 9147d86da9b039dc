//! The operations of libvirt's qemu hook, and what each asks of virtfit. `design.md` section 1 has the table.
//!
//! Source: libvirt `docs/hooks.rst`, "/etc/libvirt/hooks/qemu". What a later libvirt adds means nothing to us.

/// All operations libvirt knows.
pub const ALL: [&str; 9] = [
    "prepare",
    "start",
    "started",
    "stopped",
    "release",
    "migrate",
    "restore",
    "reconnect",
    "attach",
];

/// What an operation asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// `prepare begin`: a guest is about to start. stdout is thrown away by libvirt; a failure keeps it from starting.
    Prepare,
    /// `migrate begin`, `restore begin`: stdout becomes the domain's XML.
    Filter,
    /// `release end`: a guest is gone.
    Release,
    /// `reconnect begin`: libvirt was restarted and finds a running guest. A failure would kill it.
    Reconnect,
    /// All others: nothing here. A failure of `started` would kill a running guest.
    Nothing,
}

/// What `OP SUBOP` asks for.
pub fn task(operation: &str, suboperation: &str) -> Task {
    match (operation, suboperation) {
        ("prepare", "begin") => Task::Prepare,
        ("migrate" | "restore", "begin") => Task::Filter,
        ("release", "end") => Task::Release,
        ("reconnect", "begin") => Task::Reconnect,
        _ => Task::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        for (operation, suboperation, expected) in [
            ("prepare", "begin", Task::Prepare),
            ("migrate", "begin", Task::Filter),
            ("restore", "begin", Task::Filter),
            ("start", "begin", Task::Nothing),
            ("started", "begin", Task::Nothing),
            ("stopped", "end", Task::Nothing),
            ("release", "end", Task::Release),
            ("reconnect", "begin", Task::Reconnect),
            ("attach", "begin", Task::Nothing),
            ("prepare", "end", Task::Nothing),
            ("prepare", "-", Task::Nothing),
            ("levitate", "begin", Task::Nothing),
            ("", "", Task::Nothing),
        ] {
            assert_eq!(
                task(operation, suboperation),
                expected,
                "{operation} {suboperation}"
            );
        }
    }
}
