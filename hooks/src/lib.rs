//! Protocol between libvirt's hook, the commands and `virtfitd`, and the table of libvirt's hook
//! operations.
//!
//! | module | holds |
//! |---|---|
//! | [`wire`] | questions and answers as they go over the daemon's socket |
//! | [`operation`] | the operations of libvirt's qemu hook, with virtfit's action for each |
//! | [`messages`] | sentences that both the hook and the daemon say |
//! | [`text`] | text of foreign origin, made safe to print |

pub mod messages;
pub mod operation;
pub mod program;
pub mod text;
pub mod wire;
