//! Settings that options of QEMU in the XML rule: the options stay, and the settings are left out.

use std::collections::BTreeSet;

use crate::domain::Domain;
use crate::domain::qemu::Ruled;
use crate::engine::case::Case;
use crate::engine::fit::Fit;
use crate::engine::settings::List;
use crate::types::plan::{Note, Scope};
use crate::types::reason::Basis;
use crate::types::setting::{DiskAttribute, Target};
use crate::types::subject::Subject;

/// Takes out the settings that options of QEMU rule, with a note for each that is not named yet.
pub(crate) fn leave(fit: &Fit<'_>, list: &mut List) {
    let Case { domain, wishes, .. } = *fit.case;
    if domain.qemu.ruled.is_empty() {
        return;
    }
    // A guest on the way in keeps what it was started with.
    let owned = fit
        .case
        .provenance
        .iter()
        .flat_map(|provenance| &provenance.owned);
    let incoming = fit.case.scope == Scope::Incoming;
    let before: BTreeSet<&Target> = owned.filter(|_| incoming).map(|owned| &owned.target).collect();
    let mut notes: Vec<Note> = Vec::new();
    list.settings.retain(|setting| {
        let option = option(domain, &setting.target).filter(|_| !before.contains(&setting.target));
        if let Some(option) = option {
            let note = Note::new(subject(domain, &setting.target), Basis::QemuOption { option });
            if !wishes.ruled.contains(&note) && !notes.contains(&note) {
                notes.push(note);
            }
        }
        option.is_none()
    });
    list.kept.extend(notes);
}

/// Returns the option that rules a setting.
fn option(domain: &Domain, target: &Target) -> Option<&'static str> {
    let options = &domain.qemu;
    match target {
        Target::Topology => options.rules(&Ruled::Topology),
        Target::Cells => options.rules(&Ruled::Cells),
        Target::CpuMode => options.rules(&Ruled::CpuModel),
        Target::CpuFeature(name) => options.rules_feature(name),
        Target::Pmu => options.rules_feature("pmu"),
        Target::HintDedicated => options.rules_feature("kvm-hint-dedicated"),
        Target::PollControl => options.rules_feature("kvm-poll-control"),
        Target::Hyperv(one) => options.rules_feature(&format!("hv-{}", one.as_str())),
        Target::HypervClock => options.rules_feature("hv-time"),
        Target::CpuCache => {
            let cache = || options.rules_feature("host-cache-info");
            options.rules_feature("l3-cache").or_else(cache)
        }
        Target::NumaMemory | Target::MemNode(_) | Target::Hugepages | Target::MemoryAccess => {
            options.rules(&Ruled::Memory)
        }
        Target::Locked => options.rules(&Ruled::Locked),
        Target::NoSharePages => options.rules(&Ruled::Merging),
        Target::Disk(disk, attribute) => {
            let disk = domain.disks.iter().find(|other| other.target == *disk)?;
            let property = match attribute {
                DiskAttribute::Queues => "num-queues",
                DiskAttribute::Io => "aio",
                other => other.as_str(),
            };
            options.rules_device(&disk.alias, "virtio-blk", property)
        }
        Target::DiskIothreads(disk) => {
            let disk = domain.disks.iter().find(|other| other.target == *disk)?;
            let rules = |property| options.rules_device(&disk.alias, "virtio-blk", property);
            rules("iothread").or_else(|| rules("iothread-vq-mapping"))
        }
        Target::ScsiIothread(index) => {
            options.rules_device(&domain.scsi_controller(*index)?.alias, "virtio-scsi", "iothread")
        }
        Target::NetQueues(mac) => options.rules_device(&domain.interface(mac)?.alias, "virtio-net", "mq"),
        _ => None,
    }
}

/// Returns the subject of the note on a setting that is left out: the whole CPU or memory where an
/// option rules all of it.
fn subject(domain: &Domain, target: &Target) -> Subject {
    let whole_cpu = domain.qemu.rules(&Ruled::CpuModel).is_some();
    match target {
        Target::CpuMode
        | Target::CpuFeature(_)
        | Target::CpuCache
        | Target::Pmu
        | Target::HintDedicated
        | Target::PollControl
        | Target::Hyperv(_)
        | Target::HypervClock
            if whole_cpu =>
        {
            Subject::CpuModel
        }
        Target::NumaMemory | Target::MemNode(_) | Target::Hugepages | Target::MemoryAccess => Subject::Memory,
        other => Subject::Value(other.clone()),
    }
}
