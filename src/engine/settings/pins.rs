//! Pins of vCPUs, emulator threads and iothreads, and real-time scheduling.

use std::collections::BTreeSet;

use crate::domain::{Disk, ScsiController};
use crate::engine::case::Case;
use crate::engine::fit::Fit;
use crate::engine::iothreads::{PerDisk, takes_iothread};
use crate::engine::settings::List;
use crate::engine::support::Support;
use crate::policy::profile::{Cpus, IothreadCount, Scheduler};
use crate::types::ids::IothreadId;
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::reason::{Basis, LeftOut};
use crate::types::setting::{DiskAttribute, Target, Value};
use crate::types::subject::Subject;

/// Decides `<vcpupin>`, and takes out what would contradict it.
pub(crate) fn vcpus(fit: &Fit<'_>, list: &mut List) {
    let Case { wishes, domain, .. } = *fit.case;
    let Fit {
        placed,
        demanded,
        fits,
        ..
    } = *fit;
    if wishes.profile.cpus == Cpus::Keep {
        return;
    }
    if !demanded.kept_pins.is_empty() {
        // vCPUs with equal pins are named in one line.
        let mut kept: Vec<(VcpuSet, &CpuSet)> = Vec::new();
        for (vcpu, pin) in &demanded.kept_pins {
            match kept.iter_mut().find(|(_, known)| *known == pin) {
                Some((vcpus, _)) => {
                    vcpus.insert(*vcpu);
                }
                None => kept.push((VcpuSet::one(*vcpu), pin)),
            }
        }
        let each_its_own = kept.len() > 1 && kept.iter().all(|(_, pin)| pin.len() == 1);
        if each_its_own {
            let vcpus: VcpuSet = demanded.kept_pins.keys().copied().collect();
            let cpus = kept.iter().fold(CpuSet::new(), |all, (_, pin)| all.union(pin));
            kept = Vec::new();
            list.keep(Subject::VcpuPins(vcpus, cpus));
        }
        for (vcpus, pin) in kept {
            list.keep(Subject::VcpuPins(vcpus, pin.clone()));
        }
    }
    if domain.vcpu_cpuset.is_some() && wishes.keep {
        list.keep(Subject::Value(Target::VcpuCpuset));
    }
    if wishes.profile.override_existing && domain.vcpu_placement_auto {
        list.set(
            Target::VcpuPlacement,
            Value::Text("static".into()),
            Basis::PinsInstead,
        );
    }
    // libvirt ignores a cpuset beside placement='auto', and would use it without.
    if wishes.profile.override_existing && (domain.vcpu_cpuset.is_some() || domain.vcpu_placement_auto) {
        list.set(Target::VcpuCpuset, Value::Absent, Basis::PinsInstead);
    }
    // The reason of a pin says how the vCPU got its CPU.
    for (vcpu, cpus) in &placed.vcpus {
        let in_cpuset = wishes.keep && domain.vcpu_cpuset.as_ref() == Some(cpus);
        if demanded.kept_pins.contains_key(vcpu) || in_cpuset {
            continue;
        }
        let why = match (
            fits && wishes.dedicated.contains(*vcpu),
            placed.threads,
            placed.own_cores,
        ) {
            (false, ..) => Basis::Floats,
            (true, 1, true) if !placed.withheld.is_empty() => Basis::CoreEachWithheld,
            (true, 1, true) => Basis::CoreEach,
            (true, _, false) => Basis::AnyFreeCpu,
            (true, _, true) => Basis::SiblingsTogether,
        };
        list.set(Target::VcpuPin(*vcpu), Value::Cpus(cpus.clone()), why);
    }
}

/// Decides `<emulatorpin>`.
pub(crate) fn emulator(fit: &Fit<'_>, support: &Support, list: &mut List) {
    if let Some(pin) = fit
        .case
        .domain
        .emulatorpin
        .as_ref()
        .filter(|_| fit.case.wishes.keep)
    {
        list.keep(Subject::EmulatorPin(pin.clone()));
    } else if let Some(cpus) = &support.emulator {
        list.set(
            Target::EmulatorPin,
            Value::Cpus(cpus.clone()),
            support.emulator_why.clone(),
        );
    }
}

/// Decides `<iothreads>`, `<iothreadpin>`, and the iothreads of disks and controllers.
pub(crate) fn iothreads(fit: &Fit<'_>, support: &Support, list: &mut List) {
    let Case { wishes, domain, .. } = *fit.case;
    if let Some(count) = support.iothread_count {
        let why = match wishes.profile.iothread_count {
            IothreadCount::At(_) => Basis::ByProfile,
            _ => Basis::OneADisk,
        };
        list.set(Target::Iothreads, Value::Number(count), why);
    }
    for (id, cpus) in &support.iothreads {
        if let Some(pin) = domain.iothreadpins.get(id).filter(|_| wishes.keep) {
            list.keep(Subject::IothreadPin(*id, pin.clone()));
        } else {
            list.set(
                Target::IothreadPin(*id),
                Value::Cpus(cpus.clone()),
                support.iothreads_why.clone(),
            );
        }
    }
    // A pin of an iothread that is no longer there would fail the start.
    if !wishes.keep {
        let left: BTreeSet<IothreadId> = support.iothread_ids.iter().copied().collect();
        let gone = |id: &&IothreadId| !left.contains(id);
        for id in domain.iothreadpins.keys().filter(gone) {
            list.set(Target::IothreadPin(*id), Value::Absent, Basis::IothreadGone);
        }
    }
    let per_disk = PerDisk::new(&wishes.profile, domain, fit.case.host);
    let mut next = support.iothread_ids.iter().cycle();
    // Disks and controllers are served in the order in which libvirt stores them
    // (virDomainDiskInsert, virDomainControllerInsert in conf/domain_conf.c), or a definition that
    // libvirt stored would get other iothreads.
    let mut disks: Vec<&Disk> = domain.disks.iter().filter(|disk| takes_iothread(disk)).collect();
    disks.sort_by_key(|disk| (disk.target.len(), &disk.target));
    let mut controllers: Vec<&ScsiController> = domain.iothread_controllers().collect();
    controllers.sort_by_key(|controller| controller.index);
    for disk in disks {
        let target = Target::Disk(disk.target.clone(), DiskAttribute::Iothread);
        if disk.iothread_mapping || (disk.iothread.is_some() && wishes.keep) {
            list.keep(Subject::Value(Target::Disk(
                disk.target.clone(),
                DiskAttribute::Iothread,
            )));
            continue;
        }
        let all = Target::DiskIothreads(disk.target.clone());
        if let Some(why) = &per_disk.left_out {
            list.not_done(Subject::Value(all.clone()), why.clone());
        }
        // With several iothreads, queues are divided among them, and `iothread=` must not be there.
        let count = per_disk.of(disk).min(support.iothread_ids.len() as u32);
        if count > 1 {
            let mut ids: Vec<IothreadId> = next.by_ref().take(count as usize).copied().collect();
            ids.sort_unstable();
            list.set(all, Value::Iothreads(ids), Basis::OffTheEmulator);
            if disk.iothread.is_some() {
                list.set(target, Value::Absent, Basis::SeveralInstead);
            }
        } else if let Some(id) = next.next() {
            list.set(target, iothread(*id), Basis::OffTheEmulator);
        } else if disk.iothread.is_some() {
            list.set(target, Value::Absent, Basis::NoIothreads);
        }
    }
    for controller in controllers {
        let target = Target::ScsiIothread(controller.index);
        if controller.iothread_mapping || (controller.iothread.is_some() && wishes.keep) {
            list.keep(Subject::Value(target));
        } else if let Some(id) = next.next() {
            list.set(target, iothread(*id), Basis::DisksOffTheEmulator);
        } else if controller.iothread.is_some() {
            list.set(target, Value::Absent, Basis::NoIothreads);
        }
    }
}

fn iothread(id: IothreadId) -> Value {
    Value::Text(id.to_string())
}

/// Decides `<vcpusched>`: only for vCPUs alone on a dedicated CPU.
pub(crate) fn realtime(fit: &Fit<'_>, list: &mut List) {
    let Case {
        wishes, domain, host, ..
    } = *fit.case;
    if wishes.keep && !domain.vcpuscheds.is_empty() {
        if !wishes.realtime.is_empty() {
            list.keep(Subject::Value(Target::VcpuSched));
        }
        return;
    }
    let vcpus = match host.rt_allowed && host.rt_runtime_us != Some(0) {
        true => on_dedicated(fit, list),
        false => VcpuSet::new(), // the plan says so already
    };
    if vcpus.is_empty() {
        if !domain.vcpuscheds.is_empty() {
            list.set(Target::VcpuSched, Value::Absent, Basis::ByProfile);
        }
        return;
    }
    let realtime = &wishes.profile.realtime;
    let scheduler = match realtime.scheduler {
        Scheduler::Fifo => "fifo",
        Scheduler::Rr => "rr",
    };
    let value = Value::Sched {
        vcpus,
        scheduler,
        priority: realtime.priority,
    };
    list.set(Target::VcpuSched, value, Basis::Realtime);
}

/// Returns the real-time vCPUs that are alone on a dedicated CPU.
fn on_dedicated(fit: &Fit<'_>, list: &mut List) -> VcpuSet {
    let wishes = fit.case.wishes;
    let dedicated = &fit.case.sets.dedicated;
    let Fit { placed, fits, .. } = *fit;
    let alone = |vcpu: &crate::types::ids::VcpuId| {
        fits && wishes.dedicated.contains(*vcpu)
            && placed
                .vcpus
                .get(vcpu)
                .is_some_and(|pin| pin.len() == 1 && pin.is_subset(dedicated))
    };
    let vcpus: VcpuSet = wishes.realtime.iter().filter(alone).collect();
    let without = wishes.realtime.difference(&vcpus);
    if !without.is_empty() {
        list.not_done(Subject::RealtimeFor(without), LeftOut::NoDedicatedCpu);
    }
    vcpus
}
