use super::*;
use crate::types::target::Row;

/// Returns the variant after this one; a new variant has to be put into the row.
fn next(target: &Target) -> Option<Target> {
    use DiskAttribute::{Cache, Discard, Io, Iothread, Queues};
    let disk = |attribute| Some(Target::Disk("v/d a".into(), attribute));
    match target {
        Target::VcpuCpuset => Some(Target::VcpuPlacement),
        Target::VcpuPlacement => Some(Target::Iothreads),
        Target::Iothreads => Some(Target::VcpuPin(VcpuId(12))),
        Target::VcpuPin(_) => Some(Target::EmulatorPin),
        Target::EmulatorPin => Some(Target::IothreadPin(IothreadId(1))),
        Target::IothreadPin(_) => Some(Target::VcpuSched),
        Target::VcpuSched => Some(Target::NumaMemory),
        Target::NumaMemory => Some(Target::MemNode(CellId(0))),
        Target::MemNode(_) => Some(Target::Hugepages),
        Target::Hugepages => Some(Target::Locked),
        Target::Locked => Some(Target::NoSharePages),
        Target::NoSharePages => Some(Target::MemoryAccess),
        Target::MemoryAccess => Some(Target::CpuMode),
        Target::CpuMode => Some(Target::Topology),
        Target::Topology => Some(Target::Cells),
        Target::Cells => Some(Target::CpuFeature("tsc/deadline".into())),
        Target::CpuFeature(_) => Some(Target::CpuCache),
        Target::CpuCache => Some(Target::Pmu),
        Target::Pmu => Some(Target::HintDedicated),
        Target::HintDedicated => Some(Target::PollControl),
        Target::PollControl => Some(Target::Hyperv(Enlightenment::Relaxed)),
        Target::Hyperv(one) => {
            let next = Enlightenment::ALL.into_iter().find(|other| other > one);
            Some(next.map_or(Target::HypervClock, Target::Hyperv))
        }
        Target::HypervClock => Some(Target::Memballoon),
        Target::Memballoon => disk(Cache),
        Target::Disk(_, Cache) => disk(Io),
        Target::Disk(_, Io) => disk(Discard),
        Target::Disk(_, Discard) => disk(Queues),
        Target::Disk(_, Queues) => disk(Iothread),
        Target::Disk(_, Iothread) => Some(Target::DiskIothreads("v/d a".into())),
        Target::DiskIothreads(_) => Some(Target::ScsiIothread(3)),
        Target::ScsiIothread(_) => Some(Target::ExpanderNode(5)),
        Target::ExpanderNode(_) => Some(Target::NetQueues("52:54:00:00:00:01".into())),
        Target::NetQueues(_) => None,
    }
}

fn all() -> impl Iterator<Item = Target> {
    std::iter::successors(Some(Target::VcpuCpuset), next)
}

#[test]
fn every_label_leads_back_to_its_target() {
    for target in all() {
        assert_eq!(
            from_label(&label(&target)),
            Some(target.clone()),
            "{}",
            label(&target)
        );
    }
    for none in [
        "",
        "vcpupin",
        "vcpupin/",
        "vcpupin/01",
        "vcpupin/1/x",
        "disk/a/b",
        "memory",
    ] {
        assert_eq!(from_label(none), None, "{none}");
    }
}

#[test]
fn rows_are_distinct_and_shape_is_visible() {
    let rows: Vec<Row> = all().map(|target| target.row()).collect();
    for (index, row) in rows.iter().enumerate() {
        assert!(!rows[index + 1..].contains(row), "{row:?}");
        assert!(row.guest_visible || !row.is_of_shape, "{row:?}");
    }
}

#[test]
fn paths_are_what_they_were() {
    let paths: Vec<String> = all().map(|target| path(&target)).collect();
    let expected = [
        "/domain/vcpu/@cpuset",
        "/domain/vcpu/@placement",
        "/domain/iothreads",
        "/domain/cputune/vcpupin[@vcpu='12']",
        "/domain/cputune/emulatorpin",
        "/domain/cputune/iothreadpin[@iothread='1']",
        "/domain/cputune/vcpusched",
        "/domain/numatune/memory",
        "/domain/numatune/memnode[@cellid='0']",
        "/domain/memoryBacking/hugepages",
        "/domain/memoryBacking/locked",
        "/domain/memoryBacking/nosharepages",
        "/domain/memoryBacking/access/@mode",
        "/domain/cpu/@mode",
        "/domain/cpu/topology",
        "/domain/cpu/numa",
        "/domain/cpu/feature[@name='tsc/deadline']",
        "/domain/cpu/cache",
        "/domain/features/pmu",
        "/domain/features/kvm/hint-dedicated",
        "/domain/features/kvm/poll-control",
        "/domain/features/hyperv/relaxed",
        "/domain/features/hyperv/vapic",
        "/domain/features/hyperv/spinlocks",
        "/domain/features/hyperv/vpindex",
        "/domain/features/hyperv/runtime",
        "/domain/features/hyperv/synic",
        "/domain/features/hyperv/stimer",
        "/domain/features/hyperv/frequencies",
        "/domain/features/hyperv/tlbflush",
        "/domain/features/hyperv/ipi",
        "/domain/clock/timer[@name='hypervclock']",
        "/domain/devices/memballoon",
        "/domain/devices/disk[target/@dev='v/d a']/driver/@cache",
        "/domain/devices/disk[target/@dev='v/d a']/driver/@io",
        "/domain/devices/disk[target/@dev='v/d a']/driver/@discard",
        "/domain/devices/disk[target/@dev='v/d a']/driver/@queues",
        "/domain/devices/disk[target/@dev='v/d a']/driver/@iothread",
        "/domain/devices/disk[target/@dev='v/d a']/driver/iothreads",
        "/domain/devices/controller[@type='scsi'][@index='3']/driver/@iothread",
        "/domain/devices/controller[@type='pci'][@index='5']/target/node",
        "/domain/devices/interface[mac/@address='52:54:00:00:00:01']/driver/@queues",
    ];
    assert_eq!(paths, expected);
}
