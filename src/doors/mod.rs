//! The doors libvirt's qemu hook opens: what each operation comes to, in whichever process it is worked out (the daemon, or
//! `virtfit hook` without one). `design.md` section 1 has the table.
//!
//! Nothing here calls libvirt or waits for anybody who does.

pub mod live;

/// One call of libvirt's hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The guest's name.
    pub guest: String,
    /// `prepare`, `start`, …
    pub operation: String,
    /// `begin`, `end` or `-`.
    pub suboperation: String,
    /// Free text; since libvirt 10.5 why a guest is released.
    pub extra: String,
    /// The libvirt daemon that ran the hook (the hook's parent).
    pub parent: u32,
    /// The domain's XML.
    pub xml: String,
}

/// What the hook prints and how it ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// What libvirt gets on stdout: nothing, or a whole XML.
    pub stdout: String,
    /// Lines for stderr; the first reaches the user of `virsh start`.
    pub stderr: Vec<String>,
    /// Exit code.
    pub exit: u8,
}
