//! Names of QEMU's threads, and the kind of thread each stands for.

use crate::types::guest_thread::Thread;
use crate::types::ids::{IothreadId, VcpuId};

/// Returns the kind of a QEMU thread by its name: `CPU 0/KVM` (or `/TCG`), `IO iothread1`; all
/// other threads are the emulator's.
pub(crate) fn of_name(name: &str) -> Thread {
    let vcpu = name
        .strip_prefix("CPU ")
        .and_then(|rest| rest.split_once('/')?.0.parse().ok());
    let iothread = || {
        name.strip_prefix("IO iothread")
            .and_then(|rest| rest.parse().ok())
    };
    match (vcpu, iothread) {
        (Some(id), _) => Thread::Vcpu(VcpuId(id)),
        (None, iothread) => iothread().map_or(Thread::Emulator, |id| Thread::Iothread(IothreadId(id))),
    }
}

/// Returns whether a thread of QEMU's is the kernel's own: `kvm-nx-lpage-recovery`
/// (`arch/x86/kvm/mmu/mmu.c`), which older kernels run outside of QEMU. The first vCPU that runs
/// starts the thread and passes its mask on to it; libvirt does not know the thread, and no pin
/// moves it.
pub(crate) fn is_kernels(name: &str) -> bool {
    name.starts_with("kvm-")
}

/// Returns whether a thread is of QEMU's pool for blocking calls (`util/thread-pool.c`): the thread
/// that submits such a call starts it, and passes its mask on to it.
pub(crate) fn is_of_pool(name: &str) -> bool {
    name == "worker"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_threads_are_known_by_their_names() {
        for (name, kernels) in [
            ("kvm-nx-lpage-re", true),
            ("kvm-nx-lpage-recovery-4711", true),
            ("CPU 0/KVM", false),
            ("qemu-kvm", false),
            ("kvm", false),
        ] {
            assert_eq!(is_kernels(name), kernels, "{name}");
        }
    }

    #[test]
    fn a_threads_name_tells_whose_it_is() {
        for (name, thread) in [
            ("CPU 0/KVM", Thread::Vcpu(VcpuId(0))),
            ("CPU 12/TCG", Thread::Vcpu(VcpuId(12))),
            ("CPU x/KVM", Thread::Emulator),
            ("ALL CPUs/TCG", Thread::Emulator),
            ("IO iothread3", Thread::Iothread(IothreadId(3))),
            ("IO mon_iothread", Thread::Emulator),
            ("qemu-system-x86", Thread::Emulator),
            ("", Thread::Emulator),
        ] {
            assert_eq!(of_name(name), thread, "{name}");
        }
    }
}
