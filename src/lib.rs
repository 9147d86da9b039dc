//! virtfit fits each libvirt guest to the host it runs on. (Map to come.)
pub mod cpulist;
pub mod domain;
pub mod engine;
pub mod facts;
pub mod host;
pub mod idset;
pub mod ledger;
pub mod plan;
pub mod policy;
pub mod root;
pub mod settings;
pub mod units;
pub mod xml;
