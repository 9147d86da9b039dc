//! virtfit fits each libvirt guest to the host it runs on: pins that match the topology the guest
//! sees, huge pages, NUMA binding, and emulator threads and iothreads off the CPUs of vCPUs.
//!
//! One engine has many callers. The engine ([`engine::decide`]) is pure: a domain's XML and plain
//! data in, a decision with its reasons out. Everything that touches the host stands around the
//! engine and goes through one root path ([`hostfs::HostFs`]).
//!
//! ```text
//!  libvirt's hook ─┐                                                             ┌─ stdout (migrate, restore, prepare)
//!  virtfit CLI ────┤  cli ─► domain ─► policy ─► placement ─► settings ─► rewrite ├─ plan: text, JSON, diff (render)
//!  virtfitd ───────┘          host ───────────────▲  ▲                           ├─ definitions, through libvirt
//!                             ledger (what is taken) ┘                            └─ pins of running guests
//! ```
//!
//! # The map of `src/`
//!
//! From the bottom to the top: a room takes only from rooms above it in this table, which
//! `tests/layers.rs` checks. Words are explained in `docs/glossary.md`.
//!
//! | room | job |
//! |---|---|
//! | [`version`] | version and commit, from `build.rs` |
//! | [`panics`] | a bug met with one guest: caught, and shown by its place alone |
//! | [`types`] | data without a room of its own: CPU sets, sizes, settings, plans, UUIDs |
//! | [`logging`] | the log on stderr; lines that wait for an answer; lines that are counted |
//! | [`xml`] | XML that keeps its bytes |
//! | [`domain`] | facts of a guest, out of its domain XML |
//! | [`hostfs`] | the one door to the host's files; small files that are whole or absent; records of guests |
//! | [`host`] | cores, caches, nodes, memory, mounts, devices, threads; libvirt's daemon as a process |
//! | [`rewrite`] | settings into the XML and out again; the record of what was written |
//! | [`policy`] | profiles and rules: read, checked, merged, selected |
//! | [`placement`] | the CPU, node and page of each part of a guest: exact and deterministic |
//! | [`ledger`] | CPUs and memory that are held: running guests, reservations, claims |
//! | [`engine`] | the decision: from all of the above to a list of settings with reasons |
//! | [`snapshot`] | everything a decision is made from, read once; what is kept between two hooks |
//! | [`libvirt`] | questions to libvirt, and definitions as their files have them |
//! | [`hook_events`] | the answer to each operation of libvirt's hook |
//! | [`live`] | running guests: pins, scheduling classes, floating threads |
//! | [`apply`] | definitions brought in line together; offline, before libvirt loads them |
//! | [`status`] | every guest, its threads, what is free, and what is wrong |
//! | [`map`] | the host drawn as data: each CPU, and who sits on it |
//! | [`measure`] | guests' threads over an interval: figures, and a verdict on two of them |
//! | [`check`] | readiness of the host: a table of checks, pure over the host's files |
//! | [`recommend`] | a policy for the host and its guests as they are, tried before it is printed |
//! | [`daemon`] | `virtfitd` without libvirt in it: server, queue, watches, worker |
//! | [`render`] | plans and status as tables, pictures and diffs |
//! | [`cli`] | the commands, one file each, and the hook in-process |
//!
//! The programs stand beside them: `main.rs` (`virtfit`), `bin/virtfitd/`, and `hooks/`, a package
//! of its own with `virtfit-hook` and the protocol between hook and daemon.

pub mod apply;
pub mod check;
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
pub mod map;
pub mod measure;
pub mod panics;
pub mod placement;
pub mod policy;
pub mod recommend;
pub mod render;
pub mod rewrite;
pub mod snapshot;
pub mod status;
pub mod types;
pub mod version;
pub mod xml;
