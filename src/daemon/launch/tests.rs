use super::*;

const START: &str = "2026-01-01 10:00:00.000+0000: starting up libvirt version: 9.0.0, qemu version: 7.2\nLC_ALL=C \\\n\
                         /usr/bin/qemu-system-x86_64 \\\n-name guest=db \\\n-msg timestamp=on\n";
const FAILED: &str = "2026-01-01 10:00:01.000+0000: shutting down, reason=failed\n";

#[test]
fn the_last_launch_and_the_first_complaint_count() {
    let msr = "2026-01-01T10:00:00.500000Z qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\n\
                   qemu-system-x86_64: ../kvm.c:3183: kvm_buf_set_msrs: Assertion `ret' failed.\n";
    let warning = "2026-01-01 10:00:00.100+0000: Domain id=1 is tainted: high-privileges\nqemu-system-x86_64: warning: host doesn't support requested feature\nchar device redirected to /dev/pts/1\n";
    let stopped = "2026-01-01 10:00:01.000+0000: shutting down, reason=destroyed\n";
    let said = |said: &str| Some(Failure::Said(said.into()));
    for (log, want) in [
        (String::new(), None),
        (START.into(), None),
        (format!("{START}{stopped}"), None),
        (format!("{START}{FAILED}"), Some(Failure::Silent)),
        (
            format!("{START}{warning}{msr}{FAILED}"),
            said("failed to set MSR 0x10a to 0x69"),
        ),
        (format!("{START}{msr}{FAILED}{START}{stopped}"), None),
        (
            format!("{START}{stopped}{START}fork: no\n{FAILED}"),
            said("fork: no"),
        ),
        // A command of one line.
        (
            format!("x: starting up libvirt\n/usr/bin/qemu -S\n{msr}{FAILED}"),
            said("failed to set MSR 0x10a to 0x69"),
        ),
    ] {
        assert_eq!(failure(&log), want, "{log}");
    }
    let long = format!("{}: the cause", "é".repeat(500));
    assert_eq!(failure(&format!("{START}{long}\n{FAILED}")), said(&long));
    let cut = short(&long);
    assert_eq!(cut.chars().count(), LONGEST + 1);
    assert!(cut.ends_with(": the cause"), "{cut}");
    assert_eq!(short("no"), "no");
}

#[test]
fn only_changes_that_can_be_the_cause_are_suspected() {
    let all = [
        CpuMode,
        MemoryBacking,
        Topology,
        MemoryNodes,
        Iothreads,
        Devices,
        Family::Pins,
    ];
    // lines of the log, kinds that are suspected
    let rows: [(&str, &[Family]); 13] = [
        (
            "qemu-system-x86_64: -device vfio-pci,host=0000:01:00.0: vfio 0000:01:00.0: failed to open /dev/vfio/1: Device or resource busy",
            &[],
        ),
        (
            "qemu-system-x86_64: -netdev tap,fd=3: could not open /dev/vhost-net: No such file or directory",
            &[],
        ),
        (
            "qemu-system-x86_64: -vnc 127.0.0.1:0: Failed to find an available port: Address already in use",
            &[],
        ),
        (
            "qemu-system-x86_64: -blockdev {..}: Failed to get shared \"write\" lock",
            &[],
        ),
        (
            "qemu-system-x86_64: -device virtio-blk-pci,drive=x: failed to get shared lock",
            &[],
        ),
        (
            "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
            &[MemoryBacking, MemoryNodes],
        ),
        (
            "qemu-system-x86_64: -object {\"qom-type\":\"memory-backend-file\"}: unable to map",
            &[MemoryBacking, MemoryNodes, Iothreads],
        ),
        (
            "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69",
            &[CpuMode, Topology],
        ),
        (
            "qemu-system-x86_64: -smp 4,sockets=1: Invalid CPU topology",
            &[Topology],
        ),
        (
            "qemu-system-x86_64: -device {\"driver\":\"virtio-blk-pci\",\"num-queues\":999}: too many",
            &[Iothreads, Devices],
        ),
        (
            "qemu-system-x86_64: -blockdev {..}: Could not open '/x.raw': Invalid argument",
            &[Iothreads, Devices],
        ),
        ("qemu-system-x86_64: -incoming defer: no", &[]),
        // A word that is unknown: any of them.
        ("Segmentation fault", &all),
    ];
    for (line, want) in rows {
        // libvirt's line on the end comes first or last: several processes write.
        for log in [
            format!("{START}{line}\n{FAILED}"),
            format!("{START}{FAILED}{line}\n"),
        ] {
            let Some(Failure::Said(said)) = failure(&log) else {
                panic!("{log}");
            };
            assert_eq!(suspects(&said, &all), want, "{log}");
        }
    }
}

#[test]
fn what_libvirt_gives_up_is_no_failure_of_qemu() {
    for line in [
        "libvirt: error : libvirtd quit during handshake: Input/output error",
        "libvirt:  error : cannot execute binary /x/qemu: Permission denied",
        "2026-01-01T10:00:00.5Z qemu-system-x86_64: terminating on signal 15 from pid 77 (/usr/sbin/libvirtd)",
        "kvm: terminating on signal 15 from pid 77 (/usr/sbin/virtqemud)",
    ] {
        for log in [
            format!("{START}{line}\n{FAILED}"),
            format!("{START}{FAILED}{line}\n"),
        ] {
            assert_eq!(failure(&log), Some(Failure::GivenUp), "{log}");
        }
    }
}

#[test]
fn complaints_of_images_and_cpus_are_known() {
    for (said, image, cpu) in [
        ("failed to set MSR 0x10a to 0x69", false, true),
        ("-accel kvm: CPU model is not supported", false, true),
        (
            "-chardev socket,id=charua-cpu,host=kvm: Failed to connect to 'kvm:5599'",
            false,
            false,
        ),
        (
            "-blockdev …: Could not open '/x.raw': Permission denied",
            true,
            false,
        ),
        ("-device …: Failed to get \"write\" lock", true, false),
        (
            "-blockdev …: Could not open '/x.raw': Invalid argument",
            false,
            false,
        ),
        (
            "unable to map backing store for guest RAM: Cannot allocate memory",
            false,
            false,
        ),
    ] {
        assert_eq!((is_of_an_image(said), is_of_cpu(said)), (image, cpu), "{said}");
    }
}
