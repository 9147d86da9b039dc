//! The engine: a domain's XML and plain data in, a decision out. No clock, environment, file or libvirt.
//!
//! The way of a decision, file by file:
//!
//! ```text
//! mod       XML → what an administrator wrote and what virtfit wrote → profile → placement → settings → XML
//! before    what of virtfit's own is not what it was any more
//! incoming  pins of another host do not count
//! wishes    the profile as far as this guest, door and host can follow it
//! demand    profile and domain → what placement has to find
//! supply    host and ledger → what there is to give
//! support   emulator threads and iothreads
//! mirror    the topology that shows the CPUs chosen
//! same      places that look as it says, for a guest that has its shape
//! settings/ every value to write, each with its reason
//! stale     what stays and libvirt will not start with
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{self, Domain, Topology};
use crate::facts::GuestFacts;
use crate::host::Host;
use crate::idset::{CpuSet, NodeSet};
use crate::ledger::{self, Ledger};
use crate::placement::{self, Demand, Placed, kept};
use crate::plan::{Notes, PlacedCell, Placement, Plan, Scope, Verdict};
use crate::policy::profile::{Cpus, OnNoFit, TopologyRule};
use crate::policy::{Policy, Profile, select, sets};
use crate::rewrite::{self, Head, Provenance};
use crate::settings::{Target, Value};
use crate::units::{CellId, NodeId, VcpuId};
use crate::xml::{Document, XmlError};

pub mod before;
pub mod demand;
pub mod incoming;
pub mod mirror;
pub mod same;
pub mod settings;
pub mod stale;
pub mod supply;
pub mod support;
pub mod wishes;

use demand::Demanded;
use wishes::Wishes;

/// Everything a decision is made from, beside the XML.
pub struct Inputs<'a> {
    /// The host as it is now.
    pub host: &'a Host,
    /// The merged policy.
    pub policy: &'a Policy,
    /// The ledger; the guest itself may be in it.
    pub ledger: &'a Ledger,
    /// The guest's devices and images.
    pub facts: &'a GuestFacts,
    /// The door.
    pub scope: Scope,
    /// `--profile`: beats rules and requests.
    pub profile: Option<&'a str>,
    /// What of its earlier place stays.
    pub keep: Keep,
    /// The pins it had before somebody redefined it without them; they count where it carries none of ours.
    pub earlier: Option<&'a BTreeMap<VcpuId, CpuSet>>,
    /// It is starting from this very XML: strict memory in it is on its nodes already, and its CPUs have to be there too.
    pub bound: bool,
}

/// What of a guest's earlier place stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// Its CPUs while they are valid, and its shape.
    #[default]
    Place,
    /// Its shape (`apply --improve`).
    Shape,
    /// Nothing (`apply --reshape`).
    Nothing,
}

/// What came of it.
#[derive(Debug)]
pub enum Decision {
    /// The XML stays as it is, byte for byte.
    Unchanged(Plan),
    /// The XML to use instead.
    Tuned {
        /// The whole new text.
        xml: String,
        /// Why it looks like that.
        plan: Plan,
    },
    /// Policy or host say no; [`Plan::reasons`] tell why.
    Refused(Plan),
}

impl Decision {
    /// The whole new text, where there is one.
    pub fn xml(&self) -> Option<&str> {
        match self {
            Self::Tuned { xml, .. } => Some(xml),
            Self::Unchanged(_) | Self::Refused(_) => None,
        }
    }

    /// The whole new text, where there is one.
    pub fn into_xml(self) -> Option<String> {
        match self {
            Self::Tuned { xml, .. } => Some(xml),
            Self::Unchanged(_) | Self::Refused(_) => None,
        }
    }

    /// The plan of any decision.
    pub fn plan(&self) -> &Plan {
        match self {
            Self::Unchanged(plan) | Self::Refused(plan) | Self::Tuned { plan, .. } => plan,
        }
    }
}

/// Why there is no decision: the input is broken.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The XML cannot be read.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The policy cannot be followed on this host or for this guest.
    #[error("{0}")]
    Policy(String),
}

/// Decides what becomes of a domain.
///
/// # Errors
/// The XML is broken, or the policy asks for what contradicts itself for this guest.
pub fn decide(xml: &str, inputs: &Inputs<'_>) -> Result<Decision, EngineError> {
    let document = Document::parse(xml)?;
    let current = domain::parse::parse(&document)?;
    let mut provenance = rewrite::provenance(&document)?;
    let resolved = before::has_resolved_cpu(provenance.as_ref(), &current, inputs.scope);
    let stays = |target: &Target| resolved && matches!(target, Target::CpuMode | Target::CpuFeature(_));
    if let Some(provenance) = &mut provenance {
        provenance.owned.retain(|owned| !stays(&owned.target));
    }
    let reverted = rewrite::revert_but(&document, stays)?;
    let changed = before::changed_by_hand(&reverted, inputs.scope);
    let mut reshaped = false;
    if let Some(provenance) = &mut provenance {
        let shape = &mut provenance.head.shape;
        if inputs.scope == Scope::Boot && !before::is_for(shape, &current) {
            *shape = rewrite::Shape::default();
            reshaped = true;
        }
        shape.topology = shape.topology.filter(|_| !changed.contains(&Target::Topology));
        if changed.contains(&Target::Cells) {
            shape.cells.clear();
        }
    }
    let base = Document::parse(&reverted.xml)?;
    let came = domain::parse::parse(&base)?;
    let domain = match inputs.scope {
        Scope::Boot => came.clone(),
        Scope::Incoming => incoming::without_foreign(came.clone(), inputs.host),
    };

    let mut plan = blank(&current, inputs.scope);
    let selection = match inputs.profile {
        Some(name) => {
            select::by_name(inputs.policy, name).map_err(|error| EngineError::Policy(error.to_string()))?
        }
        None => select::select(inputs.policy, &domain, inputs.facts.autostart),
    };
    plan.notes.chosen_by = selection.chosen_by.clone();
    plan.reasons.extend(selection.notes.iter().cloned());
    let Some(profile) = selection.profile else {
        plan.reasons
            .push("no rule matches and it asks for no profile".into());
        return Ok(Decision::Unchanged(plan));
    };
    plan.profile = Some(profile.name.clone());
    if profile.off {
        plan.reasons
            .push(format!("profile {} leaves it alone", profile.name));
        return Ok(Decision::Unchanged(plan));
    }
    if !matches!(domain.kind.as_str(), "kvm" | "qemu") {
        plan.reasons
            .push(format!("type '{}' is not run by QEMU", domain.kind));
        return Ok(Decision::Unchanged(plan));
    }
    let job = Job {
        inputs,
        document: &document,
        current: &current,
        base: &base,
        came: &came,
        domain: &domain,
        provenance,
        changed,
        reshaped,
        profile,
    };
    job.decide(plan)
}

fn blank(domain: &Domain, scope: Scope) -> Plan {
    Plan {
        version: 1,
        guest: domain.name.clone(),
        uuid: Some(domain.uuid.clone()).filter(|uuid| !uuid.is_empty()),
        profile: None,
        scope,
        verdict: Verdict::Unchanged,
        reasons: Vec::new(),
        placement: None,
        changes: Vec::new(),
        notes: Notes::default(),
    }
}

/// One decision being made.
struct Job<'a> {
    inputs: &'a Inputs<'a>,
    /// The XML as it came.
    document: &'a Document<'a>,
    current: &'a Domain,
    /// The XML before virtfit: what an administrator wrote.
    base: &'a Document<'a>,
    /// What that says.
    came: &'a Domain,
    /// The same without what is another host's.
    domain: &'a Domain,
    provenance: Option<Provenance>,
    /// What virtfit wrote and somebody changed since: it is theirs.
    changed: BTreeSet<Target>,
    /// Its shape was one of another number of vCPUs: all is decided afresh.
    reshaped: bool,
    profile: Profile,
}

impl Job<'_> {
    fn decide(self, mut plan: Plan) -> Result<Decision, EngineError> {
        let Inputs {
            host,
            policy,
            ledger,
            facts,
            scope,
            ..
        } = *self.inputs;
        let sets = sets::resolve(&policy.host, host);
        let taken = ledger::taken::taken(
            ledger,
            &self.current.uuid,
            &self.current.name,
            host,
            &sets.dedicated,
            &policy.host,
        );
        let wishes = Wishes::new(&self.profile, self.domain, host, scope, self.provenance.is_some());
        plan.notes.not_done.extend(wishes.left_out.iter().cloned());
        let supplies = supply::Supplies::new(host, &sets, &taken, &policy.host);
        let previous = self.previous_pins();
        let demanded = demand::demand(&demand::Context {
            wishes: &wishes,
            domain: self.domain,
            current: self.current,
            host,
            facts,
            policy: &policy.host,
            shape: self.shape(),
            supplies: &supplies,
            scope,
            bound: self.inputs.bound,
        });
        plan.notes.on_no_fit = Some(wishes.on_no_fit);
        plan.notes.dedicated_vcpus = wishes.dedicated.clone();
        let supplies = supplies.floating_within(demanded.demand.within.as_ref());
        plan.reasons.extend(demanded.broken.iter().cloned());
        let placed = match demanded.broken.is_empty() {
            true if wishes.profile.cpus == Cpus::Keep => self.as_it_is(&demanded, &supplies),
            true => self.place(&wishes, &demanded, &supplies, &previous),
            false => Err(Vec::new()),
        };
        let placed = placed.map(|mut placed| {
            self.keep_pins(&mut placed, &demanded);
            placed
        });
        let not_allowed = wishes.not_allowed(host, self.domain)?;
        let (placed, fits) = match placed {
            Ok(placed) if not_allowed.is_empty() || wishes.on_no_fit != OnNoFit::Refuse => {
                let left_out = not_allowed.into_iter().map(|(what, why)| (what.to_string(), why));
                plan.notes.not_done.extend(left_out);
                (placed, true)
            }
            placed => {
                plan.reasons.extend(placed.err().unwrap_or_default());
                plan.reasons.extend(not_allowed.into_iter().map(|(_, why)| why));
                match wishes.on_no_fit {
                    OnNoFit::Refuse => {
                        plan.verdict = Verdict::Refused;
                        return Ok(Decision::Refused(plan));
                    }
                    OnNoFit::RunUntuned => {
                        plan.reasons
                            .push("it runs untuned (on_no_fit = run-untuned)".into());
                        return Ok(Decision::Unchanged(plan));
                    }
                    OnNoFit::RunShared => {
                        plan.reasons
                            .push("it runs on the shared CPUs (on_no_fit = run-shared)".into());
                        match demanded.floating(host, &supplies) {
                            Some(mut placed) => {
                                self.keep_pins(&mut placed, &demanded);
                                (placed, false)
                            }
                            None => {
                                plan.reasons.push("and there are no shared CPUs to run on".into());
                                return Ok(Decision::Unchanged(plan));
                            }
                        }
                    }
                }
            }
        };
        if placed.bounded {
            plan.reasons
                .push("the search was cut short: a better place may exist".into());
        }
        if fits && !placed.own_cores && demanded.demand.kept.is_empty() {
            plan.reasons
                .push("some of its vCPUs share a core: there are not enough free cores for one each".into());
        }
        let support = support::place(&support::Context {
            wishes: &wishes,
            domain: self.domain,
            host,
            sets: &sets,
            placed: &placed,
            fits,
        })?;
        plan.reasons.extend(support.reasons.iter().cloned());
        let mut list = settings::list(&settings::Context {
            wishes: &wishes,
            domain: self.domain,
            current: self.current,
            host,
            facts,
            dedicated: &sets.dedicated,
            placed: &placed,
            demanded: &demanded,
            support: &support,
            fits,
            scope,
            provenance: self.provenance.as_ref(),
            changed: &self.changed,
            shaped: self.shape().is_some(),
        });
        let removals = incoming::removals(self.came, self.domain, &list.settings);
        list.settings.extend(removals);
        let stale = stale::reasons(self.domain, host, &list.settings);
        let said = |reason: &String| {
            reason.starts_with("the vcpupin")
                && plan
                    .reasons
                    .iter()
                    .any(|other| other.contains("is pinned to CPUs"))
        };
        let stale: Vec<String> = stale.into_iter().filter(|reason| !said(reason)).collect();
        plan.reasons.extend(stale);
        plan.notes.kept.extend(list.kept);
        plan.notes.not_done.extend(list.not_done);
        let mut shown = show(&placed, &support, list.shown, fits, self.domain);
        shown.dedicated = dedicated(&placed, &demanded, fits);
        plan.placement = Some(shown);
        let head = Head {
            profile: self.profile.name.clone(),
            policy_digest: policy.digest.clone(),
            shape: list.shape,
            withheld: if fits {
                placed.withheld.clone()
            } else {
                CpuSet::new()
            },
            on_no_fit: wishes.on_no_fit,
        };
        self.write(plan, &list.settings, &head)
    }

    fn write(
        self,
        mut plan: Plan,
        settings: &[crate::settings::Setting],
        head: &Head,
    ) -> Result<Decision, EngineError> {
        let settled = match &self.provenance {
            Some(provenance) => {
                // Another policy that asks for the same is no difference.
                let head = Head {
                    policy_digest: provenance.head.policy_digest.clone(),
                    ..head.clone()
                };
                rewrite::in_force(self.document, provenance, settings, &head)?
            }
            None => settings.is_empty(),
        };
        if settled {
            let tuned = self.provenance.is_some();
            plan.reasons.push(
                if tuned {
                    "it is tuned already"
                } else {
                    "there is nothing to change"
                }
                .into(),
            );
            return Ok(Decision::Unchanged(plan));
        }
        let xml = match settings.is_empty() {
            true => self.base.text().to_string(),
            false => rewrite::apply(self.base, settings, head)?,
        };
        let after = Document::parse(&xml)?;
        plan.changes = rewrite::changes(self.document, &after, settings, self.provenance.as_ref())?;
        if self.inputs.scope == Scope::Incoming {
            plan.changes
                .iter_mut()
                .for_each(|change| change.takes_effect = "now");
        }
        plan.verdict = Verdict::Tuned;
        Ok(Decision::Tuned { xml, plan })
    }

    /// The shape the guest was given by this profile. Another profile is another wish: it decides afresh, except on the
    /// way in, where what the guest sees cannot change.
    fn shape(&self) -> Option<&rewrite::Shape> {
        let head = &self.provenance.as_ref()?.head;
        let same = head.profile == self.profile.name || self.inputs.scope == Scope::Incoming;
        let same = same && self.inputs.keep != Keep::Nothing;
        Some(&head.shape).filter(|shape| same && shape.threads > 0)
    }

    /// The pins virtfit wrote and nobody changed since; for a guest without provenance those it had earlier.
    fn previous_pins(&self) -> BTreeMap<VcpuId, CpuSet> {
        if self.reshaped || self.inputs.keep != Keep::Place {
            return BTreeMap::new();
        }
        if self.provenance.is_none() {
            return self.inputs.earlier.cloned().unwrap_or_default();
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

    /// Where an administrator said where vCPUs run, they run there: by their own pin, or floating in `vcpu@cpuset`.
    fn keep_pins(&self, placed: &mut Placed, demanded: &Demanded) {
        if let Some(cpuset) = &demanded.demand.within {
            placed
                .vcpus
                .values_mut()
                .filter(|pin| pin.len() != 1 && !pin.is_subset(cpuset))
                .for_each(|pin| *pin = cpuset.clone());
        }
        placed.vcpus.extend(demanded.kept_pins.clone());
    }

    /// vCPUs are left alone (`cpus = "keep"`): memory goes where their pins are, if they have any.
    fn as_it_is(&self, demanded: &Demanded, supplies: &supply::Supplies) -> Result<Placed, Vec<String>> {
        let host = self.inputs.host;
        let pinned: BTreeMap<VcpuId, CpuSet> = self
            .domain
            .all_vcpus()
            .iter()
            .filter_map(|vcpu| Some((vcpu, self.domain.pin_of(vcpu)?.clone())))
            .collect();
        let mut placed = kept::as_they_are(host, &demanded.demand, &supplies.now, &pinned)?;
        for vcpu in self.domain.all_vcpus().iter() {
            placed.vcpus.entry(vcpu).or_insert_with(|| sets::usable(host));
        }
        Ok(placed)
    }

    /// The place the guest has, if it is still good; else the best there is.
    fn place(
        &self,
        wishes: &Wishes,
        demanded: &Demanded,
        supplies: &supply::Supplies,
        previous: &BTreeMap<VcpuId, CpuSet>,
    ) -> Result<Placed, Vec<String>> {
        let demand = &demanded.demand;
        let host = self.inputs.host;
        let shown = self.mirrored(wishes, demand);
        let pins: BTreeMap<VcpuId, CpuSet> = previous
            .iter()
            .filter(|(vcpu, _)| demand.dedicated.contains(**vcpu) && !demand.kept.contains_key(vcpu))
            .chain(&demand.kept)
            .map(|(vcpu, pin)| (*vcpu, pin.clone()))
            .collect();
        let whole =
            !demand.dedicated.is_empty() && demand.dedicated.iter().all(|vcpu| pins.contains_key(&vcpu));
        let as_it_runs = self.with_its_pages(demand);
        if whole
            && !previous.is_empty()
            && let Some(placed) = kept::still_good(
                host,
                &where_they_float(as_it_runs.as_ref().unwrap_or(demand), host, previous),
                &supplies.now,
                &pins,
            )
            && shown.is_none_or(|shown| same::mirrors(host, &placed, shown, wishes.x86))
        {
            return Ok(placed);
        }
        if let Some(demand) = as_it_runs
            && let Ok(placed) = placement::place(host, &demand, &supplies.now, &supplies.empty)
            && shown.is_none_or(|shown| same::mirrors(host, &placed, shown, wishes.x86))
        {
            return Ok(placed);
        }
        let placed = placement::place(host, demand, &supplies.now, &supplies.empty)?;
        let Some(shown) = shown.filter(|shown| !same::mirrors(host, &placed, *shown, wishes.x86)) else {
            return Ok(placed);
        };
        match same::place(host, demand, supplies, shown, wishes.x86) {
            Some(placed) => Ok(placed),
            // What comes in runs already; what it sees cannot be mended here.
            None if self.inputs.scope == Scope::Incoming => Ok(placed),
            None => Err(vec![format!(
                "only another shape fits: it sees sockets={} dies={} cores={} threads={}",
                shown.sockets, shown.dies, shown.cores, shown.threads
            )]),
        }
    }

    /// The topology that mirrored the CPUs chosen when the guest got its shape, which a place has to mirror again.
    fn mirrored(&self, wishes: &Wishes, demand: &Demand) -> Option<Topology> {
        let shape = self.shape()?;
        let mirrored = wishes.profile.topology == TopologyRule::Match
            && demand.kept.is_empty()
            && demand.dedicated.len() as u32 == demand.vcpus;
        shape
            .topology
            .filter(|shown| mirrored && shown.threads == shape.threads)
    }

    /// For a running guest that virtfit fitted: only the page size it runs with. While it runs libvirt shows other
    /// amounts of memory (rounded up to whole MiB) than the definition has, and other pages may be free than at its start.
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

/// The demand with each cell that has no dedicated vCPU on the node its vCPUs float on.
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

/// A placement as plans show it.
fn show(
    placed: &Placed,
    support: &support::Support,
    topology: Option<crate::domain::Topology>,
    fits: bool,
    domain: &Domain,
) -> Placement {
    let mut cells: Vec<PlacedCell> = placed
        .cells
        .iter()
        .map(|cell| PlacedCell {
            id: cell.id,
            vcpus: cell.vcpus.clone(),
            memory_kib: cell.memory,
            node: Some(cell.node).filter(|_| placed.nodes.len() <= placed.cells.len()),
        })
        .collect();
    if cells.is_empty() {
        cells.push(PlacedCell {
            id: CellId(0),
            vcpus: domain.all_vcpus(),
            memory_kib: domain.memory,
            node: None,
        });
    }
    Placement {
        vcpus: placed.vcpus.clone(),
        emulator: support.emulator.clone().unwrap_or_default(),
        iothreads: support.iothreads.clone(),
        nodes: placed.nodes.clone(),
        cells,
        page_kib: placed.page.filter(|_| fits),
        topology,
        withheld: placed.withheld.clone(),
        dedicated: CpuSet::new(),
        fits,
    }
}

/// What a place takes for itself: nothing where it floats, but for pins an administrator wrote.
fn dedicated(placed: &Placed, demanded: &Demanded, fits: bool) -> CpuSet {
    let kept = |vcpu: &VcpuId| demanded.kept_pins.contains_key(vcpu);
    let own = |vcpu: &VcpuId| fits && demanded.demand.dedicated.contains(*vcpu);
    let mut cpus = CpuSet::new();
    for (_, pin) in placed.vcpus.iter().filter(|(vcpu, _)| own(vcpu) || kept(vcpu)) {
        cpus.extend_from(pin);
    }
    if fits {
        cpus.extend_from(&placed.extra.iter().copied().collect());
    }
    cpus
}
