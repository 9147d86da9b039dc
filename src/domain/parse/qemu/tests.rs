use super::*;
use crate::domain::parse::from_text;

fn domain(inner: &str) -> Domain {
    let text = format!(
        "<domain type='kvm' xmlns:q='{NAMESPACE}'><name>g</name><memory>1</memory><vcpu>16</vcpu>{inner}</domain>"
    );
    from_text(&text).unwrap()
}

fn with(args: &[&str]) -> Domain {
    let args: String = args
        .iter()
        .map(|arg| format!("<q:arg value=\"{}\"/>", arg.replace('"', "&quot;")))
        .collect();
    domain(&format!("<q:commandline>{args}</q:commandline>"))
}

#[test]
fn each_option_rules_what_it_names() {
    use Ruled::*;
    let feature = |name: &str| CpuFeature(name.into());
    let one = |id: &str, key: &str| Device(id.into(), key.into());
    /// Arguments, and what each of them rules with the words shown.
    type Row<'a> = (&'a [&'a str], &'a [(Ruled, &'a str)]);
    let rows: &[Row] = &[
        (&["-smp", "16,cores=16"], &[(Topology, "-smp")]),
        (&["--smp", "16"], &[(Topology, "-smp")]),
        (
            &["-machine", "q35,smp.cores=8,smp.sockets=2"],
            &[(Topology, "-machine")],
        ),
        (&["-cpu", "host,+invtsc"], &[(CpuModel, "-cpu")]),
        (
            &["-global", "host-x86_64-cpu.pmu=off"],
            &[(feature("pmu"), "-global")],
        ),
        (
            &["-global", "driver=cfi.pflash01,property=secure,value=on"],
            &[(Driver("cfi.pflash01".into(), "secure".into()), "-global")],
        ),
        (&["-numa", "node,cpus=0-7"], &[(Cells, "-numa")]),
        (
            &[
                "-numa",
                "node,memdev=a",
                "-object",
                "memory-backend-file,id=a,size=1G",
            ],
            &[(Cells, "-numa"), (Memory, "-numa")],
        ),
        (&["-m", "4G"], &[(Memory, "-m")]),
        (&["-m", "slots=4,maxmem=64G"], &[]),
        (&["-m", "size=4G"], &[(Memory, "-m")]),
        (&["-mem-path", "/dev/hugepages"], &[(Memory, "-mem-path")]),
        (&["-mem-prealloc"], &[]),
        (&["-machine", "memory-backend=a"], &[(Memory, "-machine")]),
        (&["-M", "mem-merge=off"], &[(Merging, "-M")]),
        (&["-machine", "q35,kernel_irqchip=on"], &[]),
        (
            &["-object", "memory-backend-ram,id=a,size=1G"],
            &[(Memory, "-object")],
        ),
        (
            &[
                "-object",
                "{\"qom-type\":\"memory-backend-memfd\",\"id\":\"a\",\"size\":1024}",
            ],
            &[(Memory, "-object")],
        ),
        (&["-object", "rng-random,id=a"], &[]),
        // Looking Glass: the backend of a device that is not the guest's memory.
        (
            &[
                "-object",
                "memory-backend-file,id=lg,mem-path=/dev/kvmfr0,size=64M,share=on",
                "-device",
                "ivshmem-plain,memdev=lg",
            ],
            &[],
        ),
        (
            &[
                "-device",
                "{\"driver\":\"ivshmem-plain\",\"memdev\":\"lg\"}",
                "-object",
                "{\"qom-type\":\"memory-backend-file\",\"id\":\"lg\"}",
            ],
            &[],
        ),
        (
            &[
                "-object",
                "memory-backend-ram,id=a,size=1G",
                "-device",
                "pc-dimm,memdev=a",
            ],
            &[(Memory, "-object")],
        ),
        (
            &["-set", "device.virtio-disk0.num-queues=4"],
            &[(one("virtio-disk0", "num-queues"), "-set")],
        ),
        (
            &["-set", "drive.drive-virtio-disk0.aio=threads"],
            &[(one("virtio-disk0", "aio"), "-set")],
        ),
        (&["-overcommit", "mem-lock=off"], &[(Locked, "-overcommit")]),
        (&["-overcommit", "cpu-pm=on"], &[]),
        (&["-realtime", "mlock=on"], &[(Locked, "-realtime")]),
        (
            &["-readconfig", "/etc/qemu.cfg"],
            &[
                (Topology, "-readconfig"),
                (Cells, "-readconfig"),
                (Memory, "-readconfig"),
            ],
        ),
        // A value is no option, an option in the XML of others is none, and a last one may lack
        // its value.
        (&["-name", "-x", "-smp"], &[(Topology, "-smp")]),
        (&["-append", "-smp 4"], &[]),
    ];
    for (args, expected) in rows {
        let ruled = with(args).qemu.ruled;
        let expected = expected.iter().cloned().collect();
        assert_eq!(ruled, expected, "{args:?}");
    }
    let other = "<x:commandline xmlns:x='urn:x'><x:arg value='-smp'/></x:commandline>";
    assert!(domain(other).qemu.ruled.is_empty());
    let overridden = "<q:override><q:device alias='ua-a'><q:frontend><q:property name='iothread' type='string' \
                          value='b'/></q:frontend></q:device></q:override>";
    let options = domain(overridden).qemu;
    assert_eq!(
        options.rules_device("ua-a", "virtio-blk", "iothread"),
        Some("qemu:override")
    );
    assert_eq!(options.rules_device("ua-b", "virtio-blk", "iothread"), None);
    let all = with(&["-global", "virtio-blk-pci.num_queues=2"]).qemu;
    assert_eq!(
        all.rules_device("virtio-disk0", "virtio-blk", "num-queues"),
        Some("-global")
    );
}

#[test]
fn a_topology_is_what_qemu_merges() {
    let shown = |args: &[&str], cpu: &str| {
        let args: String = args.iter().map(|arg| format!("<q:arg value='{arg}'/>")).collect();
        let domain = domain(&format!("{cpu}<q:commandline>{args}</q:commandline>"));
        let topology = domain
            .qemu
            .topology
            .map(|it| [it.sockets, it.dies, it.clusters, it.cores, it.threads]);
        assert!(domain.qemu.rules(&Ruled::Topology).is_some());
        topology
    };
    let cpu = "<cpu><topology sockets='2' cores='4' threads='2'/></cpu>";
    for (args, cpu, expected) in [
        (
            &["-smp", "16,sockets=1,cores=8,threads=2"][..],
            "",
            Some([1, 1, 1, 8, 2]),
        ),
        (&["-smp", "16"], "", Some([16, 1, 1, 1, 1])),
        (&["-smp", "16"], cpu, Some([2, 1, 1, 4, 2])),
        (&["-smp", "dies=2,cores=2"], cpu, Some([2, 2, 1, 2, 2])),
        (
            &["-smp", "cores=8,sockets=1", "-smp", "threads=2"],
            "",
            Some([1, 1, 1, 8, 2]),
        ),
        (&["-smp", "cores=eight"], cpu, None),
        (&["-smp", "cores=0", "-smp", "cores=8"], cpu, None),
        (&["-readconfig", "f", "-smp", "16,cores=16"], cpu, None),
        (&["-smp", "16", "-readconfig", "f"], cpu, None),
    ] {
        assert_eq!(shown(args, cpu), expected, "{args:?}");
    }
}

#[test]
fn cells_and_devices() {
    let cells = with(&[
        "-numa",
        "node,cpus=0-3,cpus=8-11",
        "-numa",
        "node,nodeid=1,cpus=4-7",
        "-numa",
        "dist,src=0,dst=1,val=21",
    ]);
    let cells: Vec<String> = cells.qemu.cells.iter().map(VcpuSet::to_string).collect();
    assert_eq!(cells, ["0-3,8-11", "4-7"]);
    for (value, expected) in [
        ("vfio-pci,host=3b:00.0", Some("0000:3b:00.0")),
        ("vfio-pci,host=0001:3b:1f.7,x-vga=on", Some("0001:3b:1f.7")),
        (
            "{\"driver\":\"vfio-pci\",\"host\":\"0000:0a:00.1\"}",
            Some("0000:0a:00.1"),
        ),
        ("vfio-pci,host=3b:00", None),
        ("vfio-pci,sysfsdev=/sys/x", None),
        ("e1000,addr=3b:00.0", None),
    ] {
        let got = with(&["-device", value]).passthrough;
        let expected: Vec<Passthrough> = expected
            .map(|it| Passthrough::Pci(it.into()))
            .into_iter()
            .collect();
        assert_eq!(got, expected, "{value}");
    }
    assert!(with(&["-device", "vfio-user-pci,socket=/run/s"]).vhost_user);
    assert!(!with(&["-device", "vfio-pci,host=3b:00.0"]).vhost_user);
}
