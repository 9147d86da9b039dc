//! Claims: CPUs that virtfit wrote into guests' definitions, `/etc/libvirt/qemu/NAME.xml`, and huge
//! pages of definitions.
//!
//! A claim of CPUs is a preference, not a hold: placement avoids claimed CPUs where it can. It
//! counts while the guest does not run; once it runs, its status file counts instead.
//!
//! The record of what virtfit wrote is in the definition, so its author can forge it. A claim of
//! CPUs therefore counts as far as the policy gives the guest CPUs of its own: those of the threads
//! that its profile dedicates, one CPU each, and their withheld siblings where siblings are
//! withheld. [`taken`](mod@crate::ledger::taken) keeps of these the CPUs of the dedicated set.
//!
//! Huge pages are different: libvirt lets no hook change a guest that starts, and QEMU fails
//! without its pages. So a definition is given no pages that another one claims, virtfit's or not,
//! as long as its guest finds a place without. Of a guest that runs, the definition claims the
//! pages that the guest does not have.

use std::collections::BTreeMap;

use crate::domain::Domain;
use crate::ledger::guest_xml::{self, GuestXml};
use crate::ledger::{Claim, Holder, MemoryUse};
use crate::policy::profile::{Emulator, IothreadCpus, Smt};
use crate::policy::{HostPolicy, Policy, Profile, rule, select};
use crate::types::ids::KiB;
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

/// CPUs that virtfit wrote into a definition, as its record says, and huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Facts by which a policy chooses the guest's profile; empty if there is nothing to claim.
    facts: Domain,
    /// Pins of one CPU that are unchanged since.
    pins: BTreeMap<Target, CpuSet>,
    /// Siblings that the record says are withheld.
    withheld: CpuSet,
    /// Memory in huge pages.
    pages: Vec<MemoryUse>,
    /// virtfit wrote the huge pages.
    own_pages: bool,
}

impl Written {
    /// Reads the text of a definition; `default_page` is the host's default huge page size.
    ///
    /// # Errors
    /// The text is not XML or not a domain, or its provenance cannot be read.
    pub fn parse(text: &str, default_page: KiB) -> Result<Self, XmlError> {
        let guest = GuestXml::parse(text)?;
        match guest.unreadable {
            Some(error) => Err(error),
            None => Ok(Self::of(&guest).with_pages(&guest, || default_page)),
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
            ..Self::default()
        }
    }

    /// Adds the huge pages of the definition, also where they came with another guest's record.
    pub(crate) fn with_pages(mut self, guest: &GuestXml, default_page: impl Fn() -> KiB) -> Self {
        self.pages = huge(&guest.domain, default_page);
        self.own_pages = guest.own_pages;
        if !self.pages.is_empty() && self.pins.is_empty() {
            self.facts = rule::facts(&guest.domain);
        }
        self
    }

    /// Returns the claim under a policy; `None`: the definition claims nothing.
    pub fn claim(&self, policy: &Policy, autostart: bool) -> Option<Claim> {
        let profile = match self.pins.is_empty() {
            true => None,
            false => select::tuning(policy, &self.facts, autostart),
        };
        self.claim_by(profile, &policy.host, autostart)
    }

    /// Returns the claim of a guest that has this profile; `None`: the definition claims nothing.
    pub fn claim_by(&self, profile: Option<&Profile>, host: &HostPolicy, autostart: bool) -> Option<Claim> {
        let (cpus, withheld) = profile
            .map(|profile| self.cpus(profile, host))
            .unwrap_or_default();
        (!cpus.is_empty() || !self.pages.is_empty()).then(|| Claim {
            uuid: self.facts.uuid.clone(),
            name: self.facts.name.clone(),
            autostart,
            cpus,
            withheld,
            pages: self.pages.clone(),
            own_pages: self.own_pages,
        })
    }

    /// Returns the CPUs of threads to which the profile gives CPUs of their own, and siblings that
    /// are withheld for these.
    fn cpus(&self, profile: &Profile, host: &HostPolicy) -> (CpuSet, CpuSet) {
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
        match withholds && !cpus.is_empty() {
            true => (cpus, self.withheld.clone()),
            false => (cpus, CpuSet::new()),
        }
    }
}

/// Lists the memory of a definition that is in huge pages.
pub(crate) fn huge(domain: &Domain, default_page: impl Fn() -> KiB) -> Vec<MemoryUse> {
    let mut pieces = guest_xml::memory(domain, None, default_page);
    pieces.retain(|piece| piece.page.is_some() && piece.amount.0 > 0);
    pieces
}

impl Claim {
    /// Returns what the definition claims while its guest runs, or is about to: huge pages that the
    /// guest does not have.
    pub(crate) fn of_running(self, holder: &Holder) -> Option<Self> {
        let mut claim = Self {
            cpus: CpuSet::new(),
            withheld: CpuSet::new(),
            ..self
        };
        claim.without_pages_of(holder);
        (!claim.pages.is_empty()).then_some(claim)
    }

    /// Leaves out the huge pages that the guest has already, as it runs or is about to.
    pub(crate) fn without_pages_of(&mut self, holder: &Holder) {
        let mut has: Vec<MemoryUse> = holder.memory.clone();
        for piece in &mut self.pages {
            let there = |held: &&mut MemoryUse| {
                let anywhere = held.nodes.is_empty() || piece.nodes.is_empty();
                held.page == piece.page && (anywhere || !held.nodes.is_disjoint(&piece.nodes))
            };
            for held in has.iter_mut().filter(there) {
                let part = held.amount.0.min(piece.amount.0);
                held.amount.0 -= part;
                piece.amount.0 -= part;
            }
        }
        self.pages.retain(|piece| piece.amount.0 > 0);
    }
}
