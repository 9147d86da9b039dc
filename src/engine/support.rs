//! Emulator threads and iothreads: their number, and the CPUs they run on.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::Domain;
use crate::engine::EngineError;
use crate::engine::case::Case;
use crate::engine::fit::Fit;
use crate::engine::iothreads::{PerDisk, least_iothreads};
use crate::host::Host;
use crate::policy::profile::{Emulator, IothreadCount, IothreadCpus};
use crate::types::ids::{HostCpu, IothreadId};
use crate::types::idset::CpuSet;
use crate::types::reason::Basis;
use crate::types::setting::{Target, Value};

/// CPUs of a guest's threads other than vCPUs.
#[derive(Debug)]
pub(crate) struct Support {
    /// CPUs of the emulator threads; `None`: left alone.
    pub emulator: Option<CpuSet>,
    /// Reason for the emulator threads' CPUs.
    pub emulator_why: Basis,
    /// Number of iothreads the guest gets; `None`: left alone.
    pub iothread_count: Option<u32>,
    /// CPUs of each iothread; those left alone are absent.
    pub iothreads: BTreeMap<IothreadId, CpuSet>,
    /// Reason for the iothreads' CPUs.
    pub iothreads_why: Basis,
    /// Ids of all iothreads the guest then has.
    pub iothread_ids: Vec<IothreadId>,
}

/// Works out both.
///
/// # Errors
/// The policy leaves no CPU for them.
pub(crate) fn place(fit: &Fit<'_>) -> Result<Support, EngineError> {
    let Case { wishes, domain, .. } = *fit.case;
    let Fit { placed, fits, .. } = *fit;
    let profile = &wishes.profile;
    let mut extra: Vec<HostCpu> = if fits { placed.extra.clone() } else { Vec::new() };
    let mut support = Support {
        emulator: None,
        emulator_why: Basis::ByHand,
        iothread_count: None,
        iothreads: BTreeMap::new(),
        iothreads_why: Basis::ByHand,
        iothread_ids: Vec::new(),
    };

    // The emulator threads take the first extra CPU; without one, isolation falls back to
    // housekeeping.
    if wishes.keep && domain.emulatorpin.is_some() {
        support.emulator = domain.emulatorpin.clone();
    } else {
        let rule = match profile.emulator {
            Emulator::Isolate if extra.is_empty() => Emulator::Housekeeping,
            rule => rule,
        };
        match rule {
            Emulator::Keep => {}
            Emulator::Isolate => {
                support.emulator = Some(CpuSet::one(extra.remove(0)));
                support.emulator_why = Basis::OwnCpu;
            }
            Emulator::Housekeeping => {
                let pool = housekeeping(fit)?;
                support.emulator = Some(pool.mask(fit, &Target::EmulatorPin));
                support.emulator_why = pool.why;
            }
            Emulator::Guest => {
                support.emulator = Some(own(fit)?);
                support.emulator_why = Basis::GuestsCpus;
            }
        }
    }

    // Iothreads share one pool of CPUs, or have one extra CPU each.
    let (devices, most) = PerDisk::new(profile, domain, fit.case.host).devices(domain);
    let rule = match profile.iothread_cpus {
        IothreadCpus::Isolate if extra.is_empty() => IothreadCpus::Housekeeping,
        rule => rule,
    };
    let pool = match rule {
        IothreadCpus::Isolate => Pool::of(extra.iter().copied().collect(), Basis::OwnCpuEach),
        IothreadCpus::Housekeeping => housekeeping(fit)?,
        IothreadCpus::Guest => Pool::of(own(fit)?, Basis::GuestsCpus),
    };
    // The number of iothreads: the profile's, but never fewer than the XML names.
    let wanted = match (profile.iothread_count, domain.iothreads) {
        (IothreadCount::Keep, count) => count.unwrap_or(0),
        (_, Some(count)) if wishes.keep => count,
        (IothreadCount::At(count), _) => count.max(least_iothreads(domain)),
        (IothreadCount::Auto, _) => devices
            .min(pool.all.len() as u32)
            .max(most)
            .max(least_iothreads(domain)),
    };
    if domain.iothreads != Some(wanted) && (wanted > 0 || domain.iothreads.is_some()) {
        support.iothread_count = Some(wanted);
    }
    support.iothread_ids = ids(domain, wanted);
    for (index, id) in support.iothread_ids.iter().enumerate() {
        let cpus = match (domain.iothreadpins.get(id), rule) {
            (Some(pin), _) if wishes.keep => pin.clone(),
            (_, IothreadCpus::Isolate) => match extra.get(index).or(extra.last()) {
                Some(cpu) => CpuSet::one(*cpu),
                None => continue,
            },
            _ => pool.mask(fit, &Target::IothreadPin(*id)),
        };
        support.iothreads.insert(*id, cpus);
    }
    support.iothreads_why = pool.why;
    Ok(support)
}

/// Returns the ids of so many iothreads: those that are listed, then the lowest free ones, as
/// libvirt assigns them.
fn ids(domain: &Domain, count: u32) -> Vec<IothreadId> {
    let mut ids: Vec<IothreadId> = domain.iothread_ids.iter().copied().take(count as usize).collect();
    let mut taken: BTreeSet<IothreadId> = ids.iter().copied().collect();
    let mut next = 1;
    while ids.len() < count as usize {
        if taken.insert(IothreadId(next)) {
            ids.push(IothreadId(next));
        }
        next += 1;
    }
    ids.sort_unstable();
    ids
}

/// CPUs for support threads.
struct Pool {
    /// CPUs to which no other guest's threads are pinned, unless there are no others.
    cpus: CpuSet,
    all: CpuSet,
    /// Reason for these CPUs.
    why: Basis,
}

impl Pool {
    fn of(cpus: CpuSet, why: Basis) -> Self {
        Self {
            all: cpus.clone(),
            cpus,
            why,
        }
    }

    /// Returns the mask of a support thread: the one virtfit wrote, while it covers the pool but
    /// for some CPUs that other guests' threads are pinned to. Such a mask need not be written
    /// again each time one of these guests starts or ends; live, the thread is kept off its CPUs.
    fn mask(&self, fit: &Fit<'_>, target: &Target) -> CpuSet {
        let provenance = fit.case.provenance.into_iter();
        let wrote = provenance
            .flat_map(|provenance| &provenance.owned)
            .find_map(|owned| match &owned.wrote {
                Value::Cpus(cpus) if owned.target == *target => Some(cpus),
                _ => None,
            });
        let suits = |wrote: &&CpuSet| self.cpus.is_subset(wrote) && wrote.is_subset(&self.all);
        wrote.filter(suits).unwrap_or(&self.cpus).clone()
    }
}

/// Returns the housekeeping CPUs of the guest's nodes, otherwise all of them; where there are none,
/// the guest's own CPUs. CPUs to which other guests' threads are pinned come last.
fn housekeeping(fit: &Fit<'_>) -> Result<Pool, EngineError> {
    let Case {
        host, sets, occupied, ..
    } = *fit.case;
    let placed = fit.placed;
    let mut all = sets.housekeeping.intersection(&host.online);
    if let Some(allowed) = &host.guest_cpus {
        all = all.intersection(allowed);
    }
    // vCPUs that were pinned by hand to housekeeping CPUs have those to themselves.
    let mut pinned = CpuSet::new();
    for pin in placed.vcpus.values().filter(|pin| pin.len() == 1) {
        pinned.extend_from(pin);
    }
    let apart = all.difference(&pinned);
    if !apart.is_empty() {
        all = apart;
    }
    let near = |cpus: &CpuSet| {
        let nodes = placed.nodes.iter();
        nodes.fold(CpuSet::new(), |near, node| {
            near.union(&host.cpus_of(*node).intersection(cpus))
        })
    };
    let nodes = placed.nodes.clone();
    let of_all = match nodes.is_empty() {
        true => Basis::Housekeeping,
        false => Basis::HousekeepingFar,
    };
    let far = match near(&all).is_empty() {
        true => of_all.clone(),
        false => Basis::HousekeepingElsewhere,
    };
    let of_nodes = Basis::HousekeepingNear { nodes };
    let open = all.difference(occupied);
    let tries = [
        (near(&open), near(&all), of_nodes.clone()),
        (open, all.clone(), far),
        (near(&all), near(&all), of_nodes),
        (all.clone(), all, of_all),
    ];
    let found = tries.into_iter().find(|(cpus, ..)| !cpus.is_empty());
    Ok(match found {
        Some((cpus, all, why)) => Pool {
            cpus: unisolated(host, &cpus),
            all: unisolated(host, &all),
            why,
        },
        None => Pool::of(own(fit)?, Basis::GuestsCpusForLack),
    })
}

/// Returns the guest's own CPUs without those of real-time vCPUs.
fn own(fit: &Fit<'_>) -> Result<CpuSet, EngineError> {
    let Case { wishes, host, .. } = *fit.case;
    let Fit { placed, fits, .. } = *fit;
    let mut cpus = CpuSet::new();
    for (vcpu, pin) in &placed.vcpus {
        if !(fits && wishes.realtime.contains(*vcpu)) {
            cpus.extend_from(pin);
        }
    }
    if cpus.is_empty() {
        if wishes.profile.cpus == crate::policy::profile::Cpus::Keep || placed.vcpus.is_empty() {
            return Ok(host.online.difference(&host.isolated));
        }
        return Err(EngineError::Policy(format!(
            "profile {}: no CPU is left for the emulator and iothreads: the host has no housekeeping CPUs and all vCPUs are \
             real-time ones; set host.housekeeping or leave a vCPU out of realtime.vcpus (\"^0\")",
            wishes.profile.name
        )));
    }
    Ok(unisolated(host, &cpus))
}

/// Takes isolated CPUs out of a mask as [`Host::balanced`] does. A definition has to name a CPU: of
/// a mask of isolated CPUs alone the first one remains.
fn unisolated(host: &Host, cpus: &CpuSet) -> CpuSet {
    let balanced = host.balanced(cpus);
    match (balanced.is_empty(), cpus.first()) {
        (true, Some(first)) => CpuSet::one(first),
        _ => balanced,
    }
}
