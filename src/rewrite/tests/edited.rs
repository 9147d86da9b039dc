//! Revert after other programs or people changed the text: an administrator, libvirt, or a broken
//! tool.

use crate::rewrite::tests::samples::{all_settings, cpus, domain, fixture, head, pin, setting, topology};
use crate::rewrite::{Head, apply, in_force, provenance, revert};
use crate::types::ids::{IothreadId, KiB, VcpuId};
use crate::types::setting::{DiskAttribute, Setting, Target, Value};
use crate::xml::{Document, Element};

fn settings() -> Vec<Setting> {
    vec![
        pin(0, "1"),
        pin(1, "17"),
        setting(Target::EmulatorPin, cpus("0")),
        setting(Target::Hugepages, Value::PageSize(KiB(2048))),
        setting(Target::CpuMode, Value::CpuMode("host-passthrough")),
        setting(Target::Topology, topology(2, 2)),
        setting(
            Target::Disk("vda".into(), DiskAttribute::Cache),
            Value::Text("none".into()),
        ),
    ]
}

/// Returns the record that virtfit left in the metadata.
fn note_of<'d>(document: &'d Document<'_>) -> Element<'d> {
    let metadata = document.root().child("metadata").unwrap();
    metadata.child("virtfit:fit").unwrap()
}

fn tuned(text: &str) -> String {
    apply(&Document::parse(text).unwrap(), &settings(), &head()).unwrap()
}

fn edit(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "'{from}' in {text}");
    text.replace(from, to)
}

#[test]
fn what_an_administrator_did_stays() {
    let original = fixture("web");
    let tuned = tuned(&original);
    let cputune = |inside: &str| format!("<vcpu>4</vcpu>\n  <cputune>\n    {inside}\n  </cputune>");
    // name, text that is edited, its replacement, expected text, setting that is left
    let cases: &[(&str, &str, &str, String, Option<Target>)] = &[
        (
            "a pin changed",
            "<vcpupin vcpu='1' cpuset='17'/>",
            "<vcpupin vcpu='1' cpuset='18'/>",
            edit(
                &original,
                "<vcpu>4</vcpu>",
                &cputune("<vcpupin vcpu='1' cpuset='18'/>"),
            ),
            Some(Target::VcpuPin(VcpuId(1))),
        ),
        (
            "a pin taken out",
            "\n    <vcpupin vcpu='1' cpuset='17'/>",
            "",
            original.clone(),
            Some(Target::VcpuPin(VcpuId(1))),
        ),
        (
            "another pin added",
            "<emulatorpin",
            "<vcpupin vcpu='3' cpuset='9'/>\n    <emulatorpin",
            edit(
                &original,
                "<vcpu>4</vcpu>",
                &cputune("<vcpupin vcpu='3' cpuset='9'/>"),
            ),
            None,
        ),
        (
            "a comment added",
            "<emulatorpin",
            "<!-- mind the gap -->\n    <emulatorpin",
            edit(&original, "<vcpu>4</vcpu>", &cputune("<!-- mind the gap -->")),
            None,
        ),
        (
            "another way to write the same",
            "<vcpupin vcpu='1' cpuset='17'/>",
            "<vcpupin cpuset = \"17,\" vcpu=\"1\" ></vcpupin>",
            original.clone(),
            None,
        ),
        (
            "another disk attribute",
            "cache='none'/>",
            "cache='none' discard='unmap'/>",
            edit(
                &original,
                "<source file=",
                "<driver name='qemu' type='raw' discard='unmap'/>\n      <source file=",
            ),
            None,
        ),
        (
            "a disk attribute changed",
            "cache='none'/>",
            "cache='unsafe'/>",
            edit(
                &original,
                "<source file=",
                "<driver name='qemu' type='raw' cache='unsafe'/>\n      <source file=",
            ),
            Some(Target::Disk("vda".into(), DiskAttribute::Cache)),
        ),
        (
            "the CPU mode changed",
            "<cpu mode='host-passthrough' check='none'>",
            "<cpu mode='maximum'>",
            edit(
                &original,
                "  <clock",
                "  <cpu mode='maximum'>\n  </cpu>\n  <clock",
            ),
            Some(Target::CpuMode),
        ),
        (
            "a note of another program",
            "</virtfit:fit>",
            "</virtfit:fit>\n    <a:b xmlns:a='urn:a'/>",
            edit(
                &original,
                "  <memory unit",
                "  <metadata>\n    <a:b xmlns:a='urn:a'/>\n  </metadata>\n  <memory unit",
            ),
            None,
        ),
    ];
    for (case, from, to, expected, left) in cases {
        let edited = edit(&tuned, from, to);
        let document = Document::parse(&edited).unwrap();
        let reverted = revert(&document).unwrap();
        assert_eq!(reverted.xml, *expected, "{case}");
        let targets: Vec<&Target> = reverted.left.iter().map(|(target, _)| target).collect();
        assert_eq!(targets, left.iter().collect::<Vec<_>>(), "{case}");
        let provenance = provenance(&document).unwrap().unwrap();
        let force = in_force(&document, &provenance, &settings(), &head()).unwrap();
        assert_eq!(force, left.is_none(), "{case}");
    }
}

/// Settings of virtfit's that an administrator's additions need stay in the domain.
#[test]
fn what_was_set_by_hand_since_keeps_what_it_needs() {
    let original = "<domain type='kvm'>
  <name>g</name>
  <memory unit='GiB'>4</memory>
  <vcpu>4</vcpu>
  <os>
    <type>hvm</type>
  </os>
  <devices>
    <disk type='block'>
      <driver name='qemu'/>
      <source dev='/dev/vg/a'/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
";
    let cells = [("0-1", 2), ("2-3", 2)]
        .map(|(vcpus, gib)| (crate::types::cpulist::parse(vcpus).unwrap(), KiB(gib << 20)));
    let disk = |attribute| Target::Disk("vda".into(), attribute);
    let settings = [
        setting(Target::Iothreads, Value::Number(2)),
        setting(Target::IothreadPin(IothreadId(1)), cpus("0")),
        setting(disk(DiskAttribute::Iothread), Value::Text("1".into())),
        setting(disk(DiskAttribute::Cache), Value::Text("none".into())),
        setting(disk(DiskAttribute::Io), Value::Text("threads".into())),
        setting(Target::CpuMode, Value::CpuMode("host-passthrough")),
        setting(
            Target::CpuFeature("topoext".into()),
            Value::Text("require".into()),
        ),
        setting(Target::Cells, Value::Cells(cells.to_vec(), Vec::new())),
    ];
    let tuned = apply(&Document::parse(original).unwrap(), &settings, &head()).unwrap();
    assert_eq!(revert(&Document::parse(&tuned).unwrap()).unwrap().xml, original);
    let second =
        "<disk type='block'><driver name='qemu' iothread='2'/><target dev='vdb' bus='virtio'/></disk>\n  ";
    let stored = tuned.replace("version='1'", "version=\"1\"");
    // text, an edit of it, text that the revert leaves, settings that stay
    let rows: &[(&str, &str, &str, &[Target])] = &[
        (
            &tuned,
            "cpuset='0'",
            "cpuset='0-1'",
            &[Target::IothreadPin(IothreadId(1)), Target::Iothreads],
        ),
        (
            &tuned,
            "iothread='1'/>\n",
            "iothread='2'/>\n",
            &[disk(DiskAttribute::Iothread), Target::Iothreads],
        ),
        (
            &stored,
            "</devices>",
            &format!("{second}</devices>"),
            &[Target::Iothreads],
        ),
        (
            &tuned,
            "io='threads'",
            "io='native'",
            &[disk(DiskAttribute::Io), disk(DiskAttribute::Cache)],
        ),
        (
            &tuned,
            "<feature policy='require'",
            "<feature policy='disable'",
            &[Target::CpuFeature("topoext".into()), Target::CpuMode],
        ),
        (
            &stored,
            "  <memory unit",
            "  <maxMemory slots='2' unit='GiB'>16</maxMemory>\n  <memory unit",
            &[Target::Cells],
        ),
        (
            &stored,
            "  <os>",
            "  <numatune>\n    <memnode cellid='1' mode='strict' nodeset='0'/>\n  </numatune>\n  <os>",
            &[Target::Cells],
        ),
        (
            &stored,
            "<devices>",
            "<devices>\n    <memory model='dimm'><target><size>1</size><node>1</node></target></memory>",
            &[Target::Cells],
        ),
        (
            &stored,
            "  <os>",
            "  <memoryBacking>\n    <hugepages>\n      <page size='2048' nodeset='1'/>\n    </hugepages>\n  \
             </memoryBacking>\n  <os>",
            &[Target::Cells],
        ),
        (&stored, "<os>", "<os >", &[]),
    ];
    for (text, from, to, stay) in rows {
        let edited = text.replacen(from, to, 1);
        assert_ne!(&edited, text, "'{from}' is not there");
        let document = Document::parse(&edited).unwrap();
        let reverted = revert(&document).unwrap();
        let left: Vec<Target> = reverted.left.into_iter().map(|(target, _)| target).collect();
        assert_eq!(&left, stay, "{to}:\n{}", reverted.xml);
        domain(&reverted.xml);
    }
}

#[test]
fn an_attribute_of_an_unknown_mode_comes_back() {
    let original = "<domain type='kvm'><name>a</name><memory>1</memory><vcpu>1</vcpu>\
                    <cpu mode='unknown' check='none' migratable='off'/></domain>";
    let settings = [setting(Target::CpuMode, Value::CpuMode("host-passthrough"))];
    let tuned = apply(&Document::parse(original).unwrap(), &settings, &head()).unwrap();
    assert_eq!(revert(&Document::parse(&tuned).unwrap()).unwrap().xml, original);
}

#[test]
fn why_a_setting_stays() {
    let text = edit(&tuned(&fixture("web")), "cpuset='17'", "cpuset='5'");
    let reverted = revert(&Document::parse(&text).unwrap()).unwrap();
    assert_eq!(
        reverted.left[0].1,
        "changed by hand since: 5 where virtfit wrote 17"
    );
}

#[test]
fn the_same_targets_and_head_are_needed_to_be_in_force() {
    let text = tuned(&fixture("web"));
    let document = Document::parse(&text).unwrap();
    let provenance = provenance(&document).unwrap().unwrap();
    let force = |settings: &[Setting], head: &Head| in_force(&document, &provenance, settings, head).unwrap();
    assert!(force(&settings(), &head()));
    let mut shuffled = settings();
    shuffled.reverse();
    assert!(force(&shuffled, &head()));
    assert!(!force(&settings()[1..], &head()));
    let mut more = settings();
    more.push(pin(2, "2"));
    assert!(!force(&more, &head()));
    let mut other = settings();
    other[0] = pin(0, "2");
    assert!(!force(&other, &head()));
    let mut replaced = settings();
    replaced[0] = pin(3, "1");
    assert!(!force(&replaced, &head()));
    let mut policy = head();
    policy.policy_digest.push('x');
    assert!(!force(&settings(), &policy));
}

/// Tuned definition as libvirt 9.0.0 stores it: other quotes, order and indentation, defaults
/// written out.
const STORED: &str = "<domain type='kvm'>
  <name>s</name>
  <uuid>7a3c1f62-5d1e-4c53-9a0b-2f6d8f0f1a11</uuid>
  <metadata>
PROVENANCE
  </metadata>
  <memory unit='KiB'>1048576</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <iothreads>2</iothreads>
  <iothreadids>
    <iothread id='4'/>
    <iothread id='1'/>
  </iothreadids>
  <cputune>
    <vcpupin vcpu='0' cpuset='1'/>
    <iothreadpin iothread='4' cpuset='0'/>
    <vcpusched vcpus='0' scheduler='fifo' priority='1'/>
    <vcpusched vcpus='1' scheduler='fifo' priority='1'/>
  </cputune>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
  </os>
  <cpu mode='host-passthrough' check='none' migratable='on'>
    <topology sockets='1' dies='1' clusters='1' cores='2' threads='1'/>
    <numa>
      <cell id='0' cpus='0-1' memory='1024' unit='KiB'/>
    </numa>
  </cpu>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source file='/a'/>
      <target dev='vda' bus='virtio'/>
      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
    </disk>
    <memballoon model='none'/>
  </devices>
</domain>
";

/// Writes an element as libxml2 does: values in double quotes.
fn double_quoted(element: &Element<'_>) -> String {
    let mut out = format!("<{}", element.name());
    for (name, value) in element.raw_attrs() {
        out.push_str(&format!(" {name}=\"{}\"", value.replace('"', "&quot;")));
    }
    out.push('>');
    for child in element.children() {
        out.push_str(&double_quoted(&child));
    }
    format!("{out}</{}>", element.name())
}

#[test]
fn after_libvirt_stored_it() {
    let original = "<domain type='kvm'><name>s</name><memory unit='GiB'>1</memory>
  <iothreadids><iothread id='4'/></iothreadids>
  <vcpu>2</vcpu>
  <memoryBacking><locked/></memoryBacking>
  <os><type>hvm</type></os>
  <cpu match='exact'>
    <!-- which one -->
    <model>EPYC</model><vendor>AMD</vendor>
  </cpu>
  <devices>
    <disk type='file'><source file='/a'/><target dev='vda'/></disk>
    <memballoon model='virtio'><stats period='3'/><address type='pci' bus='0x02' slot='0'/></memballoon>
  </devices>
</domain>";
    let sched = Value::Sched {
        vcpus: crate::types::idset::VcpuSet::first_n(2),
        scheduler: "fifo",
        priority: 1,
    };
    let cells = Value::Cells(
        vec![(crate::types::idset::VcpuSet::first_n(2), KiB(1000))],
        Vec::new(),
    );
    let settings = [
        pin(0, "1"),
        setting(Target::Iothreads, Value::Number(2)),
        setting(Target::IothreadPin(IothreadId(4)), cpus("0")),
        setting(Target::VcpuSched, sched),
        setting(Target::Locked, Value::Absent),
        setting(Target::CpuMode, Value::CpuMode("host-passthrough")),
        setting(Target::Topology, topology(2, 1)),
        setting(Target::Cells, cells),
        setting(Target::Memballoon, Value::Text("none".into())),
        setting(
            Target::Disk("vda".into(), DiskAttribute::Cache),
            Value::Text("none".into()),
        ),
    ];
    let tuned = apply(&Document::parse(original).unwrap(), &settings, &head()).unwrap();
    let document = Document::parse(&tuned).unwrap();
    let note = note_of(&document);
    let note = double_quoted(&note);
    let stored = STORED.replace("PROVENANCE", &note);
    let document = Document::parse(&stored).unwrap();
    let provenance = provenance(&document).unwrap().unwrap();
    assert!(in_force(&document, &provenance, &settings, &head()).unwrap());
    let reverted = revert(&document).unwrap();
    assert_eq!(reverted.left, []);
    let expected = "<domain type='kvm'>
  <name>s</name>
  <uuid>7a3c1f62-5d1e-4c53-9a0b-2f6d8f0f1a11</uuid>
  <memory unit='KiB'>1048576</memory>
  <currentMemory unit='KiB'>1048576</currentMemory>
  <memoryBacking>
    <locked/>
  </memoryBacking>
  <vcpu placement='static'>2</vcpu>
  <iothreadids>
    <iothread id='4'/>
  </iothreadids>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
  </os>
  <cpu match=\"exact\">
    <model>EPYC</model><vendor>AMD</vendor>
  </cpu>
  <devices>
    <disk type='file' device='disk'>
      <source file='/a'/>
      <target dev='vda' bus='virtio'/>
      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
    </disk>
    <memballoon model='virtio'><stats period='3'/></memballoon>
  </devices>
</domain>
";
    assert_eq!(
        reverted.xml.replace(" match='exact'", " match=\"exact\""),
        expected
    );
}

#[test]
fn provenance_that_cannot_be_read_says_what_to_do() {
    let text = tuned(&fixture("web"));
    // text that is edited, its replacement, a piece of the error
    let cases: &[(&str, &str, &str)] = &[
        ("version='1'", "version='2'", "another version of virtfit"),
        (
            "https://virtfit.dev/ns/domain/1",
            "https://virtfit.dev/ns/domain/2",
            "another version of virtfit",
        ),
        (
            "at='vcpupin/0'",
            "at='vcpupin/x'",
            "at='vcpupin/x' names nothing known",
        ),
        (
            "at='vcpupin/0'",
            "at='vcpupin/1'",
            "at='vcpupin/1' is there twice",
        ),
        ("at='vcpupin/0'", "", "at= is missing"),
        ("wrote='17'", "wrote='a'", "wrote= cannot be read"),
        ("on-no-fit='refuse'", "", "on-no-fit= is missing"),
        (
            "uuid='8c1f6f0e-0000-4000-8000-00000000000a'",
            "uuid='8c1f6f0e'",
            "uuid= cannot be read",
        ),
        ("threads='2'", "threads='-2'", "threads= cannot be read"),
        (
            "topology='sockets=1",
            "topology='sockets=0",
            "topology= cannot be read",
        ),
        ("withheld='5,21'", "withheld='5-'", "withheld= cannot be read"),
        ("</virtfit:fit>", "<x/></virtfit:fit>", "at= is missing"),
        (
            "</virtfit:fit>",
            "<x at='1'/></virtfit:fit>",
            "<x> is nothing known",
        ),
        (
            "<virtfit:was attr='cache'/>",
            "<virtfit:was attr='cache' pos='1'/>",
            "it cannot be read",
        ),
        (
            "<virtfit:was attr='cache'/>",
            "<virtfit:was attr='file' raw='/etc/shadow'/>",
            "its bytes are none that virtfit recorded",
        ),
        (
            "<virtfit:was attr='cache'/>",
            "<virtfit:was attr='cache' raw='&quot;/>&lt;a/>'/>",
            "its bytes are none that virtfit recorded",
        ),
        (
            "<virtfit:was attr='cache'/>",
            "<virtfit:was raw='&lt;driver/>'/>",
            "its bytes are none that virtfit recorded",
        ),
    ];
    for (from, to, expected) in cases {
        let edited = text.replace(from, to);
        assert_ne!(edited, text, "{from}");
        let document = Document::parse(&edited).unwrap();
        let error = provenance(&document).unwrap_err();
        assert!(error.problem.contains(expected), "'{error}' for {to}");
        assert!(revert(&document).is_err());
    }
    let note = Document::parse(&text).unwrap();
    let note = note_of(&note).raw().to_string();
    let twice = text.replace(&note, &format!("{note}{note}"));
    let error = provenance(&Document::parse(&twice).unwrap()).unwrap_err();
    assert!(error.problem.contains("there twice"), "{error}");
}

#[test]
fn revert_never_breaks_a_text() {
    // Whatever is cut out of a tuned text: if the rest is XML and readable, its revert is XML, too.
    let original = fixture("everything-crlf");
    let settings = all_settings(&domain(&original), || 1);
    let text = apply(&Document::parse(&original).unwrap(), &settings, &head()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut tried = 0;
    for from in 0..lines.len() {
        for count in [1, 2, 3, 5] {
            let mut rest = lines.clone();
            rest.drain(from..(from + count).min(lines.len()));
            let edited = rest.join("\n");
            let Ok(document) = Document::parse(&edited) else {
                continue;
            };
            let Ok(reverted) = revert(&document) else {
                continue;
            };
            tried += 1;
            if let Err(error) = Document::parse(&reverted.xml) {
                panic!("without lines {from}+{count}: {error}\n{}", reverted.xml);
            }
        }
    }
    assert!(tried > 100, "{tried}");
}
