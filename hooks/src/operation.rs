//! Operations of libvirt's qemu hook, with virtfit's action for each. `docs/design.md` section 1
//! has the table in words.
//!
//! Source: libvirt `docs/hooks.rst`, "/etc/libvirt/hooks/qemu". An operation that a later libvirt
//! adds has no action.

/// Action of virtfit at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookAction {
    /// `prepare begin`: a guest is about to start. libvirt throws stdout away; a failure keeps the
    /// guest from starting.
    Prepare,
    /// `migrate begin`, `restore begin`: stdout becomes the domain's XML.
    Filter,
    /// `started begin`: a guest runs. Only the daemon has something to do; a failure would kill the
    /// guest.
    Started,
    /// `release end`: a guest is gone.
    Release,
    /// `reconnect begin`: libvirt was restarted and finds a running guest. A failure would kill the
    /// guest.
    Reconnect,
    /// All other operations: no action.
    Nothing,
}

/// Operation with the suboperation that libvirt calls it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Second word of libvirt's call.
    pub operation: &'static str,
    /// Third word of libvirt's call.
    pub suboperation: &'static str,
    /// Action of virtfit.
    pub action: HookAction,
}

const fn row(operation: &'static str, suboperation: &'static str, action: HookAction) -> Row {
    Row {
        operation,
        suboperation,
        action,
    }
}

/// All operations that libvirt has.
pub const OPERATIONS: [Row; 9] = [
    row("prepare", "begin", HookAction::Prepare),
    row("start", "begin", HookAction::Nothing),
    row("started", "begin", HookAction::Started),
    row("stopped", "end", HookAction::Nothing),
    row("release", "end", HookAction::Release),
    row("migrate", "begin", HookAction::Filter),
    row("restore", "begin", HookAction::Filter),
    row("reconnect", "begin", HookAction::Reconnect),
    row("attach", "begin", HookAction::Nothing),
];

impl HookAction {
    /// Finds the action for a call of the hook by its second and third word.
    pub fn of(operation: &str, suboperation: &str) -> Self {
        OPERATIONS
            .iter()
            .find(|row| row.operation == operation && row.suboperation == suboperation)
            .map_or(Self::Nothing, |row| row.action)
    }

    /// Returns whether a hook may end with this exit code: one of virtfit's own codes, or only 0 if
    /// a failure would do harm.
    pub fn may_end_with(self, exit: u8) -> bool {
        match self {
            Self::Prepare | Self::Filter => matches!(exit, 0 | 1 | 3),
            Self::Started | Self::Release | Self::Reconnect | Self::Nothing => exit == 0,
        }
    }

    /// Returns whether the hook may print to stdout: libvirt uses the text, or throws it away
    /// unread.
    pub fn may_print(self) -> bool {
        matches!(self, Self::Prepare | Self::Filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_asks_for_what_the_table_says() {
        for (operation, suboperation, expected) in [
            ("prepare", "begin", HookAction::Prepare),
            ("migrate", "begin", HookAction::Filter),
            ("restore", "begin", HookAction::Filter),
            ("start", "begin", HookAction::Nothing),
            ("started", "begin", HookAction::Started),
            ("stopped", "end", HookAction::Nothing),
            ("release", "end", HookAction::Release),
            ("reconnect", "begin", HookAction::Reconnect),
            ("attach", "begin", HookAction::Nothing),
            ("prepare", "end", HookAction::Nothing),
            ("prepare", "-", HookAction::Nothing),
            ("levitate", "begin", HookAction::Nothing),
            ("", "", HookAction::Nothing),
        ] {
            let found = HookAction::of(operation, suboperation);
            assert_eq!(found, expected, "{operation} {suboperation}");
        }
    }
}
