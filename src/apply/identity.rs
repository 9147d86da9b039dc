//! Comparison of libvirt's definition with the one that was read from its file: only if they are
//! one may it be replaced.

use crate::domain::{self, Domain};
use crate::panics::guarded;
use crate::rewrite::{self, Provenance};
use crate::xml::Document;

/// Returns the first difference between the definition in the file and the one libvirt has; `None`
/// where they are the same definition.
///
/// Only values that libvirt stores as it was given them are compared. It may write the rest
/// differently after an update (defaults it fills in).
pub fn difference(file: &str, libvirt: &str) -> Option<&'static str> {
    let read = |text| guarded(|| read(text)).ok().flatten();
    let (Some((a, ours)), Some((b, theirs))) = (read(file), read(libvirt)) else {
        return (file != libvirt).then_some("one of them cannot be read");
    };
    let targets = |domain: &Domain| -> Vec<String> {
        let disks = domain.disks.iter();
        disks.map(|disk| disk.target.clone()).collect()
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
        ("a disk", targets(&a) == targets(&b)),
        ("the request", a.request == b.request),
        ("virtfit's record", ours == theirs),
    ];
    rows.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
}

fn read(text: &str) -> Option<(Domain, Option<Provenance>)> {
    let document = Document::parse(text).ok()?;
    let domain = domain::parse::parse(&document).ok()?;
    // A broken record is compared only as part of the text.
    Some((domain, rewrite::provenance(&document).ok().flatten()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(name: &str, vcpus: u32, more: &str) -> String {
        format!(
            "<domain type='kvm'><name>{name}</name><uuid>8c1f6f0e-0000-4000-8000-000000000001</uuid>\
             <memory unit='MiB'>64</memory><vcpu>{vcpus}</vcpu>{more}</domain>"
        )
    }

    #[test]
    fn what_libvirt_fills_in_is_no_difference() {
        let file = format!("<!-- by libvirt -->\n{}", guest("a", 2, ""));
        let filled = guest(
            "a",
            2,
            "<cpu mode='custom' check='none'/><on_crash>destroy</on_crash>",
        );
        assert_eq!(difference(&file, &filled), None);
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
            assert_eq!(difference(&file, &other), Some(what));
        }
    }
}
