//! Enlightenments of Hyper-V that virtfit gives Windows guests.

/// Enlightenment: a service of Hyper-V that KVM offers to guests, in libvirt's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enlightenment {
    /// No watchdogs that expect a machine of the guest's own.
    Relaxed,
    /// APIC without exits.
    Vapic,
    /// Hypercall after 8,191 tries for a lock.
    Spinlocks,
    /// Index of a virtual processor, for the others.
    Vpindex,
    /// Time that a virtual processor has run.
    Runtime,
    /// Synthetic interrupt controller.
    Synic,
    /// Synthetic timers, in direct mode.
    Stimer,
    /// Frequencies of TSC and APIC.
    Frequencies,
    /// TLB flushes by a hypercall.
    Tlbflush,
    /// Interrupts between processors by a hypercall.
    Ipi,
}

impl Enlightenment {
    /// All of them, each after those it needs.
    pub const ALL: [Self; 10] = [
        Self::Relaxed,
        Self::Vapic,
        Self::Spinlocks,
        Self::Vpindex,
        Self::Runtime,
        Self::Synic,
        Self::Stimer,
        Self::Frequencies,
        Self::Tlbflush,
        Self::Ipi,
    ];

    /// Returns the element's name in `<hyperv>`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Relaxed => "relaxed",
            Self::Vapic => "vapic",
            Self::Spinlocks => "spinlocks",
            Self::Vpindex => "vpindex",
            Self::Runtime => "runtime",
            Self::Synic => "synic",
            Self::Stimer => "stimer",
            Self::Frequencies => "frequencies",
            Self::Tlbflush => "tlbflush",
            Self::Ipi => "ipi",
        }
    }

    /// Lists the enlightenments without which QEMU does not start a guest with this one
    /// (`hyperv_expand_features` in target/i386/kvm/kvm.c). `stimer` needs the clock, too.
    pub(crate) const fn needs(self) -> &'static [Self] {
        match self {
            Self::Synic | Self::Tlbflush | Self::Ipi => &[Self::Vpindex],
            Self::Stimer => &[Self::Synic, Self::Vpindex],
            _ => &[],
        }
    }
}
