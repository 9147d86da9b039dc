//! The whole of virtfit, hook, daemon and commands, on a real libvirt and QEMU: races, faults,
//! migration, many operations.
//!
//! All of it needs root and libvirt-daemon-system; `make test` runs it. Two CPUs are enough: CPU 0
//! is for the host, CPU 1 is the one guests compete for.
#![allow(clippy::unwrap_used)]

#[path = "common/libvirt.rs"]
mod daemon;
#[path = "common/kvm.rs"]
mod kvm;

mod system {
    mod candour;
    mod commands;
    mod failed_start;
    mod faults;
    mod freeze;
    mod hooks;
    mod hostile;
    mod kvm;
    mod lifecycle;
    mod log;
    mod measure;
    mod migration;
    mod operations;
    mod pages;
    mod races;
    mod refused;
    mod requests;
}
