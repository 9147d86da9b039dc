//! The doors of the hook: what a start is promised, vetoed and told, on hosts that are folders.
//! Nothing here needs libvirt.
//!
//! ```text
//! host       a throw-away host, and hooks called on it, in this process and as processes
//! cases      (a), (b), (c) of docs/design.md section 2, and what comes in
//! properties any order of starts and ends
//! races      processes against each other, 100 times
//! faults     locks that are held, folders that cannot be written, processes that are killed
//! ```
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "doors/cases.rs"]
mod cases;
#[path = "doors/faults.rs"]
mod faults;
#[path = "doors/host.rs"]
mod host;
#[path = "doors/properties.rs"]
mod properties;
#[path = "doors/races.rs"]
mod races;
