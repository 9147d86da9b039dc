//! The engine against its contract, a sentence a table: what is asked for, and what the plan must say.
#![allow(clippy::unwrap_used)]

#[path = "common/engine.rs"]
mod asked;

use asked::{Asked, guest};

/// A disk of a file that is not there, with these attributes of its driver.
fn disk(target: &str, driver: &str) -> String {
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw' {driver}/>\
         <source file='/x.raw'/><target dev='{target}' bus='virtio'/></disk>"
    )
}

/// Over a hand-written setting of each kind, `on_existing = "override"` leaves XML that libvirt takes.
#[test]
fn overridden_iothreads_leave_nothing_behind() {
    let host = Asked::on("paper");
    let two = format!("{}{}", disk("vda", "iothread='4'"), disk("vdb", "iothread='2'"));
    let pinned = "<iothreads>4</iothreads><cputune><iothreadpin iothread='3' cpuset='5'/></cputune>";
    let listed = "<iothreads>2</iothreads><iothreadids><iothread id='4'/><iothread id='2'/></iothreadids>";
    let scheduled = "<iothreads>4</iothreads><cputune>\
                     <iothreadsched iothreads='3' scheduler='fifo' priority='1'/></cputune>";
    let mapped = "<disk type='file' device='disk'><driver name='qemu' type='raw'><iothreads><iothread id='3'/>\
                  </iothreads></driver><source file='/x.raw'/><target dev='vda' bus='virtio'/></disk>";
    let table: [(&str, &str, &str, &[&str]); 7] = [
        (
            pinned,
            &two,
            "iothreads = { count = 1 }",
            &[
                "set iothreads 1",
                "set cputune/iothreadpin[@iothread='1'] 0,16",
                "set cputune/iothreadpin[@iothread='3'] nothing",
                "set devices/disk[target/@dev='vda']/driver/@iothread 1",
                "set devices/disk[target/@dev='vdb']/driver/@iothread 1",
            ],
        ),
        (
            pinned,
            &two,
            "iothreads = { count = 0 }",
            &[
                "set cputune/iothreadpin[@iothread='3'] nothing",
                "set devices/disk[target/@dev='vda']/driver/@iothread nothing",
                "set devices/disk[target/@dev='vdb']/driver/@iothread nothing",
            ],
        ),
        // libvirt takes as many as are listed, whatever the count is.
        (
            listed,
            &two,
            "iothreads = { count = 1 }",
            &["!set iothreads", "iothread 2 0,16", "iothread 4 0,16"],
        ),
        // A scheduler for an iothread that is not there is an error.
        (
            scheduled,
            &two,
            "iothreads = { count = 1 }",
            &["set iothreads 3", "iothread 3 0,16"],
        ),
        (
            "<iothreads>4</iothreads>",
            mapped,
            "iothreads = { count = 1 }",
            &["set iothreads 3", "!set devices/disk", "kept vda iothread"],
        ),
        (
            "<iothreads>4</iothreads>",
            mapped,
            "",
            &["set iothreads 3", "!set devices/disk", "kept vda iothread"],
        ),
        (
            pinned,
            &two,
            "iothreads = { count = 1, cpus = \"isolate\" }",
            &["set cputune/iothreadpin[@iothread='3'] nothing", "iothread 1 3"],
        ),
    ];
    for (number, (inner, devices, keys, wanted)) in table.iter().enumerate() {
        let xml = guest(4, 1024, inner, "", devices);
        let answer = host.decide(&format!("on_existing = \"override\"\n{keys}"), &xml);
        answer.expect(&format!("row {number}: {keys}"), wanted);
        assert_eq!(answer.reverted(), xml, "row {number}");
    }
}

/// A `vcpu@cpuset` counts for nothing under numad; under override it would come to life.
#[test]
fn an_overridden_automatic_placement_leaves_no_cpuset() {
    let xml = guest(4, 1024, "", "", "").replace("placement='static'", "placement='auto' cpuset='3-4'");
    let answer = Asked::on("paper").decide("on_existing = \"override\"", &xml);
    answer.expect(
        "auto",
        &[
            "set vcpu/@placement static",
            "set vcpu/@cpuset nothing",
            "pins 1 17 2 18",
        ],
    );
    let keep = Asked::on("paper").decide("", &xml);
    keep.expect("auto kept", &["!set vcpu", "!set cputune/vcpupin"]);
}
