//! Containers of settings, and the order in which libvirt's formatter writes their children.
//!
//! The lists follow `virDomainDefFormatInternalSetRootName`, `virDomainCputuneDefFormat`,
//! `virDomainMemorybackingFormat`, `virDomainNumatuneFormatXML`, `virCPUDefFormatBuf`,
//! `virDomainNetDefFormat` and `virDomainFeature` (libvirt `src/conf`).

/// Element that holds settings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Container {
    /// `<domain>`.
    Root,
    Metadata,
    MemoryBacking,
    Cputune,
    Numatune,
    Features,
    /// `<kvm>` in `<features>`.
    Kvm,
    /// `<hyperv>` in `<features>`.
    Hyperv,
    Cpu,
    Clock,
    Devices,
    /// Disk with this target.
    Disk(String),
    /// `<driver>` of the disk with this target.
    DiskDriver(String),
    /// SCSI controller with this index.
    Scsi(u32),
    /// `<driver>` of the SCSI controller with this index.
    ScsiDriver(u32),
    /// PCI controller with this index.
    Pci(u32),
    /// `<target>` of the PCI controller with this index.
    PciTarget(u32),
    /// Interface with this MAC address.
    Interface(String),
    /// `<driver>` of the interface with this MAC address.
    InterfaceDriver(String),
}

/// Rank of an element among its siblings: its place in libvirt's order, then its number (vCPU,
/// cell, …).
pub(super) type Rank = (u16, u32);

impl Container {
    /// Returns the container around this one; `None` for the root and for devices, which virtfit
    /// never makes.
    pub(super) fn parent(&self) -> Option<Container> {
        match self {
            Self::Root | Self::Disk(_) | Self::Scsi(_) | Self::Pci(_) | Self::Interface(_) => None,
            Self::PciTarget(index) => Some(Self::Pci(*index)),
            Self::DiskDriver(target) => Some(Self::Disk(target.clone())),
            Self::ScsiDriver(index) => Some(Self::Scsi(*index)),
            Self::InterfaceDriver(mac) => Some(Self::Interface(mac.clone())),
            Self::Kvm | Self::Hyperv => Some(Self::Features),
            _ => Some(Self::Root),
        }
    }

    /// Returns the element's name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Root => "domain",
            Self::Metadata => "metadata",
            Self::MemoryBacking => "memoryBacking",
            Self::Cputune => "cputune",
            Self::Numatune => "numatune",
            Self::Features => "features",
            Self::Kvm => "kvm",
            Self::Hyperv => "hyperv",
            Self::Clock => "clock",
            Self::Cpu => "cpu",
            Self::Devices => "devices",
            Self::Disk(_) => "disk",
            Self::Scsi(_) | Self::Pci(_) => "controller",
            Self::PciTarget(_) => "target",
            Self::Interface(_) => "interface",
            Self::DiskDriver(_) | Self::ScsiDriver(_) | Self::InterfaceDriver(_) => "driver",
        }
    }

    /// Returns the container's label in the provenance.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Disk(target) => format!("disk/{target}"),
            Self::DiskDriver(target) => format!("driver/disk/{target}"),
            Self::Scsi(index) => format!("controller/{index}"),
            Self::ScsiDriver(index) => format!("driver/controller/{index}"),
            Self::Pci(index) => format!("pci/{index}"),
            Self::PciTarget(index) => format!("target/pci/{index}"),
            Self::Interface(mac) => format!("interface/{mac}"),
            Self::InterfaceDriver(mac) => format!("driver/interface/{mac}"),
            other => other.name().to_string(),
        }
    }

    /// Finds the container with this label in the provenance.
    pub(super) fn from_label(label: &str) -> Option<Self> {
        Some(match label {
            "metadata" => Self::Metadata,
            "memoryBacking" => Self::MemoryBacking,
            "cputune" => Self::Cputune,
            "numatune" => Self::Numatune,
            "features" => Self::Features,
            "kvm" => Self::Kvm,
            "hyperv" => Self::Hyperv,
            "clock" => Self::Clock,
            "cpu" => Self::Cpu,
            "devices" => Self::Devices,
            "domain" => Self::Root,
            _ => match label.split_once('/')? {
                ("disk", target) => Self::Disk(target.to_string()),
                ("controller", index) => Self::Scsi(index.parse().ok()?),
                ("pci", index) => Self::Pci(index.parse().ok()?),
                ("target", bus) => Self::PciTarget(bus.strip_prefix("pci/")?.parse().ok()?),
                ("interface", mac) => Self::Interface(mac.to_string()),
                ("driver", device) => match device.split_once('/')? {
                    ("disk", target) => Self::DiskDriver(target.to_string()),
                    ("controller", index) => Self::ScsiDriver(index.parse().ok()?),
                    ("interface", mac) => Self::InterfaceDriver(mac.to_string()),
                    _ => return None,
                },
                _ => return None,
            },
        })
    }

    /// Returns the depth below the root, by which containers are ordered from the inside out.
    pub(super) fn depth(&self) -> u8 {
        match self {
            Self::Root => 0,
            Self::Kvm | Self::Hyperv => 2,
            Self::Disk(_) | Self::Scsi(_) | Self::Pci(_) | Self::Interface(_) => 3,
            Self::PciTarget(_) | Self::DiskDriver(_) | Self::ScsiDriver(_) | Self::InterfaceDriver(_) => 4,
            _ => 1,
        }
    }

    /// Lists the names of the children in libvirt's order.
    fn children(&self) -> &'static [&'static str] {
        match self {
            Self::Root => &[
                "name",
                "uuid",
                "genid",
                "title",
                "description",
                "metadata",
                "maxMemory",
                "memory",
                "currentMemory",
                "blkiotune",
                "memtune",
                "memoryBacking",
                "vcpu",
                "vcpus",
                "iothreads",
                "iothreadids",
                "defaultiothread",
                "cputune",
                "numatune",
                "resource",
                "sysinfo",
                "bootloader",
                "bootloader_args",
                "os",
                "idmap",
                "features",
                "cpu",
                "clock",
                "on_poweroff",
                "on_reboot",
                "on_crash",
                "on_lockfailure",
                "pm",
                "perf",
                "devices",
                "seclabel",
                "keywrap",
                "launchSecurity",
            ],
            Self::MemoryBacking => &[
                "hugepages",
                "nosharepages",
                "locked",
                "source",
                "access",
                "allocation",
                "discard",
            ],
            Self::Cputune => &[
                "shares",
                "period",
                "quota",
                "global_period",
                "global_quota",
                "emulator_period",
                "emulator_quota",
                "iothread_period",
                "iothread_quota",
                "vcpupin",
                "emulatorpin",
                "iothreadpin",
                "emulatorsched",
                "vcpusched",
                "iothreadsched",
                "cachetune",
                "memorytune",
            ],
            Self::Numatune => &["memory", "memnode"],
            Self::Features => &[
                "acpi",
                "apic",
                "pae",
                "hap",
                "viridian",
                "privnet",
                "hyperv",
                "kvm",
                "pvspinlock",
                "capabilities",
                "pmu",
                "vmport",
                "gic",
                "smm",
                "ioapic",
                "hpt",
                "vmcoreinfo",
                "htm",
                "nested-hv",
                "msrs",
                "ccf-assist",
                "xen",
                "cfpc",
                "sbbc",
                "ibs",
                "tcg",
            ],
            Self::Kvm => &["hidden", "hint-dedicated", "poll-control", "pv-ipi", "dirty-ring"],
            Self::Hyperv => &[
                "relaxed",
                "vapic",
                "spinlocks",
                "vpindex",
                "runtime",
                "synic",
                "stimer",
                "reset",
                "vendor_id",
                "frequencies",
                "reenlightenment",
                "tlbflush",
                "ipi",
                "evmcs",
                "avic",
                "emsr_bitmap",
                "xmm_input",
            ],
            Self::Clock => &["timer"],
            Self::Cpu => &[
                "model",
                "vendor",
                "topology",
                "cache",
                "maxphysaddr",
                "feature",
                "numa",
            ],
            Self::Devices => &[
                "emulator",
                "disk",
                "controller",
                "lease",
                "filesystem",
                "interface",
                "smartcard",
                "serial",
                "parallel",
                "console",
                "channel",
                "input",
                "tpm",
                "graphics",
                "sound",
                "audio",
                "video",
                "hostdev",
                "redirdev",
                "redirfilter",
                "hub",
                "watchdog",
                "memballoon",
                "rng",
                "nvram",
                "panic",
                "shmem",
                "memory",
                "iommu",
                "vsock",
            ],
            Self::Disk(_) | Self::Scsi(_) => &["driver"],
            Self::Interface(_) => &[
                "mac",
                "source",
                "actual",
                "vlan",
                "virtualport",
                "bandwidth",
                "port",
                "ip",
                "route",
                "script",
                "downscript",
                "backenddomain",
                "guest",
                "target",
                "model",
                "driver",
                "backend",
                "filterref",
                "portForward",
                "teaming",
                "tune",
                "link",
                "mtu",
                "coalesce",
                "boot",
                "rom",
                "acpi",
                "alias",
                "address",
            ],
            Self::DiskDriver(_) => &["iothreads", "metadata_cache"],
            Self::Pci(_) => &["driver", "model", "target", "alias", "address"],
            Self::PciTarget(_) => &["node"],
            Self::Metadata | Self::ScsiDriver(_) | Self::InterfaceDriver(_) => &[],
        }
    }

    /// Names the attribute that numbers children of this name.
    pub(super) fn number_of(child: &str) -> Option<&'static str> {
        match child {
            "vcpupin" => Some("vcpu"),
            "iothreadpin" => Some("iothread"),
            "memnode" => Some("cellid"),
            _ => None,
        }
    }

    /// Returns the place of a child of this name; `None` where libvirt writes no such child.
    pub(super) fn place(&self, child: &str) -> Option<u16> {
        let position = self.children().iter().position(|name| *name == child);
        match self {
            // In a device every other element follows the driver.
            Self::Disk(_) | Self::Scsi(_) => Some(position.map_or(1, |i| i as u16)),
            _ => position.map(|i| i as u16),
        }
    }
}
