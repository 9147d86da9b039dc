//! Checks of passed-through devices and disks.

use std::path::Path;

use crate::check::facts::{Facts, Guest};
use crate::check::finding::{Finding, Mend};
use crate::check::kernel_memory::chosen;
use crate::check::mend::{module_option, word};
use crate::domain::Passthrough;
use crate::host::images::image_facts;
use crate::host::threads;
use crate::policy::Profile;
use crate::policy::profile::DiskRule;
use crate::types::devices::ImageFacts;
use crate::types::plural::{counted, cpus, join};

/// Most guests or disks that a finding names.
const NAMED: usize = 5;

/// Words a list of which the first few are named.
fn some(all: &[String]) -> String {
    let named: Vec<&String> = all.iter().take(NAMED).collect();
    match all.len().saturating_sub(NAMED) {
        0 => join(&named),
        more => format!("{} and {more} more", join(&named)),
    }
}

pub(super) fn posted_interrupts(facts: &Facts<'_>, _: &Profile) -> Finding {
    let switches = [("kvm_intel", "enable_apicv"), ("kvm_amd", "avic")];
    let found = switches
        .iter()
        .find_map(|(module, name)| Some((module, name, facts.parameter(module, name)?)));
    let Some((module, name, value)) = found else {
        return Finding::unknown("neither kvm_intel nor kvm_amd is loaded");
    };
    let remapping = facts.boot_option("intremap").is_none_or(|value| value != "off");
    let on = matches!(value.as_str(), "Y" | "1") && remapping;
    let read = format!(
        "{module} {name}: {value}{}",
        if remapping { "" } else { "; intremap=off at boot" }
    );
    if on {
        return Finding::pass(read, "interrupts reach a running vCPU without leaving the guest");
    }
    let means = "each interrupt of a passed-through device stops the vCPU for a moment";
    if !facts.has_passthrough() {
        return Finding::info(read, means);
    }
    match remapping {
        true => Finding::warn(read, means).mend(module_option(module, &format!("{name}=1"))),
        false => Finding::warn(read, means).advise("take intremap=off off the kernel's command line, and switch VT-d or IOMMU on in the firmware's setup"),
    }
}

pub(super) fn vhost(facts: &Facts<'_>, _: &Profile) -> Finding {
    if !facts.exists("/sys/module/vhost") {
        return Finding::unknown("vhost is not loaded: no guest has a network interface of its kind yet");
    }
    let Some(kernel) = facts.kernel() else {
        return Finding::unknown("/proc/sys/kernel/osrelease is absent");
    };
    let read = format!("vhost is loaded; Linux {}.{}", kernel.0, kernel.1);
    // Since Linux 6.4 they are threads of QEMU, which status shows with the guest's others.
    let found = match kernel < (6, 4) {
        true => threads::vhost(facts.root())
            .into_iter()
            .map(|(_, thread)| thread)
            .collect(),
        false => Vec::new(),
    };
    let dedicated = &facts.view.sets.dedicated;
    let on_held = found
        .iter()
        .filter(|thread| !thread.allowed.is_empty() && thread.allowed.is_subset(dedicated));
    let on_held: Vec<String> = on_held
        .map(|thread| format!("{} ({})", thread.name, cpus(&thread.allowed)))
        .collect();
    if !on_held.is_empty() {
        return Finding::warn(
            read,
            format!(
                "the kernel's network threads of guests run on CPUs that vCPUs are to have alone: {}",
                some(&on_held)
            ),
        )
        .run(
            "see whose they are, and pin that guest's emulator (emulatorpin)",
            ["virtfit status".into()],
        );
    }
    match kernel < (6, 4) {
        true => Finding::info(
            read,
            "network queues of guests are served by kernel threads, which follow the pin of the emulator",
        ),
        false => Finding::pass(
            read,
            "network queues of guests are served by threads of QEMU, which follow the pin of the emulator",
        ),
    }
}

/// Returns the name of a disk's kernel device: `nvme0n1`.
fn device(facts: &Facts<'_>, source: &str) -> Option<String> {
    let target = facts.root().resolve(Path::new(source)).ok()?;
    let name = target.strip_prefix("/dev").ok()?.to_str()?.to_string();
    Some(name)
}

pub(super) fn io_scheduler(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let disks = facts.guests_of(profile).flat_map(|guest| &guest.domain.disks);
    let sources = disks
        .filter(|disk| disk.kind == "block")
        .filter_map(|disk| disk.source.as_deref());
    let mut names: Vec<String> = sources.filter_map(|source| device(facts, source)).collect();
    names.sort_unstable();
    names.dedup();
    let mut read = Vec::new();
    let mut slow = Vec::new();
    for name in names {
        let path = format!("/sys/class/block/{name}/queue/scheduler");
        let Some(text) = facts.text(&path) else {
            continue;
        };
        let scheduler = chosen(&text).unwrap_or(&text).to_string();
        read.push(format!("{name}: {scheduler}"));
        if scheduler == "bfq" && name.starts_with("nvme") {
            slow.push((name, path));
        }
    }
    if read.is_empty() {
        return Finding::unknown(
            facts.no_guest("no guest of this profile has a disk that is a block device"),
        );
    }
    let Some((name, _)) = slow.first() else {
        return Finding::pass(some(&read), "schedulers of guests' disks are no brake");
    };
    let rule = "/etc/udev/rules.d/80-io-scheduler.rules";
    let mut commands: Vec<String> = slow
        .iter()
        .map(|(_, path)| format!("echo none > {}", word(path)))
        .collect();
    commands.push(format!(
        "echo 'ACTION==\"add|change\", KERNEL==\"nvme[0-9]*\", ATTR{{queue/scheduler}}=\"none\"' > {rule}"
    ));
    Finding::warn(some(&read), format!("bfq orders requests of {name} one by one, which an NVMe disk does not need: fewer requests a second"))
        .mend(Mend {
            text: "none for NVMe disks, now and at each boot".into(),
            commands,
        })
}

pub(super) fn images(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let wants = !matches!(
        (&profile.disk.cache, &profile.disk.io),
        (DiskRule::Keep, DiskRule::Keep)
    );
    if !wants {
        return Finding::pass(
            "disk.cache = keep, disk.io = keep",
            "this profile leaves disks as they are",
        );
    }
    let (mut indirect, mut sparse, mut whole) = (Vec::new(), Vec::new(), 0);
    for guest in facts.guests_of(profile) {
        for (target, image) in image_facts(facts.root(), &guest.domain) {
            let name = |fstype: &str| format!("{} {target} ({fstype})", guest.domain.name);
            match image {
                ImageFacts::File {
                    fstype,
                    direct: false,
                    ..
                } => indirect.push(name(&fstype)),
                ImageFacts::File {
                    fstype,
                    preallocated: false,
                    ..
                } => sparse.push(name(&fstype)),
                ImageFacts::Block | ImageFacts::File { .. } => whole += 1,
                ImageFacts::Unknown { .. } => {}
            }
        }
    }
    if !indirect.is_empty() {
        return Finding::warn(some(&indirect), "this filesystem does not take O_DIRECT: the host caches what the guest caches, too (io=native is not possible)")
            .advise("move these images to a filesystem such as ext4 or xfs, or to a block device");
    }
    if !sparse.is_empty() {
        return Finding::info(
            some(&sparse),
            "these images are not allocated whole: each new block waits for the filesystem, so their cache mode stays",
        );
    }
    match whole {
        0 => Finding::unknown(facts.no_guest("no guest of this profile has a local image")),
        count => Finding::pass(
            counted(count, "disk"),
            "images are block devices, or allocated whole on a filesystem with O_DIRECT",
        ),
    }
}

pub(super) fn pci_locality(facts: &Facts<'_>, _: &Profile) -> Finding {
    let host = &facts.view.host;
    let mut lost = Vec::new();
    let mut read = Vec::new();
    let addresses = |guest: &Guest| -> Vec<String> {
        let addresses = guest.domain.passthrough.iter().filter_map(|device| match device {
            Passthrough::Pci(address) => Some(address.clone()),
            _ => None,
        });
        addresses.collect()
    };
    for guest in &facts.guests {
        for address in addresses(guest) {
            match host.pci_nodes.get(&address) {
                Some(node) => read.push(format!("{address}: node {node}")),
                None if facts.exists(&format!("/sys/bus/pci/devices/{address}")) => {
                    lost.push(format!("{address} of {}", guest.domain.name))
                }
                None => {}
            }
        }
    }
    if host.nodes.len() <= 1 {
        return Finding::pass("one node", "every device is near");
    }
    if !lost.is_empty() {
        return Finding::warn(
            format!("numa_node -1: {}", some(&lost)),
            "the firmware does not say which node these devices are near: guests cannot be put beside them",
        )
        .advise("update the firmware, or switch on what it calls SLIT, SRAT or PCI locality");
    }
    match read.is_empty() {
        true => {
            Finding::unknown(facts.no_guest("no PCI device of this host is passed through by its address"))
        }
        false => Finding::pass(some(&read), "the node of each passed-through device is known"),
    }
}
