//! virtfit fits each libvirt guest to the host it runs on: topology-matched pinning, huge pages, NUMA binding,
//! emulator threads and iothreads out of the way.
//!
//! One engine, many doors. The engine ([`engine::decide`]) is pure: a domain's XML and plain data in, a decision with
//! its reasons out. Everything that touches the host stands around it and goes through one root path.
//!
//! ```text
//!  libvirt's hook ─┐                                                            ┌─ stdout (migrate, restore, prepare)
//!  virtfit CLI ────┤  cli ─► domain ─► policy ─► placement ─► settings ─► rewrite ├─ plan: text, JSON, diff (render)
//!                  ┘          host ───────────────▲  ▲                          └─ rewrite: XML
//!                             ledger (what is taken) ┘
//! ```
//!
//! | module | job |
//! |---|---|
//! | [`units`], [`idset`], [`cpulist`], [`plural`], [`uuid`] | numbers that cannot be mixed up, sets of them, and their text; UUIDs |
//! | [`xml`] | XML that keeps its bytes |
//! | [`domain`] | what a domain XML says that matters here |
//! | [`root`], [`whole`] | the one door to the host; small files that are whole or absent |
//! | [`host`], [`facts`] | the host and a guest's devices as data |
//! | [`policy`] | what an administrator asks for, checked and merged |
//! | [`connection`], [`hypervisor`] | which libvirt is this host's; what is asked of it |
//! | [`ledger`] | who holds what |
//! | [`placement`] | which CPU, node and page each part of a guest gets |
//! | [`engine`] | the decision: from all of these to a list of [`settings`] |
//! | [`settings`] | every value virtfit may write |
//! | [`rewrite`] | settings into the text, and out again |
//! | [`plan`], [`render`] | what would change and why, as data and for people |
//! | [`view`] | everything decisions are made from, read once |
//! | [`doors`] | what each operation of libvirt's hook comes to |
//! | [`status`] | every guest, its threads, and what is left of the host |
//! | [`daemon`] | what `virtfitd` does; how it is asked is in `hooks/src/wire.rs` |
//! | [`apply`] | definitions brought in line with policy and host, together |
//! | [`cli`] | the commands and the in-process hook |
//! | [`version`], [`panics`], [`later`], [`repeats`] | version and commit; what is said of a bug; log lines that wait for an answer, or are counted |

pub mod apply;
pub mod cli;
pub mod daemon;
pub mod domain;
pub mod engine;
pub mod hook_events;
pub mod host;
pub mod hostfs;
pub mod ledger;
pub mod libvirt;
pub mod live;
pub mod logging;
pub mod panics;
pub mod placement;
pub mod policy;
pub mod render;
pub mod rewrite;
pub mod snapshot;
pub mod status;
pub mod types;
pub mod version;
pub mod xml;
