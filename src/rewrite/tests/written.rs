//! Output of the rewriter, to the byte.

use crate::domain::Topology;
use crate::policy::profile::OnNoFit;
use crate::rewrite::tests::samples::{cpus, domain, fixture, head, pin, setting, topology};
use crate::rewrite::{Head, Shape, apply, changes, path, provenance, revert, show};
use crate::types::ids::{CellId, KiB, NodeId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};
use crate::types::reason::Basis;
use crate::types::setting::{DiskAttribute, Setting, Target, Value};
use crate::xml::Document;

fn plain_head() -> Head {
    Head {
        uuid: None,
        profile: "fit".into(),
        policy_digest: "d1".into(),
        shape: Shape::default(),
        withheld: CpuSet::new(),
        on_no_fit: OnNoFit::RunShared,
    }
}

fn tuned(text: &str, settings: &[Setting]) -> String {
    apply(&Document::parse(text).unwrap(), settings, &plain_head()).unwrap()
}

/// Returns the tuned text without the metadata.
fn body(text: &str, settings: &[Setting]) -> String {
    let tuned = tuned(text, settings);
    let document = Document::parse(&tuned).unwrap();
    let span = document.root().child("metadata").unwrap().span();
    let start = tuned[..span.start].trim_end().len();
    format!("{}{}", &tuned[..start], &tuned[span.end..])
}

#[test]
fn a_guest_without_tuning() {
    let numa = Value::Numa {
        mode: "strict",
        nodes: NodeSet::one(NodeId(0)),
    };
    let sched = Value::Sched {
        vcpus: VcpuSet::first_n(2),
        scheduler: "rr",
        priority: 9,
    };
    let settings = [
        setting(Target::Topology, topology(2, 2)),
        setting(Target::CpuMode, Value::CpuMode("host-passthrough")),
        pin(1, "3"),
        pin(0, "1"),
        setting(Target::EmulatorPin, cpus("0,16")),
        setting(Target::VcpuSched, sched),
        setting(Target::Iothreads, Value::Number(1)),
        setting(Target::Hugepages, Value::PageSize(KiB(2048))),
        setting(Target::NumaMemory, numa),
        setting(Target::HintDedicated, Value::Text("on".into())),
        setting(Target::Pmu, Value::Text("off".into())),
        setting(Target::Memballoon, Value::Text("none".into())),
        setting(
            Target::Disk("vda".into(), DiskAttribute::Cache),
            Value::Text("none".into()),
        ),
    ];
    let expected = "<domain type='kvm'>
  <name>web</name>
  <uuid>7a3c1f62-5d1e-4c53-9a0b-2f6d8f0f1a11</uuid>
  <metadata>
    <virtfit:fit xmlns:virtfit='https://virtfit.dev/ns/domain/1' version='1' profile='fit' policy='d1' on-no-fit='run-shared' threads='0'>
      <virtfit:container at='metadata'/>
      <virtfit:container at='memoryBacking'/>
      <virtfit:container at='cputune'/>
      <virtfit:container at='numatune'/>
      <virtfit:container at='cpu'/>
      <virtfit:container at='kvm'/>
      <virtfit:container at='driver/disk/vda'/>
      <virtfit:set at='iothreads' wrote='1'/>
      <virtfit:set at='vcpupin/0' wrote='1'/>
      <virtfit:set at='vcpupin/1' wrote='3'/>
      <virtfit:set at='emulatorpin' wrote='0,16'/>
      <virtfit:set at='vcpusched' wrote='rr 9: 0-1'/>
      <virtfit:set at='numatune' wrote='strict 0'/>
      <virtfit:set at='hugepages' wrote='2048 KiB'/>
      <virtfit:set at='cpu' wrote='host-passthrough'/>
      <virtfit:set at='topology' wrote='sockets=1 dies=1 cores=2 threads=2'/>
      <virtfit:set at='pmu' wrote='off'/>
      <virtfit:set at='hint-dedicated' wrote='on'/>
      <virtfit:set at='memballoon' wrote='none'/>
      <virtfit:set at='disk/vda/cache' wrote='none'>
        <virtfit:was attr='cache'/>
      </virtfit:set>
    </virtfit:fit>
  </metadata>
  <memory unit='GiB'>4</memory>
  <memoryBacking>
    <hugepages>
      <page size='2048' unit='KiB'/>
    </hugepages>
  </memoryBacking>
  <vcpu>4</vcpu>
  <iothreads>1</iothreads>
  <cputune>
    <vcpupin vcpu='0' cpuset='1'/>
    <vcpupin vcpu='1' cpuset='3'/>
    <emulatorpin cpuset='0,16'/>
    <vcpusched vcpus='0-1' scheduler='rr' priority='9'/>
  </cputune>
  <numatune>
    <memory mode='strict' nodeset='0'/>
  </numatune>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features>
    <acpi/>
    <apic/>
    <kvm>
      <hint-dedicated state='on'/>
    </kvm>
    <pmu state='off'/>
  </features>
  <cpu mode='host-passthrough' check='none'>
    <topology sockets='1' dies='1' cores='2' threads='2'/>
  </cpu>
  <clock offset='utc'/>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source file='/var/lib/libvirt/images/web.img'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='network'>
      <source network='default'/>
      <model type='virtio'/>
    </interface>
    <memballoon model='none'/>
  </devices>
</domain>
";
    assert_eq!(tuned(&fixture("web"), &settings), expected);
}

#[test]
fn a_cpu_of_another_mode() {
    let settings = [
        setting(Target::CpuMode, Value::CpuMode("host-passthrough")),
        setting(Target::Topology, topology(8, 1)),
        setting(Target::VcpuCpuset, Value::Absent),
    ];
    let text = body(&fixture("stored"), &settings);
    assert!(
        text.contains("  <vcpu placement='static'>8</vcpu>\n")
            && text.contains(
                "  <cpu mode='host-passthrough' check='none'>
    <topology sockets='1' dies='1' cores='8' threads='1'/>
    <feature policy='disable' name='hle'/>
  </cpu>\n"
            ),
        "{text}"
    );
    let model = [setting(Target::CpuMode, Value::CpuMode("host-model"))];
    let text = body(&fixture("cells"), &model);
    assert!(
        text.contains("<cpu mode='host-model' check='partial'>"),
        "migratable= is not legal there: {text}"
    );
}

#[test]
fn one_line_stays_one_line() {
    let settings = [
        pin(0, "7"),
        setting(Target::CpuMode, Value::CpuMode("host-passthrough")),
    ];
    let text = body(&fixture("minimal-one-line"), &settings);
    assert_eq!(
        text,
        "<domain type='kvm'><name>tiny</name><memory>524288</memory><cputune><vcpupin vcpu='0' cpuset='7'/></cputune>\
         <os><type>hvm</type></os><cpu mode='host-passthrough' check='none'/></domain>\n"
    );
    let text = tuned(&fixture("minimal-one-line"), &settings);
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn only_the_value_changes_where_an_attribute_is_there() {
    let text = body(
        &fixture("by-hand"),
        &[
            pin(0, "9"),
            pin(1, "8"),
            setting(
                Target::Disk("vdb".into(), DiskAttribute::Io),
                Value::Text("a\"b'<&\n".into()),
            ),
        ],
    );
    assert!(
        text.contains("\t\t<vcpupin cpuset=\"9\" vcpu=\"0\"/>\n\t\t<vcpupin vcpu='1' cpuset='8'/>\n"),
        "{text}"
    );
    assert!(
        text.contains("io=\"a&quot;b&apos;&lt;&amp;&#10;\" cache=\"unsafe\" /> <!-- fast and loose -->"),
        "{text}"
    );
}

#[test]
fn a_comment_on_the_same_line_stays_with_what_it_is_about() {
    let text = body(
        &fixture("by-hand"),
        &[setting(Target::Iothreads, Value::Number(1))],
    );
    assert!(text.contains("<vcpu cpuset=\" 2 - 5 , ^3 \" current=\"2\">4</vcpu> <!-- four at most -->\n"));
    let settings = [setting(Target::Hugepages, Value::PageSize(KiB::GIB)), pin(0, "1")];
    let text = body(&fixture("everything-crlf"), &settings);
    assert!(
        text.contains("  <memoryBacking>\r\n    <hugepages>\r\n      <page size='1048576' unit='KiB'/>\r\n    </hugepages>\r\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "  <cputune>\r\n    <vcpupin vcpu='0' cpuset='1'/>\r\n    <vcpupin vcpu='1' cpuset='1'/>\r\n"
        ),
        "{text}"
    );
    assert!(
        !text.replace("\r\n", "").contains(['\r', '\n']),
        "line ends are mixed"
    );
}

#[test]
fn empty_containers_are_opened() {
    let settings = [
        pin(0, "1"),
        setting(Target::Locked, Value::Present),
        setting(Target::Topology, topology(2, 1)),
        setting(Target::ScsiIothread(1), Value::Number(1)),
    ];
    let text = body(&fixture("empty-containers"), &settings);
    for piece in [
        "    <memoryBacking>\n        <locked/>\n    </memoryBacking>\n",
        "    <cputune>\n        <vcpupin vcpu='0' cpuset='1'/>\n    </cputune>\n",
        "    <cpu\n       >\n        <topology sockets='1' dies='1' cores='2' threads='1'/>\n    </cpu>\n",
        "        <controller type='scsi' model='virtio-scsi'>\n            <driver iothread='1'/>\n        </controller>\n",
    ] {
        assert!(text.contains(piece), "{piece} is not in {text}");
    }
}

#[test]
fn cells_and_their_nodes() {
    let cells = vec![
        (VcpuSet::first_n(2), KiB(2 << 20)),
        (VcpuSet::first_n(4).difference(&VcpuSet::first_n(2)), KiB(2 << 20)),
    ];
    let cells = Value::Cells(cells, vec![vec![10, 21], vec![31, 10]]);
    let node = |n| Value::Numa {
        mode: "strict",
        nodes: NodeSet::one(NodeId(n)),
    };
    let settings = [
        setting(Target::Cells, cells),
        setting(Target::MemNode(CellId(1)), node(1)),
        setting(Target::MemNode(CellId(0)), node(0)),
    ];
    let text = body(&fixture("web"), &settings);
    assert!(text.contains(
        "  <numatune>
    <memnode cellid='0' mode='strict' nodeset='0'/>
    <memnode cellid='1' mode='strict' nodeset='1'/>
  </numatune>
"
    ));
    assert!(text.contains(
        "    <numa>
      <cell id='0' cpus='0-1' memory='2097152' unit='KiB'>
        <distances>
          <sibling id='0' value='10'/>
          <sibling id='1' value='21'/>
        </distances>
      </cell>
      <cell id='1' cpus='2-3' memory='2097152' unit='KiB'>
        <distances>
          <sibling id='0' value='31'/>
          <sibling id='1' value='10'/>
        </distances>
      </cell>
    </numa>
"
    ));
    assert_eq!(domain(&text).cells.len(), 2);
    // Distances that were changed by hand are no longer virtfit's: the cells stay.
    let before = fixture("web");
    let tuned = apply(&Document::parse(&before).unwrap(), &settings, &head()).unwrap();
    let revert = |text: &str| {
        crate::rewrite::revert(&Document::parse(text).unwrap())
            .unwrap()
            .xml
    };
    assert_eq!(revert(&tuned), before);
    let changed = tuned.replace("value='31'", "value='32'");
    assert!(revert(&changed).contains("value='32'"), "{changed}");
}

#[test]
fn refuses_what_cannot_be_written() {
    let text = fixture("web");
    let gone = Target::Disk("vdz".into(), DiskAttribute::Cache);
    let cases: &[(&str, Vec<Setting>)] = &[
        (
            "the domain has no disk with target 'vdz'",
            vec![setting(gone, Value::Text("none".into()))],
        ),
        (
            "the domain has no SCSI controller 4",
            vec![setting(Target::ScsiIothread(4), Value::Number(1))],
        ),
        (
            "two settings for /domain/cputune/vcpupin[@vcpu='0']",
            vec![pin(0, "1"), pin(0, "2")],
        ),
        (
            "a setting for /domain/cpu/topology with a value of another kind",
            vec![setting(Target::Topology, cpus("1"))],
        ),
        (
            "a setting for /domain/cpu/@mode with a value of another kind",
            vec![setting(Target::CpuMode, Value::CpuMode("custom"))],
        ),
    ];
    for (expected, settings) in cases {
        let document = Document::parse(&text).unwrap();
        let error = apply(&document, settings, &head()).unwrap_err();
        assert_eq!(error.problem, *expected);
    }
    let tuned = tuned(&text, &[pin(0, "1")]);
    let document = Document::parse(&tuned).unwrap();
    let error = apply(&document, &[], &head()).unwrap_err();
    assert!(error.problem.contains("revert it first"), "{error}");
    let cells = fixture("cells");
    let other = Value::Cells(vec![(VcpuSet::first_n(8), KiB(4 << 20))], Vec::new());
    let error = apply(
        &Document::parse(&cells).unwrap(),
        &[setting(Target::Cells, other)],
        &head(),
    );
    assert!(error.unwrap_err().problem.contains("NUMA cells already"));
}

#[test]
fn changes_are_in_document_order() {
    let before = fixture("stored");
    let settings = [
        setting(
            Target::Disk("vda".into(), DiskAttribute::Cache),
            Value::Text("none".into()),
        ),
        setting(Target::Topology, topology(4, 2)),
        setting(Target::CpuMode, Value::CpuMode("host-passthrough")),
        setting(Target::EmulatorPin, cpus("0")),
        pin(10, "1"),
        pin(2, "1"),
        setting(Target::VcpuCpuset, Value::Absent),
        setting(Target::Locked, Value::Absent),
    ];
    let after = tuned(&before, &settings);
    let before_document = Document::parse(&before).unwrap();
    let after_document = Document::parse(&after).unwrap();
    let list = changes(&before_document, &after_document, &settings, None).unwrap();
    let texts: Vec<_> = list
        .iter()
        .map(|c| (path(&c.target), show(&c.from), show(&c.to)))
        .collect();
    let shown = texts
        .iter()
        .map(|(path, from, to)| (path.as_str(), from.as_deref(), to.as_deref()));
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            ("/domain/vcpu/@cpuset", Some("0-3"), None),
            ("/domain/cputune/vcpupin[@vcpu='2']", None, Some("1")),
            ("/domain/cputune/vcpupin[@vcpu='10']", None, Some("1")),
            ("/domain/cputune/emulatorpin", None, Some("0")),
            ("/domain/cpu/@mode", Some("custom"), Some("host-passthrough")),
            (
                "/domain/cpu/topology",
                None,
                Some("sockets=1 dies=1 cores=4 threads=2")
            ),
            (
                "/domain/devices/disk[target/@dev='vda']/driver/@cache",
                Some("writeback"),
                Some("none")
            ),
        ]
    );
    let old = provenance(&after_document).unwrap().unwrap();
    let list = changes(&after_document, &before_document, &[], Some(&old)).unwrap();
    assert_eq!(list.len(), 7);
    assert!(list.iter().all(|change| change.why == Basis::NoLongerSet));
    assert_eq!(list[5].to, Value::Absent);
    let visible = |index: usize| list[index].target.is_guest_visible();
    assert!(visible(5) && !visible(1));
}

#[test]
fn clusters_go_with_the_topology() {
    let settings = [setting(Target::Topology, topology(2, 2))];
    let text = body(&fixture("everything-crlf"), &settings);
    assert!(text.contains("<topology sockets='1' dies='1' cores='2' threads='2'/>"));
    let same = Topology {
        sockets: 4,
        dies: 1,
        clusters: 1,
        cores: 1,
        threads: 1,
    };
    let text = body(
        &fixture("everything-crlf"),
        &[setting(Target::Topology, Value::Topology(same))],
    );
    assert!(
        text.contains("clusters='1'"),
        "the same value leaves the bytes: {text}"
    );
}

#[test]
fn revert_of_a_text_without_provenance_is_that_text() {
    let text = fixture("lookalikes");
    let reverted = revert(&Document::parse(&text).unwrap()).unwrap();
    assert_eq!(reverted.xml, text);
    assert_eq!(provenance(&Document::parse(&text).unwrap()).unwrap(), None);
}
