//! Definitions brought in line with policy and host: by `virtfit apply` through libvirt, and by
//! `virtfit apply --offline` in their files before libvirt loads them.
//!
//! ```text
//! read_guests  definitions read once for many decisions, within a limited time
//! one_order    decisions for autostart guests in one order, each beside those before it
//! together     the best of several orders, so that autostart guests do not overlap if possible
//! identity     comparison of libvirt's definition with the one that was read
//! offline      files written before libvirt loads them
//! ```
//!
//! Definitions are read and looked up in `libvirt::definitions` and `libvirt::lookup`.

pub mod identity;
pub(crate) mod offline;
mod one_order;
pub(crate) mod read_guests;
pub(crate) mod together;
