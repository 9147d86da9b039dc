//! Placement of vCPUs and memory: what stays of an earlier placement and of an administrator's
//! pins, the search, and the second search where the first finds nothing that mirrors the topology.

use std::collections::BTreeMap;

use crate::domain::Topology;
use crate::engine::case::Case;
use crate::engine::decide::DecisionMaker;
use crate::engine::demand::Demanded;
use crate::engine::effective::EffectiveProfile;
use crate::engine::{Keep, same, supply};
use crate::host::Host;
use crate::ledger::taken;
use crate::ledger::taken::same_guest;
use crate::placement;
use crate::placement::{Demand, Placed, given_pins};
use crate::policy::cpu_sets;
use crate::policy::profile::TopologyRule;
use crate::rewrite::{self};
use crate::types::guest_word::guest_word;
use crate::types::ids::{NodeId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::plan::Scope;
use crate::types::reason::{NoPlace, Outcome, Reason};
use crate::types::setting::{Target, Value};

impl DecisionMaker<'_> {
    /// Returns the shape this profile gave the guest. Under another profile it is decided afresh,
    /// except in scope `incoming`, where nothing the guest sees can change.
    pub(super) fn shape(&self) -> Option<&rewrite::Shape> {
        let head = &self.provenance.as_ref()?.head;
        let same = head.profile == self.profile.name || self.inputs.question.scope == Scope::Incoming;
        let same = same && self.inputs.question.keep != Keep::Nothing;
        Some(&head.shape).filter(|shape| same && shape.threads > 0)
    }

    /// Returns the pins virtfit wrote that were not changed since; for a guest without a provenance
    /// of its own the pins it had earlier.
    pub(super) fn previous_pins(&self) -> BTreeMap<VcpuId, CpuSet> {
        if self.reshaped || self.twin.is_some() || self.inputs.question.keep != Keep::Place {
            return BTreeMap::new();
        }
        let own = self.provenance.as_ref();
        if !own.is_some_and(|provenance| provenance.is_of(&self.current.uuid)) {
            return self.inputs.question.earlier.cloned().unwrap_or_default();
        }
        let owned = self.provenance.iter().flat_map(|provenance| &provenance.owned);
        owned
            .filter_map(|owned| match &owned.target {
                Target::VcpuPin(vcpu) => {
                    let pin = self.current.vcpupins.get(vcpu)?;
                    let ours = matches!(&owned.wrote, Value::Cpus(wrote) if wrote == pin);
                    ours.then(|| (*vcpu, pin.clone()))
                }
                _ => None,
            })
            .collect()
    }

    /// Puts vCPUs where an administrator wants them: on their own pins, or floating in
    /// `vcpu@cpuset`.
    pub(super) fn keep_pins(&self, placed: &mut Placed, demanded: &Demanded) {
        if let Some(cpuset) = &demanded.demand.within {
            placed
                .vcpus
                .values_mut()
                .filter(|pin| pin.len() != 1 && !pin.is_subset(cpuset))
                .for_each(|pin| *pin = cpuset.clone());
        }
        placed.vcpus.extend(demanded.kept_pins.clone());
    }

    /// Places memory where vCPUs are left alone (`cpus = "keep"`): on the nodes of their pins, if
    /// they have any.
    pub(super) fn as_it_is(
        &self,
        demanded: &Demanded,
        supplies: &supply::Supplies,
    ) -> Result<Placed, Vec<Reason>> {
        let host = self.inputs.host;
        let pinned: BTreeMap<VcpuId, CpuSet> = self
            .domain
            .all_vcpus()
            .iter()
            .filter_map(|vcpu| Some((vcpu, self.domain.pin_of(vcpu)?.clone())))
            .collect();
        let mut placed =
            given_pins::as_they_are(host, &demanded.demand, &supplies.now, &pinned).map_err(reasons)?;
        for vcpu in self.domain.all_vcpus().iter() {
            placed.vcpus.entry(vcpu).or_insert_with(|| cpu_sets::usable(host));
        }
        Ok(placed)
    }

    /// Returns the placement the guest has, if it is still good; otherwise the best there is.
    pub(super) fn place(
        &self,
        wishes: &EffectiveProfile,
        demanded: &Demanded,
        supplies: &supply::Supplies,
        previous: &BTreeMap<VcpuId, CpuSet>,
    ) -> Result<Placed, Vec<Reason>> {
        let demand = &demanded.demand;
        let host = self.inputs.host;
        let shown = self.mirrored(wishes, demand);
        // Earlier pins count for dedicated vCPUs only, and an administrator's pin comes before
        // them.
        let pins: BTreeMap<VcpuId, CpuSet> = previous
            .iter()
            .filter(|(vcpu, _)| demand.dedicated.contains(**vcpu) && !demand.kept.contains_key(vcpu))
            .chain(&demand.kept)
            .map(|(vcpu, pin)| (*vcpu, pin.clone()))
            .collect();
        let whole =
            !demand.dedicated.is_empty() && demand.dedicated.iter().all(|vcpu| pins.contains_key(&vcpu));
        let is_true = |placed: &Placed| shown.is_none_or(|shown| same::is_true(host, placed, shown, demand));
        // First choice: all earlier pins are valid, and the topology is still true of them.
        let as_it_runs = self.with_its_pages(demand);
        let still_good = || {
            let demand = where_they_float(as_it_runs.as_ref().unwrap_or(demand), host, previous);
            given_pins::still_good(host, &demand, &supplies.now, &pins)
        };
        // Pins on several nodes whose cells are to be made are no place without the cells: the
        // shape they belong to was given by another profile.
        let lacks_cells = |placed: &Placed| demand.make_cells && placed.nodes.len() > 1;
        let stays = (whole && !previous.is_empty()).then(still_good).flatten();
        let stays = stays.filter(|placed| !lacks_cells(placed));
        if let Some(placed) = stays.clone().filter(is_true) {
            return Ok(placed);
        }
        // Second choice for a running guest: a search with the page size it runs with.
        if let Some(demand) = as_it_runs
            && let Ok(placed) = placement::place(host, &demand, &supplies.now, &supplies.empty)
            && is_true(&placed)
        {
            return Ok(placed);
        }
        // Then the best placement, and if the topology is not true of that, the best that it
        // mirrors.
        let placed = placement::place(host, demand, &supplies.now, &supplies.empty).map_err(reasons);
        let Some(shown) = shown.filter(|_| !placed.as_ref().is_ok_and(is_true)) else {
            return placed;
        };
        if let Some(placed) = same::place(host, demand, supplies, shown).filter(is_true) {
            return Ok(placed);
        }
        if let Some(placed) = stays {
            return Ok(placed);
        }
        // A guest that comes in runs already, and the topology it sees cannot be mended here. One
        // that was never true is no reason against a place.
        let placed = placed?;
        match self.inputs.question.scope {
            Scope::Incoming => Ok(placed),
            Scope::Boot if same::is_never_true(host, demand, supplies, shown) => Ok(placed),
            Scope::Boot => {
                let guest = guest_word(&self.domain.name, &self.domain.uuid).to_string();
                Err(vec![Outcome::ShapeFitsNowhere { shown, guest }.into()])
            }
        }
    }

    /// Returns the place of a guest that runs and holds its CPUs, where nothing else is left for
    /// it: another guest was pinned onto them, which makes them no less the guest's own.
    pub(super) fn as_it_holds(
        &self,
        case: &Case<'_>,
        demanded: &Demanded,
        supplies: &supply::Supplies,
        previous: &BTreeMap<VcpuId, CpuSet>,
    ) -> Option<Placed> {
        if self.inputs.question.scope != Scope::Boot || previous.is_empty() {
            return None;
        }
        // What it holds by its status file: a promise is no CPU that it runs on.
        let own = (self.current.uuid.as_str(), self.current.name.as_str());
        let dedicated = &supplies.empty.dedicated;
        let mut held = CpuSet::new();
        for holder in &self.inputs.ledger.holders {
            let runs = !holder.starting && !holder.reservation;
            if runs && same_guest(own, (&holder.uuid, &holder.name)) {
                let cpus = taken::held(holder, case.host, dedicated, case.policy.share_cores);
                held.extend_from(&cpus);
            }
        }
        let mut now = supplies.now.clone();
        now.free.extend_from(&held.intersection(dedicated));
        now.held.retain(|cpu, _| !held.contains(*cpu));
        let with_its_own = supply::Supplies {
            now,
            empty: supplies.empty.clone(),
        };
        let placed = self.place(case.wishes, demanded, &with_its_own, previous).ok()?;
        let stays = |vcpu: VcpuId| {
            let pin = previous.get(&vcpu).filter(|pin| pin.is_subset(&held));
            pin.is_some() && placed.vcpus.get(&vcpu) == pin
        };
        demanded.demand.dedicated.iter().all(stays).then_some(placed)
    }

    /// Returns the topology that mirrored the chosen CPUs when the guest got its shape, which
    /// another placement has to mirror again.
    fn mirrored(&self, wishes: &EffectiveProfile, demand: &Demand) -> Option<Topology> {
        let shape = self.shape()?;
        let mirrored = wishes.profile.topology == TopologyRule::Match
            && demand.kept.is_empty()
            && demand.dedicated.len() as u32 == demand.vcpus;
        shape
            .topology
            .filter(|shown| mirrored && shown.threads == shape.threads)
    }

    /// Limits the demand of a running guest that virtfit fitted to the page size it runs with. For
    /// a running guest libvirt shows other amounts of memory (rounded up to whole MiB) than the
    /// definition has, and other pages may be free than at its start.
    fn with_its_pages(&self, demand: &Demand) -> Option<Demand> {
        if self.provenance.is_none() || !(self.current.running || self.inputs.facts.running) {
            return None;
        }
        let now = match &self.current.hugepages {
            None => None,
            Some(element) => match element.pages[..] {
                [(size, _)] => Some(size),
                _ => return None,
            },
        };
        demand.pages.contains(&now).then(|| Demand {
            pages: vec![now],
            ..demand.clone()
        })
    }
}

/// Converts the reasons of the search to reasons of a plan.
fn reasons(found: Vec<NoPlace>) -> Vec<Reason> {
    found.into_iter().map(Reason::from).collect()
}

/// Limits each cell without dedicated vCPUs to the node its vCPUs float on.
fn where_they_float(demand: &Demand, host: &Host, previous: &BTreeMap<VcpuId, CpuSet>) -> Demand {
    let mut demand = demand.clone();
    for cell in &mut demand.cells {
        if !cell.vcpus.is_disjoint(&demand.dedicated) {
            continue;
        }
        let masks = cell.vcpus.iter().filter_map(|vcpu| previous.get(&vcpu));
        let nodes: NodeSet = masks
            .flat_map(CpuSet::iter)
            .filter_map(|cpu| Some(host.core_of(cpu)?.node))
            .collect();
        let allowed = |node: NodeId| cell.nodes.as_ref().is_none_or(|nodes| nodes.contains(node));
        if nodes.len() == 1 && nodes.iter().all(allowed) {
            cell.nodes = Some(nodes);
        }
    }
    demand
}
