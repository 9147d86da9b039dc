//! Comparison of libvirt's definition with the one that was read from its file: only if they are
//! one may it be replaced, because what replaces it was made from the file.
//!
//! libvirt writes a definition into its file as it formats it, so a file that this libvirt wrote
//! says exactly what libvirt answers; anything else in it was changed by hand. A file that was
//! there when libvirt started is what libvirt loaded, though libvirt may write it differently by
//! now: an update fills in new defaults, and a value may have been spelled by hand.

use std::borrow::Cow;
use std::path::Path;

use crate::domain::{self, Domain};
use crate::host::libvirt_daemon::{self, DRIVER_PID_FILE};
use crate::hostfs::HostFs;
use crate::ledger::claims;
use crate::panics::guarded;
use crate::rewrite::{self, Provenance};
use crate::types::guest_word::guest_word;
use crate::types::printable::visible;
use crate::types::shell_word::file_word;
use crate::xml::{Document, Element};

/// Longest name of a place that is shown, in characters: it comes from the XML.
const LONGEST: usize = 200;

/// Returns the first difference between the definition in the file and the one libvirt has; `None`
/// where they are the same definition. Values are not shown, as they may be passwords.
///
/// With `loaded`, the file is the one that libvirt loaded when it started, and only values that
/// libvirt stores as it was given them are compared; otherwise everything is.
pub fn difference(file: &str, libvirt: &str, loaded: bool) -> Option<String> {
    let (file, libvirt) = (with_line_ends(file), with_line_ends(libvirt));
    let compared = guarded(|| {
        let (ours, theirs) = (Document::parse(&file).ok()?, Document::parse(&libvirt).ok()?);
        let fact = fact(&read(&ours)?, &read(&theirs)?);
        Some(match fact {
            Some(fact) => Some(fact.to_string()),
            None if loaded => None,
            None => place(&ours, &theirs),
        })
    });
    match compared {
        Ok(Some(difference)) => difference,
        _ => (file != libvirt).then(|| "one of them cannot be read".into()),
    }
}

/// Returns a document with its line ends as readers of XML take them (XML 1.0, section 2.11): a
/// carriage return is a line feed. libvirt writes one that it was given (`&#13;`) as it is, so that
/// it has a line feed once it has read its own file again.
fn with_line_ends(text: &str) -> Cow<'_, str> {
    match text.contains('\r') {
        true => text.replace("\r\n", "\n").replace('\r', "\n").into(),
        false => text.into(),
    }
}

/// Words why a definition is not replaced: its file at `path` differs in `what` from the one that
/// libvirt has at `uri`. The commands name the guest by what no shell and no virsh reads otherwise,
/// as its author chose its name and with it the path.
pub fn behind_its_back(path: &Path, domain: &Domain, uri: &str, what: &str) -> String {
    let file = file_word(&path.to_string_lossy());
    let guest = guest_word(&domain.name, &domain.uuid);
    format!(
        "its file was changed behind libvirt's back ({what} differs from the definition that {uri} has): nothing was written; \
         to take the file's: virsh define {file}; to take libvirt's: virsh dumpxml --inactive --security-info {guest} | virsh \
         define /dev/stdin"
    )
}

/// Returns whether libvirt's driver has started since the file of a definition was last written, so
/// that it has loaded that file. `false` where a time cannot be read, or the driver's pid file is
/// that of a guest named `driver`.
pub fn is_loaded(root: &HostFs, name: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    // The driver writes its pid file before it loads definitions. A definition's time of change
    // cannot be set by hand, its time of writing can.
    let started = root
        .metadata(DRIVER_PID_FILE)
        .map(|file| (file.mtime(), file.mtime_nsec()));
    let written = root
        .metadata(claims::path(name))
        .map(|file| (file.ctime(), file.ctime_nsec()));
    matches!((written, started), (Ok(written), Ok(started)) if written < started)
        && libvirt_daemon::is_of_driver(root)
}

/// Returns the first fact in which two definitions differ.
fn fact((a, ours): &Read, (b, theirs): &Read) -> Option<&'static str> {
    let disks = |domain: &Domain| -> Vec<(String, Option<String>)> {
        let disks = domain.disks.iter();
        disks
            .map(|disk| (disk.target.clone(), disk.source.clone()))
            .collect()
    };
    let rows = [
        ("the UUID", a.uuid == b.uuid),
        ("the name", a.name == b.name),
        ("the type", a.kind == b.kind),
        ("the memory", a.memory == b.memory),
        ("the number of vCPUs", a.vcpus == b.vcpus),
        (
            "a pin",
            a.vcpupins == b.vcpupins && a.emulatorpin == b.emulatorpin && a.iothreadpins == b.iothreadpins,
        ),
        ("the number of guest cells", a.cells.len() == b.cells.len()),
        ("a disk", disks(a) == disks(b)),
        ("the request", a.request == b.request),
        ("virtfit's record", ours == theirs),
    ];
    rows.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
}

/// Facts of a definition, and virtfit's record in it.
type Read = (Domain, Option<Provenance>);

fn read(document: &Document<'_>) -> Option<Read> {
    let domain = domain::parse::parse(document).ok()?;
    // A broken record is compared only as part of the text.
    Some((domain, rewrite::provenance(document).ok().flatten()))
}

/// Returns the first place at which the documents differ, as a path:
/// `devices/disk[vda]/source/@file`.
/// White space between elements, comments and the order of attributes and of controllers do not
/// count.
fn place(file: &Document<'_>, libvirt: &Document<'_>) -> Option<String> {
    let mut path = Vec::new();
    if same(&file.root(), &libvirt.root(), &mut path) {
        return None;
    }
    let path: String = path.join("/").chars().take(LONGEST).collect();
    Some(visible(&path).replace('\n', " "))
}

/// Compares two elements. Where they differ, `path` leads to the place; the root is left out of it.
fn same(a: &Element<'_>, b: &Element<'_>, path: &mut Vec<String>) -> bool {
    let (ours, theirs) = (attributes(a), attributes(b));
    if ours != theirs {
        let differs = ours.iter().find(|it| !theirs.contains(it));
        let differs = differs.or_else(|| theirs.iter().find(|it| !ours.contains(it)));
        path.extend(differs.map(|(name, _)| format!("@{name}")));
        return false;
    }
    if a.text().trim() != b.text().trim() {
        return false;
    }
    let (ours, theirs) = (children(a), children(b));
    for index in 0..ours.len().max(theirs.len()) {
        match (ours.get(index), theirs.get(index)) {
            (Some(one), Some(other)) if one.name() == other.name() => {
                path.push(label(one));
                if !same(one, other, path) {
                    return false;
                }
                path.pop();
            }
            // The one that comes first in their order is missing on the other side.
            (one, other) => {
                let missing = [one, other].into_iter().flatten().min_by_key(|it| it.name());
                path.extend(missing.map(label));
                return false;
            }
        }
    }
    true
}

/// Lists an element's attributes, sorted, entities resolved. Line ends and tabs in them are blanks:
/// libvirt writes those that it was given as they are, and reads blanks (XML 1.0, section 3.3.3).
fn attributes<'d>(element: &Element<'d>) -> Vec<(&'d str, String)> {
    let names = element.raw_attrs().map(|(name, _)| name);
    let mut all: Vec<(&str, String)> = names
        .map(|name| {
            let value = element.attr(name).unwrap_or_default();
            (name, value.replace(['\n', '\r', '\t'], " "))
        })
        .collect();
    all.sort();
    all
}

/// Lists an element's children by name, those of one name in their order. libvirt sorts the
/// controllers it adds only when it reads them again, so these are sorted here.
fn children<'d>(element: &Element<'d>) -> Vec<Element<'d>> {
    let mut all: Vec<Element<'d>> = element.children().collect();
    all.sort_by_cached_key(|child| {
        let of = |name: &str| child.attr(name).unwrap_or_default().into_owned();
        let controller = (child.name() == "controller").then(|| (of("type"), of("index")));
        (child.name(), controller)
    });
    all
}

/// Names an element by what tells it from its like.
fn label(element: &Element<'_>) -> String {
    let of = |child: &str, name: &str| Some(element.child(child)?.attr(name)?.into_owned());
    let which = match element.name() {
        "disk" => of("target", "dev"),
        "filesystem" => of("target", "dir"),
        "interface" => of("mac", "address"),
        "controller" => element
            .attr("type")
            .map(|kind| format!("{kind} {}", element.attr("index").unwrap_or_default())),
        _ => None,
    };
    match which {
        Some(which) => format!("{}[{which}]", element.name()),
        None => element.name().into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn guest(name: &str, vcpus: u32, more: &str) -> String {
        format!(
            "<domain type='kvm'><name>{name}</name><uuid>8c1f6f0e-0000-4000-8000-000000000001</uuid>\
             <memory unit='MiB'>64</memory><vcpu>{vcpus}</vcpu>{more}</domain>"
        )
    }

    #[test]
    fn what_libvirt_fills_in_after_an_update_is_no_difference() {
        let file = format!("<!-- by libvirt -->\n{}", guest("a", 2, ""));
        let filled = guest(
            "a",
            2,
            "<cpu mode='custom' check='none'/><on_crash>destroy</on_crash>",
        );
        assert_eq!(difference(&file, &filled, true), None);
        assert_eq!(difference(&file, &filled, false).as_deref(), Some("cpu"));
        for (other, what) in [
            (guest("b", 2, ""), "the name"),
            (guest("a", 3, ""), "the number of vCPUs"),
            (
                guest("a", 2, "<cputune><vcpupin vcpu='0' cpuset='1'/></cputune>"),
                "a pin",
            ),
            (guest("a", 2, "").replace("0001", "0002"), "the UUID"),
            ("<domain".to_string(), "one of them cannot be read"),
        ] {
            for loaded in [true, false] {
                assert_eq!(difference(&file, &other, loaded).as_deref(), Some(what));
            }
        }
    }

    #[test]
    fn every_change_by_hand_is_named_and_its_value_is_not() {
        let whole = guest(
            "a",
            2,
            "<os><type arch='x86_64'>hvm</type><boot dev='hd'/></os><cpu mode='host-passthrough'/>\
             <on_crash>destroy</on_crash><devices>\
             <disk type='file'><source file='/a'/><target dev='vda'/></disk>\
             <interface type='network'><mac address='52:54:00:00:00:01'/><source network='a'/></interface>\
             <graphics type='vnc' passwd='s3cret'/><controller type='usb' index='0'/></devices>",
        );
        for (from, to, what) in [
            ("<boot dev='hd'/>", "<boot dev='network'/>", "os/boot/@dev"),
            ("<boot dev='hd'/>", "", "os/boot"),
            ("mode='host-passthrough'", "mode='maximum'", "cpu/@mode"),
            (">destroy<", ">restart<", "on_crash"),
            ("<on_crash>destroy</on_crash>", "", "on_crash"),
            ("file='/a'", "file='/b'", "a disk"),
            ("type='file'", "type='block'", "devices/disk[vda]/@type"),
            (
                "network='a'",
                "network='b'",
                "devices/interface[52:54:00:00:00:01]/source/@network",
            ),
            ("passwd='s3cret'", "passwd='other'", "devices/graphics/@passwd"),
            ("passwd='s3cret'", "", "devices/graphics/@passwd"),
            (
                "<controller type='usb' index='0'/>",
                "",
                "devices/controller[usb 0]",
            ),
            (
                "<controller",
                "<watchdog model='itco'/><controller",
                "devices/watchdog",
            ),
            ("<devices>", "<features><acpi/></features><devices>", "features"),
        ] {
            let other = whole.replacen(from, to, 1);
            assert_ne!(other, whole, "{from}");
            assert_eq!(difference(&other, &whole, false).as_deref(), Some(what), "{from}");
            assert_eq!(difference(&whole, &other, false).as_deref(), Some(what), "{from}");
        }
    }

    #[test]
    fn another_spelling_is_the_same_definition() {
        let one = guest(
            "a",
            2,
            "<devices><controller type='usb' index='0'/><controller type='pci' index='1'/></devices>",
        );
        let two = one.replace("<controller type='usb' index='0'/>", "").replace(
            "</devices>",
            "\n  <!-- - -->\n  <controller index=\"0\" type='usb'/></devices>\n",
        );
        assert_eq!(difference(&one, &two, false), None);
        let wide = one.replace("<vcpu>", &format!("<a>{}</a><vcpu>", "<b/>".repeat(100_000)));
        assert_eq!(difference(&one, &wide, false).as_deref(), Some("a"));
    }

    #[test]
    fn a_name_is_no_command_in_what_is_advised() {
        let uuid = "8c1f6f0e-0000-4000-8000-000000000001";
        let said = |name: &str| {
            let domain = domain::parse::from_text(&guest(name, 1, "")).unwrap();
            let path = format!("/etc/libvirt/qemu/{name}.xml");
            behind_its_back(Path::new(&path), &domain, "qemu:///system", "cpu")
        };
        // name, file in the command, guest in the command
        for (name, file, word) in [
            ("db", "/etc/libvirt/qemu/db.xml", "db"),
            (
                "x'; reboot '",
                r"'/etc/libvirt/qemu/x'\''; reboot '\''.xml'",
                uuid,
            ),
            ("$(reboot)", "'/etc/libvirt/qemu/$(reboot).xml'", uuid),
            ("7", "/etc/libvirt/qemu/7.xml", uuid),
            ("a\u{202e}b", "FILE", uuid),
        ] {
            let said = said(name);
            assert!(said.contains(&format!("virsh define {file}; ")), "{said}");
            assert!(
                said.contains(&format!("--security-info {word} | virsh")),
                "{said}"
            );
        }
    }

    #[test]
    fn what_a_reader_of_xml_does_not_tell_apart_is_the_same() {
        let with = |text: &str, attribute: &str| {
            let more = format!("<description>{text}</description><devices><a b='{attribute}'/></devices>");
            guest("a", 1, &more)
        };
        // as libvirt wrote it, as libvirt has it once it has read that
        for (written, read) in [
            (with("x\ry", "k"), with("x\ny", "k")),
            (with("x\r\ny", "k"), with("x\ny", "k")),
            (with("x", "k\rl\nm\tn"), with("x", "k l m n")),
            (with("x", "k\r\nl"), with("x", "k l")),
        ] {
            assert_eq!(difference(&written, &read, false), None, "{written:?}");
        }
        for (written, read) in [
            (with("x\ry", "k"), with("xy", "k")),
            (with("x\r\ny", "k"), with("x\n\ny", "k")),
            (with("x", "k\rl"), with("x", "kl")),
        ] {
            assert!(difference(&written, &read, false).is_some(), "{written:?}");
        }
    }

    #[test]
    fn a_file_older_than_the_driver_is_what_the_driver_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostFs::new(folder.path());
        let put = |path: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "1").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        put("etc/libvirt/qemu/a.xml");
        assert!(!is_loaded(&root, "a"));
        put("run/libvirt/qemu/driver.pid");
        assert!(is_loaded(&root, "a"));
        // The pid file of a guest named driver, of which QEMU has the process.
        let comm = folder.path().join("proc/1/comm");
        std::fs::create_dir_all(comm.parent().unwrap()).unwrap();
        std::fs::write(&comm, "qemu-system-x86\n").unwrap();
        assert!(!is_loaded(&root, "a"));
        std::fs::write(&comm, "libvirtd\n").unwrap();
        assert!(is_loaded(&root, "a"));
        put("etc/libvirt/qemu/a.xml");
        assert!(!is_loaded(&root, "a"));
        assert!(!is_loaded(&root, "none"));
    }
}
