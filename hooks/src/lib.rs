//! The protocol between libvirt's hook, the commands and `virtfitd`, and the one table of libvirt's
//! hook operations.
//!
//! | module | holds |
//! |---|---|
//! | [`wire`] | questions and answers as they go over the daemon's socket |
//! | [`operation`] | the operations of libvirt's qemu hook, and the action each one asks of virtfit |
//! | [`messages`] | the sentences that the hook and the daemon both say |

pub mod messages;
pub mod operation;
pub mod wire;
