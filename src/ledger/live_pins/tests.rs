use super::*;
use crate::ledger::guest_xml;
use crate::types::cpulist;
use crate::types::ids::{IothreadId, VcpuId};

fn cpus(list: &str) -> CpuSet {
    cpulist::parse(list).unwrap()
}

const UUID: &str = "8c1f6f0e-0000-4000-8000-000000000001";

/// Lets vCPU 0 float on CPUs 0-7, then on 0-3.
fn narrowed(record: &mut Pinned) {
    let vcpu = Thread::Vcpu(VcpuId(0));
    record.set(vcpu, &cpus("0-7"), None, cpus("0-7"), true);
    record.set(vcpu, &cpus("0-3"), Some(&cpus("0-7")), cpus("0-3"), true);
}

#[test]
fn a_record_comes_back_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let root = HostFs::new(dir.path());
    let mut record = Pinned::new(UUID, "web", 77);
    narrowed(&mut record);
    record.set(Thread::Emulator, &cpus("0"), None, cpus("0"), false);
    record.set(
        Thread::Iothread(IothreadId(2)),
        &cpus("0,8"),
        None,
        cpus("0,8"),
        true,
    );
    write(&root, &record).unwrap();
    let mut warnings = Vec::new();
    let all = Records::read(&root, &mut warnings);
    assert_eq!(all.of(UUID, 77), Some(&record));
    assert_eq!(all.of(UUID, 78), None, "another process");
    assert_eq!(record.threads[0].before, Some(cpus("0-7")));
    folder(&root).remove(UUID).unwrap();
    folder(&root).remove(UUID).unwrap();
    assert_eq!(Records::read(&root, &mut warnings), Records::default());
    assert!(folder(&root).remove("../x").is_err());
    std::fs::write(root.path(format!("{FOLDER}/x.json")), "{").unwrap();
    Records::read(&root, &mut warnings);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn only_masks_of_ours_float() {
    // mask in the XML, floats
    for (pin, floats) in [("0-7", true), ("0-3", true), ("4-5", false)] {
        let text = format!(
            "<domain type='kvm'><name>g</name><memory>1024</memory><vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='{pin}'/></cputune></domain>"
        );
        let mut guest = GuestXml::parse(&text).unwrap();
        let mut record = Pinned::new(UUID, "g", 1);
        narrowed(&mut record);
        record.mark(&mut guest);
        let held = guest_xml::masks(&guest, None).holding(true);
        assert_eq!(held.is_empty(), floats, "{pin}");
    }
}
