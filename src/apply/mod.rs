//! Definitions brought in line with policy and host: by `virtfit apply` through libvirt, and by
//! `virtfit apply --offline` in their files before libvirt loads them.
//!
//! ```text
//! together     decisions for many guests, so that autostart guests do not overlap if possible
//! identity     comparison of libvirt's definition with the one that was read
//! offline      files written before libvirt loads them
//! ```
//!
//! Definitions are read and looked up in `libvirt::definitions` and `libvirt::lookup`.

pub mod identity;
pub(crate) mod offline;
pub(crate) mod together;
