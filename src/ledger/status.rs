//! Status files of libvirt: `/run/libvirt/qemu/NAME.xml`, one for each guest that runs or starts.
//!
//! The format is private to libvirt, so it is read with tolerance: `<domstatus state= reason=
//! pid=>` with, among much else, `<vcpus><vcpu id= pid=/>`, `<numad nodeset= cpuset=/>` and the
//! live `<domain>`. libvirt first writes the file right after the fork, as `state='paused'
//! reason='starting up'` with no vCPU thread listed: at that time QEMU is allocating its memory.
//! The thread ids follow with the answer to the first monitor commands, when all pages are taken.

use std::sync::Arc;
use std::time::SystemTime;

use crate::domain::Domain;
use crate::hostfs::HostFs;
use crate::ledger::live_pins::Records;
use crate::ledger::{Holder, guest_xml};
use crate::policy::{Policy, rule, select};
use crate::types::cpulist;
use crate::types::ids::KiB;
use crate::types::idset::{CpuSet, NodeSet};
use crate::xml::{Document, Element, XmlError};

/// Folder of the status files on the host.
pub(crate) const FOLDER: &str = "/run/libvirt/qemu";

/// Returns the path on the host of a guest's status file.
pub(crate) fn path(name: &str) -> String {
    format!("{FOLDER}/{name}.xml")
}

/// Returns the time at which a guest's QEMU was started: libvirt writes `NAME.pid` only then, but
/// the status file at every change.
pub(crate) fn started_at(root: &HostFs, name: &str) -> Option<SystemTime> {
    root.metadata(format!("{FOLDER}/{name}.pid"))
        .and_then(|meta| meta.modified())
        .ok()
}

/// Status file as parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Guest without regard to its profile: masks that are wider than the threads behind them hold
    /// nothing.
    pub holder: Arc<Holder>,
    /// Facts by which a policy chooses the guest's profile; empty where that changes nothing.
    facts: Domain,
}

impl Status {
    /// Returns the guest under a policy: with a profile that gives it CPUs of its own, its wide
    /// masks hold CPUs too.
    pub fn holder(&self, policy: &Policy, autostart: bool) -> Arc<Holder> {
        if self.holder.wide.is_empty() || !select::dedicates(policy, &self.facts, autostart) {
            return Arc::clone(&self.holder);
        }
        let mut holder = Holder::clone(&self.holder);
        let wide = std::mem::take(&mut holder.wide);
        holder.pins.extend(wide);
        Arc::new(holder)
    }
}

/// Parses the text of a status file. `default_page` is the host's default huge page size; threads
/// that float by virtfit's live records hold nothing.
///
/// # Errors
/// The text is not complete XML (truncated), not a `<domstatus>`, or has no domain that can be
/// read.
pub fn parse(text: &str, default_page: KiB, pinned: &Records) -> Result<Status, XmlError> {
    let document = Document::parse(text)?;
    let root = document.root();
    if root.name() != "domstatus" {
        return Err(root.error(format!("<{}> where <domstatus> should be", root.name())));
    }
    let Some(domain) = root.child("domain") else {
        return Err(root.error("<domstatus> without a <domain>"));
    };
    let mut guest = guest_xml::GuestXml::parse(domain.raw())?;
    let record = pinned.of(&guest.domain.uuid, pid(root));
    if let Some(record) = record {
        record.mark(&mut guest);
    }
    let numad = root.child("numad");
    let numad_cpus: Option<CpuSet> = list_of(numad, "cpuset");
    let numad_nodes: Option<NodeSet> = list_of(numad, "nodeset");
    let masks = guest_xml::masks(&guest, numad_cpus.as_ref());
    let facts = match masks.wide.is_empty() {
        true => Domain::default(),
        false => rule::facts(&guest.domain),
    };
    let holder = Holder {
        pins: masks.pins,
        wide: masks.wide,
        occupies: masks.occupies,
        withheld: guest.withheld,
        promised: CpuSet::new(),
        memory: guest_xml::memory(&guest.domain, numad_nodes.as_ref(), || default_page),
        starting: is_starting(root),
        reservation: false,
        set_live: record.is_some(),
        uuid: guest.domain.uuid,
        name: guest.domain.name,
    };
    Ok(Status {
        holder: Arc::new(holder),
        facts,
    })
}

/// Reads a list of CPUs or nodes from an attribute; a malformed list counts as none.
fn list_of<T: crate::types::ids::Id>(
    element: Option<Element<'_>>,
    attribute: &str,
) -> Option<crate::types::idset::IdSet<T>> {
    cpulist::parse_plain(&element?.attr(attribute)?).ok()
}

/// Returns QEMU's process id; 0 while there is none yet.
pub(super) fn pid(root: Element<'_>) -> u32 {
    root.attr("pid").and_then(|pid| pid.parse().ok()).unwrap_or(0)
}

/// Returns `true` until QEMU has answered libvirt: the state is an early one (not paused by a user
/// or a migration), and no vCPU thread is known.
pub(super) fn is_starting(root: Element<'_>) -> bool {
    let state = root.attr("state").unwrap_or_default();
    let reason = root.attr("reason").unwrap_or_default();
    let early = matches!(&*state, "" | "nostate" | "shutoff") || reason == "starting up";
    let threads_known = root.child("vcpus").is_some_and(|vcpus| {
        vcpus
            .children_named("vcpu")
            .any(|vcpu| vcpu.attr("pid").is_some())
    });
    early && !threads_known
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// File in the form that libvirt 9 writes, comment first.
    fn file(state: &str, vcpus: &str, extra: &str, domain: &str) -> String {
        format!(
            "<!--\nWARNING: generated\n  virsh edit db\n-->\n\n<domstatus {state} pid='10416'>\n  \
             <monitor path='/var/lib/libvirt/qemu/domain-1-db/monitor.sock' type='unix'/>\n  \
             <vcpus>\n{vcpus}  </vcpus>\n  <qemuCaps>\n    <flag name='kvm'/>\n  </qemuCaps>\n{extra}  \
             <cpu mode='custom'>\n    <model>qemu64</model>\n  </cpu>\n  \
             <domain type='kvm' id='1'>\n    <name>db</name>\n    \
             <uuid>25F8072D-dacc-42c8-bb7a-973f3b84f4ef</uuid>\n    <memory unit='KiB'>2097152</memory>\n{domain}  \
             </domain>\n</domstatus>\n"
        )
    }

    const THREAD: &str = "    <vcpu id='0' pid='10442'/>\n";

    #[test]
    fn reads_who_holds_what() {
        let text = file(
            "state='running' reason='booted'",
            THREAD,
            "  <numad nodeset='0' cpuset='0-3'/>\n",
            "    <memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages></memoryBacking>\n    \
             <vcpu placement='auto'>2</vcpu>\n    <cputune>\n      <vcpupin vcpu='1' cpuset='9'/>\n    </cputune>\n",
        );
        let holder = parse(&text, KiB(2048), &Records::default()).unwrap().holder;
        assert_eq!(holder.name, "db");
        assert_eq!(holder.uuid, "25f8072d-dacc-42c8-bb7a-973f3b84f4ef");
        assert_eq!(
            holder.pins.iter().map(CpuSet::to_string).collect::<Vec<_>>(),
            ["9"]
        );
        assert_eq!(
            holder.wide.iter().map(CpuSet::to_string).collect::<Vec<_>>(),
            ["0-3"]
        );
        assert_eq!(holder.memory.len(), 1);
        assert_eq!(holder.memory[0].page, Some(KiB(2048)));
        assert_eq!(holder.memory[0].nodes.to_string(), "0");
        assert!(!holder.starting && !holder.reservation);
    }

    #[test]
    fn tells_a_starting_guest() {
        // attributes, thread known, starting
        let rows = [
            ("state='running' reason='booted'", true, false),
            ("state='running' reason='booted'", false, false),
            ("state='paused' reason='user'", true, false),
            ("state='paused' reason='starting up'", false, true),
            ("state='paused' reason='starting up'", true, false),
            ("state='shutoff' reason='unknown'", false, true),
            ("state='paused' reason='migration'", true, false),
            ("", false, true),
        ];
        for (state, known, expected) in rows {
            let text = file(state, if known { THREAD } else { "" }, "", "    <vcpu>1</vcpu>\n");
            assert_eq!(
                parse(&text, KiB(2048), &Records::default())
                    .unwrap()
                    .holder
                    .starting,
                expected,
                "{state} {known}"
            );
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, expected) in [
            ("", "the text is empty"),
            ("<domain/>", "where <domstatus> should be"),
            ("<domstatus/>", "without a <domain>"),
        ] {
            let error = parse(text, KiB(2048), &Records::default())
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_truncated_file_is_an_error_wherever_it_ends() {
        let good = file("state='running'", THREAD, "", "    <vcpu>1</vcpu>\n");
        for end in 0..good.trim_end().len() {
            assert!(
                parse(&good[..end], KiB(2048), &Records::default()).is_err(),
                "cut at {end}"
            );
        }
    }
}
