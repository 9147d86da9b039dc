use super::*;
use crate::domain::{Passthrough, Topology};
use crate::types::ids::{CellId, IothreadId, VcpuId};

fn fixture(name: &str) -> Domain {
    let path = format!("{}/fixtures/domains/{name}.xml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let document = Document::parse(&text).unwrap();
    parse(&document).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Reads a domain of 4 vCPUs with this XML in it.
fn with(inside: &str) -> Result<Domain, XmlError> {
    let text = format!("<domain type='kvm'>\n<name>t</name><memory>1048576</memory>\n{inside}\n</domain>");
    parse(&Document::parse(&text).unwrap())
}

#[test]
fn a_stored_definition() {
    let domain = fixture("stored");
    assert_eq!(domain.name, "stored");
    assert_eq!(domain.uuid, "0b0f2d9e-6a0c-4cf5-9a55-0c3a5b3b8c01");
    assert_eq!(domain.os_id, "http://debian.org/debian/12");
    assert_eq!(
        (domain.arch.as_str(), domain.machine.as_str()),
        ("x86_64", "pc-q35-7.2")
    );
    assert_eq!((domain.memory, domain.vcpus), (KiB(8 << 20), 8));
    assert_eq!(domain.vcpu_cpuset.unwrap().to_string(), "0-3");
    let cpu = domain.cpu.unwrap();
    assert_eq!(
        (cpu.mode.as_str(), cpu.model.as_deref()),
        ("custom", Some("Skylake-Server"))
    );
    assert_eq!(cpu.features["hle"], "disable");
    assert_eq!(domain.memballoon.as_deref(), Some("virtio"));
    let disks: Vec<(&str, &str, &str, bool)> = domain
        .disks
        .iter()
        .map(|d| (d.target.as_str(), d.bus.as_str(), d.device.as_str(), d.shareable))
        .collect();
    assert_eq!(
        disks,
        [("vda", "virtio", "disk", false), ("sda", "sata", "cdrom", true)]
    );
    assert_eq!(domain.disks[0].source.as_deref(), Some("/dev/vg0/stored"));
    assert_eq!(domain.disks[0].discard.as_deref(), Some("unmap"));
    assert!(!domain.running && !domain.memory_hotplug && !domain.vhost_user);
}

#[test]
fn a_definition_by_hand() {
    let domain = fixture("by-hand");
    assert_eq!(domain.uuid, "c0ffee00-0000-4000-8000-00000000beef");
    assert_eq!(domain.title, "Tabs, double quotes and no order");
    assert_eq!(domain.memory, KiB(3000 * 1024));
    assert_eq!(domain.vcpu_cpuset.unwrap().to_string(), "2,4-5");
    assert_eq!(domain.vcpupins[&VcpuId(0)].to_string(), "2");
    assert_eq!(domain.emulatorpin.unwrap().to_string(), "4-5");
    assert_eq!(domain.iothreads, Some(3));
    assert_eq!(domain.vcpuscheds.len(), 2);
    assert_eq!(domain.vcpuscheds[0].priority, Some(5));
    assert_eq!(domain.numatune.unwrap().mode, "interleave");
    assert_eq!(domain.hugepages.unwrap().pages, [(KiB::GIB, None)]);
    assert!(domain.locked);
    let disk = &domain.disks[0];
    assert_eq!(disk.source.as_deref(), Some("/srv/a & b/vm's.qcow2"));
    assert_eq!(disk.io.as_deref(), Some("threads"));
    let topology = Topology {
        sockets: 1,
        dies: 1,
        clusters: 1,
        cores: 2,
        threads: 2,
    };
    assert_eq!(domain.cpu.unwrap().topology, Some(topology));
}

#[test]
fn cells_replace_memory_and_take_stray_vcpus() {
    let domain = fixture("cells");
    assert_eq!(domain.memory, KiB(4 << 20));
    let cells: Vec<(CellId, String)> = domain.cells.iter().map(|c| (c.id, c.vcpus.to_string())).collect();
    assert_eq!(
        cells,
        [(CellId(0), "0-3,7".to_string()), (CellId(1), "4-6".to_string())]
    );
    assert_eq!(domain.iothread_ids, [IothreadId(7), IothreadId(1)]);
    assert_eq!(domain.memnodes[&CellId(1)].mode, "preferred");
}

#[test]
fn look_alikes_are_not_mistaken() {
    let domain = fixture("lookalikes");
    assert!(domain.vcpupins.is_empty());
    assert_eq!((domain.vcpus, domain.memory), (2, KiB(512 * 1024)));
    assert_eq!(domain.request.as_deref(), Some("local"));
    assert!(domain.running);
    assert_eq!(domain.disks[0].cache, None);
    assert_eq!(domain.disks[0].bus, "virtio");
}

#[test]
fn what_is_passed_through() {
    let domain = fixture("passthrough");
    let expected = [
        Passthrough::Pci("0000:af:00.0".into()),
        Passthrough::Mdev("c2177883-f1bb-47f0-914d-32a22e3a8804".into()),
        Passthrough::Pci("0000:3b:02.1".into()),
        Passthrough::Network("vf-pool".into()),
    ];
    assert_eq!(domain.passthrough, expected);
    assert!(domain.vhost_user && domain.launch_security && domain.memory_hotplug);
    assert_eq!(domain.memory_source.as_deref(), Some("memfd"));
    assert_eq!(domain.memory_access.as_deref(), Some("shared"));
}

#[test]
fn scsi_controllers_get_the_lowest_free_index() {
    let domain = fixture("scsi");
    let indices: Vec<u32> = domain.scsi_controllers.iter().map(|c| c.index).collect();
    assert_eq!(indices, [1, 0]);
    assert_eq!(domain.scsi_controllers[0].queues.as_deref(), Some("2"));
    assert_eq!(domain.disks[0].controller, Some(1));
    assert_eq!(domain.disks[1].bus, "fdc");
    assert_eq!(domain.disks[2].iothread.as_deref(), Some("1,2"));
}

#[test]
fn repeated_containers_are_read_as_one() {
    let domain = fixture("repeated-containers");
    assert_eq!(domain.vcpupins.len(), 1);
    assert!(domain.emulatorpin.is_some() && domain.locked && domain.hugepages.is_some());
    assert_eq!(domain.hint_dedicated, Some(false));
    assert_eq!(domain.disks.len(), 1);
    assert!(domain.is_tcg());
    assert_eq!(domain.memory, KiB(976_563));
}

#[test]
fn refuses_what_libvirt_refuses() {
    let cell = |cells: &str| format!("<vcpu>4</vcpu><cpu><numa>{cells}</numa></cpu>");
    let tune = |tune: &str| format!("<vcpu>4</vcpu><iothreads>1</iothreads><cputune>{tune}</cputune>");
    let cases: &[(String, &str)] = &[
        ("<name>u</name>".into(), "line 3, column 1: a second <name>"),
        ("<vcpu>0</vcpu>".into(), "line 3, column 1: <vcpu> is 0"),
        ("<vcpu>16385</vcpu>".into(), "line 3, column 1: <vcpu> is 16385"),
        (
            "<vcpu>-1</vcpu>".into(),
            "line 3, column 1: <vcpu> is '-1', not a whole number",
        ),
        ("<vcpu/>".into(), "line 3, column 1: <vcpu> is ''"),
        (
            "<vcpu>99999999999</vcpu>".into(),
            "line 3, column 1: <vcpu> is '99999999999', too large",
        ),
        (
            "<vcpu>1</vcpu>\n<vcpu>2</vcpu>".into(),
            "line 4, column 1: a second <vcpu>",
        ),
        (
            "<vcpu cpuset='x'>1</vcpu>".into(),
            "line 3, column 1: cpuset of <vcpu> 'x'",
        ),
        (
            "<vcpu placement='here'>1</vcpu>".into(),
            "line 3, column 1: placement=",
        ),
        ("<uuid>123</uuid>".into(), "line 3, column 1: <uuid> is '123'"),
        (
            tune("\n<vcpupin vcpu='0' cpuset='0'/>\n<vcpupin vcpu='0' cpuset='1'/>"),
            "line 5, column 1: a second <vcpupin> for vCPU 0",
        ),
        (
            tune("<vcpupin vcpu='0'/>"),
            "line 3, column 48: <vcpupin> has no cpuset=",
        ),
        (
            tune("<vcpupin cpuset='0'/>"),
            "line 3, column 48: <vcpupin> has no vcpu=",
        ),
        (
            tune("<vcpupin vcpu='0' cpuset='0,^0'/>"),
            "line 3, column 48: cpuset of <vcpupin> '0,^0' leaves no CPU",
        ),
        (
            tune("<emulatorpin cpuset='0'/><emulatorpin cpuset='0'/>"),
            "line 3, column 73: a second <emulatorpin>",
        ),
        (
            tune("<iothreadpin iothread='2' cpuset='0'/>"),
            "line 3, column 48: <iothreadpin> for iothread 2",
        ),
        (
            tune("<iothreadpin iothread='1' cpuset='0'/><iothreadpin iothread='1' cpuset='0'/>"),
            "line 3, column 86: a second <iothreadpin>",
        ),
        (
            tune("<vcpusched vcpus='0-4' scheduler='batch'/>"),
            "line 3, column 48: <vcpusched> names vCPU 4",
        ),
        (
            tune("<vcpusched vcpus='0' scheduler='fifo'/>"),
            "line 3, column 48: a <vcpusched> with fifo",
        ),
        (
            tune("<vcpusched scheduler='batch'/>"),
            "line 3, column 48: <vcpusched> has no vcpus=",
        ),
        (
            tune("<vcpusched vcpus='0' scheduler='batch'/><vcpusched vcpus='0' scheduler='idle'/>"),
            "line 3, column 88: two <vcpusched>",
        ),
        (
            "<iothreadids><iothread id='1'/><iothread id='1'/></iothreadids>".into(),
            "line 3, column 32: a second iothread 1",
        ),
        (
            "<numatune/><numatune/>".into(),
            "line 3, column 12: a second <numatune>",
        ),
        (
            "<numatune><memory mode='strict'/></numatune>".into(),
            "line 3, column 11: <numatune>'s <memory> needs nodeset=",
        ),
        (
            "<numatune><memory mode='lax' nodeset='0'/></numatune>".into(),
            "line 3, column 11: mode 'lax'",
        ),
        (
            "<numatune><memnode cellid='0' nodeset='0'/></numatune>".into(),
            "line 3, column 11: <memnode> in a guest without",
        ),
        (
            cell("<cell cpus='0-4' memory='1'/>"),
            "line 3, column 26: cell 0 has vCPU 4",
        ),
        (
            cell("<cell cpus='0' memory='1'/><cell cpus='0' memory='1'/>"),
            "line 3, column 53: cell 1 has a vCPU that another",
        ),
        (
            cell("<cell id='1' cpus='0' memory='1'/>"),
            "line 3, column 26: cell 1 of 1",
        ),
        (
            cell("<cell cpus='0'/>"),
            "line 3, column 26: <cell> has no memory=",
        ),
        (cell(""), "line 3, column 20: <numa> without cells"),
        (
            "<devices><disk/></devices>".into(),
            "line 3, column 10: a disk without <target dev=>",
        ),
        (
            "<devices><disk><target dev='a'/></disk><disk><target dev='a'/></disk></devices>".into(),
            "line 3, column 40: a second disk with target 'a'",
        ),
        (
            "<devices><hostdev type='pci'><source><address bus='0x100'/></source></hostdev></devices>".into(),
            "line 3, column 38: bus=0x100 is no part",
        ),
        (
            "<features><pmu state='maybe'/></features>".into(),
            "line 3, column 11: state= of <pmu> is 'maybe'",
        ),
        (
            "<memoryBacking><hugepages><page size='0'/></hugepages></memoryBacking>".into(),
            "line 3, column 27: a huge page size of 0",
        ),
    ];
    for (inside, expected) in cases {
        match with(inside) {
            Ok(_) => panic!("accepted: {inside}"),
            Err(error) => assert!(
                error.to_string().starts_with(expected),
                "'{error}' where '{expected}' should be, for {inside}"
            ),
        }
    }
    let roots: &[(&str, &str)] = &[
        ("<network/>", "line 1, column 1: this is <network>, not a domain"),
        (
            "<domain xmlns='urn:x'><name>a</name></domain>",
            "line 1, column 1: this <domain> is in a namespace",
        ),
        ("<domain/>", "line 1, column 1: the domain has no <name>"),
        (
            "<domain><name>a</name></domain>",
            "line 1, column 1: the domain has no memory",
        ),
    ];
    for (text, expected) in roots {
        let error = parse(&Document::parse(text).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "'{error}' for {text}");
    }
}

#[test]
fn tolerates_what_libvirt_tolerates() {
    let domain =
        with("<future/><vcpu foo='1'> 4\n</vcpu><cputune><vcpupin vcpu='4' cpuset='junk'/></cputune>")
            .unwrap();
    assert_eq!(domain.vcpus, 4);
    assert!(domain.vcpupins.is_empty());
    assert_eq!(with("").unwrap().vcpus, 1);
    let auto = with("<vcpu placement='auto' cpuset='junk'>2</vcpu>").unwrap();
    assert!(auto.vcpu_placement_auto && auto.vcpu_cpuset.is_none());
    let memory = "<numatune><memory placement='auto'/></numatune>";
    assert!(with(memory).unwrap().vcpu_placement_auto);
    let pinned = format!("{memory}<cputune><emulatorpin cpuset='0'/></cputune>");
    assert!(!with(&pinned).unwrap().vcpu_placement_auto);
    assert_eq!(with("<features><pmu/></features>").unwrap().pmu, Some(true));
}

#[test]
fn a_domain_inside_a_status_file() {
    let text = "<domstatus state='running'><domain type='kvm' id='3'><name>s</name><memory>4</memory></domain></domstatus>";
    let document = Document::parse(text).unwrap();
    let error = parse(&document).unwrap_err().to_string();
    assert_eq!(error, "line 1, column 1: this is <domstatus>, not a domain");
    let domain = parse_element(document.root().child("domain").unwrap()).unwrap();
    assert!(domain.running);
    assert_eq!(domain.name, "s");
}

#[test]
fn empty_vcpu_slots_are_known() {
    let list = |slots: &str| format!("<vcpu current='2'>4</vcpu><vcpus>{slots}</vcpus>");
    let off = "<vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no'/><vcpu id='2' enabled='no'/><vcpu id='9' enabled='no'/>";
    for (vcpu, empty) in [
        ("<vcpu>4</vcpu>".to_string(), ""),
        ("<vcpu current='4'>4</vcpu>".to_string(), ""),
        ("<vcpu current='1'>4</vcpu>".to_string(), "1-3"),
        ("<vcpu current='9'>4</vcpu>".to_string(), ""),
        (list(off), "1-2"),
        (list(""), ""),
    ] {
        let text = format!("<domain type='kvm'><name>g</name><memory>1</memory>{vcpu}</domain>");
        let domain = from_text(&text).unwrap();
        assert_eq!(domain.empty_slots.to_string(), empty, "{vcpu}");
    }
    let text = "<domain type='kvm'><name>g</name><memory>1</memory><vcpu current='x'>4</vcpu></domain>";
    assert!(
        from_text(text)
            .unwrap_err()
            .to_string()
            .contains("current of <vcpu>")
    );
}
