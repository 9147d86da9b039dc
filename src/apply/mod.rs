//! Definitions brought in line with policy and host: by `virtfit apply` through libvirt, and before
//! libvirt loads them by `virtfit apply --offline` in their files.
//!
//! ```text
//! definitions  what is defined, what runs, what libvirt starts by itself
//! lookup       which of them is meant
//! joint        a decision for each, so that autostart guests do not overlap where that is possible
//! identity     whether libvirt's definition is the one that was read
//! offline      writing their files before libvirt loads them
//! ```

pub mod identity;
pub mod offline;
pub mod together;
