//! Running guest as its status file shows it, for live pinning, floating guests and `virtfit
//! status`.

use std::collections::BTreeMap;

use crate::domain::Domain;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::live_pins::{Records, Thread};
use crate::ledger::status;
use crate::panics;
use crate::rewrite::{self, Provenance};
use crate::types::ids::{Id, VcpuId};
use crate::types::idset::CpuSet;
use crate::types::setting::Value;
use crate::xml::{Document, XmlError};

/// Running guest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Running {
    /// State in libvirt's words: `running`, `paused`, `shutdown`, …
    pub state: String,
    /// Reason of the state, e.g. `booted`, `migration`.
    pub reason: String,
    /// Process id of QEMU; 0 while there is none yet.
    pub pid: u32,
    /// Thread of each online vCPU.
    pub tids: BTreeMap<VcpuId, u32>,
    /// `true` until QEMU has answered libvirt.
    pub starting: bool,
    /// numad's CPUs, if the XML says `placement='auto'`.
    pub numad: Option<CpuSet>,
    /// Live `<domain>` as it stands in the status file. May contain passwords.
    pub xml: String,
    /// Facts of the live XML.
    pub guest: GuestXml,
    /// Provenance that the guest's definition had at its start.
    pub provenance: Option<Provenance>,
}

impl Running {
    /// Parses the text of a status file.
    ///
    /// # Errors
    /// The errors of [`status::parse`].
    pub fn parse(text: &str, pinned: &Records) -> Result<Self, XmlError> {
        panics::guarded(|| Self::read(text, pinned))?
    }

    fn read(text: &str, pinned: &Records) -> Result<Self, XmlError> {
        let document = Document::parse(text)?;
        let root = document.root();
        let Some(domain) = root.child("domain").filter(|_| root.name() == "domstatus") else {
            return Err(root.error("no <domstatus> with a <domain>"));
        };
        let xml = domain.raw();
        let mut guest = GuestXml::parse(xml)?;
        let pid = status::pid(root);
        if let Some(record) = pinned.of(&guest.domain.uuid, pid) {
            record.mark(&mut guest);
        }
        let threads = root.child("vcpus");
        let threads = threads.iter().flat_map(|vcpus| vcpus.children_named("vcpu"));
        let tids = threads.filter_map(|vcpu| {
            let id = vcpu.attr("id")?.parse().ok()?;
            let tid = vcpu.attr("pid")?.parse().ok().filter(|tid| *tid > 0)?;
            Some((VcpuId::new(id), tid))
        });
        let numad = root.child("numad").and_then(|numad| numad.attr("cpuset"));
        Ok(Self {
            state: root.attr("state").unwrap_or_default().into_owned(),
            reason: root.attr("reason").unwrap_or_default().into_owned(),
            pid,
            tids: tids.collect(),
            starting: status::is_starting(root),
            numad: numad.and_then(|list| crate::types::cpulist::parse_plain(&list).ok()),
            xml: xml.to_string(),
            provenance: rewrite::provenance(&Document::parse(xml)?).ok().flatten(),
            guest,
        })
    }

    /// Returns the facts of the live XML's domain.
    pub(crate) fn domain(&self) -> &Domain {
        &self.guest.domain
    }

    /// Lists the guest's vCPUs, emulator and iothreads.
    pub(crate) fn threads(&self) -> Vec<Thread> {
        let domain = self.domain();
        let vcpus = domain.all_vcpus();
        let iothreads = domain.iothread_ids.iter().copied().map(Thread::Iothread);
        vcpus
            .iter()
            .map(Thread::Vcpu)
            .chain([Thread::Emulator])
            .chain(iothreads)
            .collect()
    }

    /// Returns the mask that virtfit wrote into the definition for this thread.
    pub(crate) fn wrote(&self, thread: Thread) -> Option<&CpuSet> {
        let owned = self.provenance.iter().flat_map(|provenance| &provenance.owned);
        let target = thread.target();
        owned
            .filter(|owned| owned.target == target)
            .find_map(|owned| match &owned.wrote {
                Value::Cpus(cpus) => Some(cpus),
                _ => None,
            })
    }

    /// Returns the CPUs that the XML allows a thread: its own pin, else numad's answer or
    /// `vcpu@cpuset`; `None`: all CPUs (libvirt's order in `qemuProcessSetupPid`).
    pub(crate) fn allowed(&self, thread: Thread) -> Option<&CpuSet> {
        let domain = self.domain();
        let common = match domain.vcpu_placement_auto {
            true => self.numad.as_ref(),
            false => domain.vcpu_cpuset.as_ref(),
        };
        thread.pin(domain).or(common)
    }
}
