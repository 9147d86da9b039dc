//! Table of all checks, in the order in which they are shown: by group, in each as the list of
//! `docs/checks.md` has them.

use serde::Serialize;

use crate::check::facts::Facts;
use crate::check::finding::Finding;
use crate::check::{
    cpus, devices, interrupts, isolation, kernel_memory, libvirt, pages, pages_at_start, power, realtime,
    versions,
};
use crate::policy::Profile;

/// Part of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Group {
    /// libvirt, and virtfit itself.
    Libvirt,
    /// Memory and huge pages.
    Memory,
    /// CPUs and their power management.
    Cpu,
    /// Real time.
    RealTime,
    /// CPUs that guests have to themselves.
    Isolation,
    /// Passed-through devices and disks.
    Devices,
}

impl Group {
    /// All groups, in their order.
    pub(crate) const ALL: [Self; 6] = [
        Self::Libvirt,
        Self::Memory,
        Self::Cpu,
        Self::RealTime,
        Self::Isolation,
        Self::Devices,
    ];

    /// Returns the heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Libvirt => "libvirt and virtfit",
            Self::Memory => "memory",
            Self::Cpu => "CPU and power",
            Self::RealTime => "real time",
            Self::Isolation => "isolation",
            Self::Devices => "devices",
        }
    }
}

/// Kind of profiles to which a check matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Every profile.
    All,
    /// Profiles that give huge pages.
    HugePages,
    /// Profiles with real-time vCPUs.
    RealTime,
    /// Profiles whose vCPUs have CPUs of their own.
    OwnCpus,
    /// Every profile, where a device is passed through to a guest.
    Devices,
}

/// One check.
pub(super) struct Check {
    /// Name that does not change.
    pub id: &'static str,
    /// Part of the host.
    pub group: Group,
    /// Kinds of profiles to which it matters.
    pub who: &'static [Who],
    /// Source of the rule.
    pub source: &'static str,
    /// Check itself.
    pub run: fn(&Facts<'_>, &Profile) -> Finding,
}

const ALL: &[Who] = &[Who::All];
const PAGES: &[Who] = &[Who::HugePages];
const RT: &[Who] = &[Who::RealTime];
const RT_OWN: &[Who] = &[Who::RealTime, Who::OwnCpus];
const OWN: &[Who] = &[Who::OwnCpus];
const PCI: &[Who] = &[Who::Devices];
const PCI_RT: &[Who] = &[Who::Devices, Who::RealTime];

/// Makes a row.
const fn row(
    group: Group,
    id: &'static str,
    who: &'static [Who],
    source: &'static str,
    run: fn(&Facts<'_>, &Profile) -> Finding,
) -> Check {
    Check {
        id,
        group,
        who,
        source,
        run,
    }
}

use Group::{Cpu, Devices, Isolation, Libvirt, Memory, RealTime};

/// All checks, one a line.
#[rustfmt::skip]
pub(super) static CHECKS: &[Check] = &[
    row(Libvirt, "hook-installed", ALL, "libvirt: hooks.html", libvirt::hook_installed),
    row(Libvirt, "hook-called", ALL, "libvirt: hooks.html", libvirt::hook_called),
    row(Libvirt, "other-hooks", ALL, "libvirt: hooks.html", libvirt::other_hooks),
    row(Libvirt, "daemon", ALL, "virtfitd(8)", libvirt::daemon),
    row(Libvirt, "offline-unit", ALL, "virtfit-apply(1)", libvirt::offline_unit),
    row(Libvirt, "policy", ALL, "virtfit-policy(5)", libvirt::policy),
    row(Libvirt, "libvirt-version", ALL, "libvirt: news.html", versions::libvirt),
    row(Libvirt, "apparmor", ALL, "docs/libvirt.md", libvirt::apparmor),
    row(Libvirt, "selinux", ALL, "docs/libvirt.md", libvirt::selinux),
    row(Libvirt, "migration-ht", ALL, "libvirt: news.html, 11.10", versions::migration_ht),
    row(Libvirt, "qemu-on-isolated-cpus", ALL, "libvirt: news.html, 10.4", versions::on_isolated),
    row(Libvirt, "numad-path", ALL, "libvirt: news.html, 11.4", versions::numad_path),
    row(Libvirt, "numa-preplace", ALL, "openSUSE: numa-preplace", versions::numa_preplace),
    row(Memory, "hugetlb-mounts", PAGES, "kernel: hugetlbpage.rst", pages::mounts),
    row(Memory, "page-pools", PAGES, "kernel: hugetlbpage.rst", pages::pools),
    row(Memory, "pages-at-start", PAGES, "kernel: hugetlbpage.rst", pages_at_start::at_start),
    row(Memory, "gigantic-pages", PAGES, "kernel: kernel-parameters.txt", pages::gigantic),
    row(Memory, "overcommit-pages", PAGES, "kernel: hugetlbpage.rst", pages::overcommit),
    row(Memory, "thp", ALL, "kernel: transhuge.rst", kernel_memory::thp),
    row(Memory, "ksm", ALL, "kernel: ksm.rst", kernel_memory::ksm),
    row(Memory, "numa-balancing", ALL, "kernel: sysctl/kernel.rst", kernel_memory::numa_balancing),
    row(Memory, "zone-reclaim", ALL, "kernel: sysctl/vm.rst", kernel_memory::zone_reclaim),
    row(Memory, "swap", RT, "kernel: mlock2(2)", kernel_memory::swap),
    row(Memory, "overcommit-memory", ALL, "kernel: sysctl/vm.rst", kernel_memory::overcommit),
    row(Memory, "memlock", RT, "docs/libvirt.md", kernel_memory::memlock),
    row(Memory, "numa-shape", ALL, "sysfs: devices/system/node", kernel_memory::numa_shape),
    row(Memory, "numa-distances", ALL, "ACPI: SLIT", kernel_memory::distances),
    row(Memory, "pressure", PAGES, "kernel: psi.rst", kernel_memory::pressure),
    row(Cpu, "governor", ALL, "kernel: cpufreq.rst", power::governor),
    row(Cpu, "energy-preference", ALL, "kernel: intel_pstate.rst", power::energy_preference),
    row(Cpu, "turbo", ALL, "kernel: cpufreq.rst", power::turbo),
    row(Cpu, "idle-states", RT, "kernel: cpuidle.rst", power::idle_states),
    row(Cpu, "smt", RT, "kernel: cpu-isolation.rst", power::smt),
    row(Cpu, "smt-leak", ALL, "kernel: hw-vuln/l1tf.rst", power::smt_leak),
    row(Cpu, "l1d-flush", RT, "kernel: kernel-parameters.txt", power::l1d_flush),
    row(Cpu, "halt-polling", OWN, "kernel: halt-polling.rst", power::halt_polling),
    row(Cpu, "online-cpus", ALL, "virtfit-policy(5)", cpus::online),
    row(RealTime, "nohz-full", RT, "tuned: realtime-virtual-host", cpus::nohz_full),
    row(RealTime, "rt-throttling", RT, "kernel: sched-rt-group.rst", realtime::throttling),
    row(RealTime, "kthread-priorities", RT, "tuned: realtime-virtual-host", realtime::kthreads),
    row(RealTime, "rt-group-time", RT, "kernel: sched-rt-group.rst", realtime::group_time),
    row(RealTime, "rt-kernel", RT, "libvirt: kbase/kvm-realtime.html", realtime::kernel),
    row(RealTime, "clocksource", ALL, "kernel: cpu-isolation.rst", realtime::clocksource),
    row(RealTime, "nx-huge-pages", RT, "kernel: kernel-parameters.txt", realtime::nx_huge_pages),
    row(RealTime, "kvm-parameters", RT, "tuned: realtime-virtual-host", realtime::kvm_parameters),
    row(Isolation, "isolcpus", ALL, "virtfit-policy(5)", cpus::isolcpus),
    row(Isolation, "default-irq-mask", RT_OWN, "kernel: irq-affinity.rst", interrupts::default_mask),
    row(Isolation, "irqbalance", RT_OWN, "irqbalance(1)", interrupts::irqbalance),
    row(Isolation, "irqs", RT_OWN, "kernel: irq-affinity.rst", interrupts::irqs),
    row(Isolation, "workqueues", RT_OWN, "kernel: workqueue.rst", interrupts::workqueues),
    row(Isolation, "cgroup", OWN, "systemd.resource-control(5)", isolation::cgroup),
    row(Isolation, "machine-slice", ALL, "docs/libvirt.md", isolation::machine_slice),
    row(Isolation, "systemd-limits", OWN, "systemd.resource-control(5)", isolation::systemd_limits),
    row(Isolation, "own-affinities", OWN, "sched_setaffinity(2)", isolation::own_affinities),
    row(Isolation, "other-managers", OWN, "kubelet: CPU manager", isolation::other_managers),
    row(Isolation, "tuners", ALL, "tuned-profiles(7)", isolation::tuners),
    row(Isolation, "narrow-slices", OWN, "systemd issue 43846", isolation::narrow_slices),
    row(Devices, "posted-interrupts", PCI_RT, "kernel: kvm, vmx and svm", devices::posted_interrupts),
    row(Devices, "vhost", ALL, "kernel: vhost", devices::vhost),
    row(Devices, "io-scheduler", ALL, "kernel: switching-sched.rst", devices::io_scheduler),
    row(Devices, "images", ALL, "docs/placement.md", devices::images),
    row(Devices, "pci-locality", PCI, "sysfs: bus/pci/devices", devices::pci_locality),
];
