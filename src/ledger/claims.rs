//! Claims: CPUs that virtfit wrote into guests' definitions, `/etc/libvirt/qemu/NAME.xml`.
//!
//! A claim is a preference, not a hold: placement avoids claimed CPUs where it can. It counts while
//! the guest does not run; once it runs, its status file counts instead.
//!
//! The record of what virtfit wrote is in the definition, so its author can forge it. A claim
//! therefore counts as far as the policy gives the guest CPUs of its own: those of the threads that
//! its profile dedicates, one CPU each, and their withheld siblings where siblings are withheld.
//! [`taken`](mod@crate::ledger::taken) keeps of these the CPUs of the dedicated set.

use std::collections::BTreeMap;

use crate::domain::Domain;
use crate::ledger::Claim;
use crate::ledger::guest_xml::{self, GuestXml};
use crate::policy::profile::{Emulator, IothreadCpus, Smt};
use crate::policy::{HostPolicy, Policy, Profile, rule, select};
use crate::types::idset::CpuSet;
use crate::types::setting::Target;
use crate::xml::XmlError;

/// Folder of the definitions on the host.
pub(crate) const FOLDER: &str = "/etc/libvirt/qemu";
/// Folder of links to the definitions that libvirt starts by itself.
pub(crate) const AUTOSTART_FOLDER: &str = "/etc/libvirt/qemu/autostart";

/// Returns the path on the host of a guest's definition.
pub fn path(name: &str) -> String {
    format!("{FOLDER}/{name}.xml")
}

/// Returns the class of a definition by its length in bytes: the power of two that it is not below,
/// one class for all of real guests' length. What is costly to decide comes last.
pub(crate) fn size_class(bytes: u64) -> u32 {
    const REAL: u64 = 32 * 1024;
    bytes.max(REAL).ilog2()
}

/// CPUs that virtfit wrote into a definition, as its record says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Facts by which a policy chooses the guest's profile; empty if there are no pins.
    facts: Domain,
    /// Pins of one CPU that are unchanged since.
    pins: BTreeMap<Target, CpuSet>,
    /// Siblings that the record says are withheld.
    withheld: CpuSet,
}

impl Written {
    /// Reads the text of a definition.
    ///
    /// # Errors
    /// The text is not XML or not a domain, or its provenance cannot be read.
    pub fn parse(text: &str) -> Result<Self, XmlError> {
        let guest = GuestXml::parse(text)?;
        match guest.unreadable {
            Some(error) => Err(error),
            None => Ok(Self::of(&guest)),
        }
    }

    /// Takes the pins out of a definition that was read; none where its record is another guest's.
    pub fn of(guest: &GuestXml) -> Self {
        if guest.copied {
            return Self::default();
        }
        let pin = |target: &Target| guest_xml::pin(&guest.domain, target).filter(|pin| pin.len() == 1);
        let pins: BTreeMap<Target, CpuSet> = guest
            .ours
            .iter()
            .filter_map(|target| Some((target.clone(), pin(target)?.clone())))
            .collect();
        if pins.is_empty() {
            return Self::default();
        }
        Self {
            facts: rule::facts(&guest.domain),
            pins,
            withheld: guest.withheld.clone(),
        }
    }

    /// Returns the claim under a policy; `None`: the definition claims nothing.
    pub fn claim(&self, policy: &Policy, autostart: bool) -> Option<Claim> {
        if self.pins.is_empty() {
            return None;
        }
        let profile = select::tuning(policy, &self.facts, autostart)?;
        self.claim_by(profile, &policy.host, autostart)
    }

    /// Returns the claim of a guest that has this profile; `None`: the definition claims nothing.
    pub fn claim_by(&self, profile: &Profile, host: &HostPolicy, autostart: bool) -> Option<Claim> {
        // numad places the vCPUs, unless the profile replaces that.
        let by_numad = self.facts.vcpu_placement_auto && !profile.override_existing;
        let dedicated = profile.dedicated(self.facts.vcpus).unwrap_or_default();
        let has_own = |target: &Target| match target {
            Target::VcpuPin(vcpu) => !by_numad && dedicated.contains(*vcpu),
            Target::EmulatorPin => profile.emulator == Emulator::Isolate,
            Target::IothreadPin(_) => profile.iothread_cpus == IothreadCpus::Isolate,
            _ => false,
        };
        let own = self.pins.iter().filter(|(target, _)| has_own(target));
        let cpus = own.fold(CpuSet::new(), |all, (_, pin)| all.union(pin));
        let withholds = profile.smt == Smt::Isolate || !host.share_cores;
        (!cpus.is_empty()).then(|| Claim {
            uuid: self.facts.uuid.clone(),
            name: self.facts.name.clone(),
            autostart,
            cpus,
            withheld: match withholds {
                true => self.withheld.clone(),
                false => CpuSet::new(),
            },
        })
    }
}
