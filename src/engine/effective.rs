//! Effective profile: what this guest, scope and host can follow of a profile.

use crate::domain::Domain;
use crate::domain::qemu::Ruled;
use crate::engine::EngineError;
use crate::engine::supply::Supplies;
use crate::host::Host;
use crate::placement::Placed;
use crate::policy::Profile;
use crate::policy::profile::{
    CpuMode, Cpus, Emulator, Hugepages, IothreadCpus, MemoryMode, Numa, OnNoFit, TopologyRule,
};
use crate::types::cpulist::CpulistError;
use crate::types::ids::HostCpu;
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::plan::{Note, Scope};
use crate::types::reason::{Basis, LeftOut, NoPlace, Outcome, Reason};
use crate::types::setting::Target;
use crate::types::subject::Subject;

/// Profile with everything taken out that does not apply.
#[derive(Clone)]
pub(crate) struct EffectiveProfile {
    /// Profile, changed where the guest or the scope demands it.
    pub profile: Profile,
    /// vCPUs that get a CPU of their own.
    pub dedicated: VcpuSet,
    /// vCPUs that get real-time scheduling.
    pub realtime: VcpuSet,
    /// Settings the guest can see may be changed.
    pub visible: bool,
    /// The guest's topology mirrors the chosen CPUs, or one that stays has to be true of them.
    pub mirrors: bool,
    /// The guest is emulated by TCG: nothing that only KVM knows is written.
    pub tcg: bool,
    /// The guest is an x86 one.
    pub x86: bool,
    /// A start with the CPU mode asked for failed: what virtfit wrote of the guest's CPU is taken
    /// out.
    pub cpu_fails: bool,
    /// Settings an administrator wrote stay (`on_existing = "keep"`).
    pub keep: bool,
    /// Course to take when nothing fits.
    pub on_no_fit: OnNoFit,
    /// vCPU slots that float, as they are empty.
    pub floating_slots: VcpuSet,
    /// Parts of the profile that this guest cannot have.
    pub left_out: Vec<Note>,
    /// Parts of the profile that options of QEMU rule.
    pub ruled: Vec<Note>,
    /// Text on how the policy contradicts itself for this guest.
    broken: Option<String>,
}

impl EffectiveProfile {
    /// Works out what applies. `given`: virtfit gave the guest a CPU mode before.
    pub(crate) fn new(profile: &Profile, domain: &Domain, host: &Host, scope: Scope, given: bool) -> Self {
        let mut profile = profile.clone();
        let mut left_out = Vec::new();
        let mut broken = None;
        let all = domain.all_vcpus();
        let foreign = is_foreign(&domain.arch, &host.arch);
        let tcg = domain.is_tcg();
        let incoming = scope == Scope::Incoming;
        // An emulated guest has neither the host's CPU nor, if it is foreign, its huge pages.
        if foreign {
            let why = LeftOut::Foreign {
                guest: domain.arch.clone(),
                host: host.arch.clone(),
            };
            left_out.push(Note::new(Subject::ForeignGuest, why));
            profile.hugepages = Hugepages::Off;
            profile.locked = false;
            profile.realtime.vcpus.0.clear();
        } else if tcg {
            left_out.push(Note::new(Subject::KvmSettings, LeftOut::Emulated));
        }
        // What the guest sees stays for several reasons, and a topology that stays decides the
        // shape.
        if domain.launch_security && !profile.keep_guest_visible {
            left_out.push(Note::new(Subject::GuestVisible, LeftOut::Measured));
        }
        let mirrors = profile.topology == TopologyRule::Match;
        let visible = !(profile.keep_guest_visible || domain.launch_security || foreign || incoming);
        if !visible {
            profile.topology = TopologyRule::Keep;
        }
        if domain.vcpu_placement_auto && !profile.override_existing {
            left_out.push(Note::new(Subject::AllPins, LeftOut::NumadDecides));
            profile.cpus = Cpus::Keep;
        }
        let ruled = ruled(domain, &mut profile);
        // A CPU mode with which QEMU failed before would only fail again.
        let tried = visible && !tcg && profile.cpu_mode != CpuMode::Keep;
        let cpu_fails = match tried {
            true => host.failed.cpu_mode(domain, profile.cpu_mode, given),
            false => None,
        };
        if let Some(why) = &cpu_fails {
            left_out.push(Note::new(Subject::Value(Target::CpuMode), why.clone()));
            profile.cpu_mode = CpuMode::Keep;
        }
        // Lists of vCPUs depend on the guest's number of vCPUs, so they can be wrong for one guest.
        let mut list = |vcpus: Result<VcpuSet, CpulistError>, key: &str| {
            vcpus.unwrap_or_else(|error| {
                broken = Some(format!("profile {}: {key}: {error}", profile.name));
                VcpuSet::new()
            })
        };
        let dedicated = list(profile.dedicated(domain.vcpus), "dedicated_vcpus");
        // A guest without any of the vCPUs that are listed floats altogether.
        if profile.cpus == Cpus::Mixed && dedicated.is_empty() {
            profile.cpus = Cpus::Shared;
        }
        let realtime = list(profile.realtime.vcpus.resolve(domain.vcpus), "realtime.vcpus");
        // Emulator threads may not run on real-time vCPUs' CPUs: with nothing else left, the policy
        // is in error.
        let guest_threads =
            profile.emulator == Emulator::Guest || profile.iothread_cpus == IothreadCpus::Guest;
        if broken.is_none() && guest_threads && !all.is_empty() && all.is_subset(&realtime) {
            broken = Some(format!(
                "profile {}: emulator or iothreads on the guest's own CPUs, but all its vCPUs are real-time ones: leave one \
                 out of realtime.vcpus (\"^0\") or choose housekeeping or isolate",
                profile.name
            ));
        }
        Self {
            visible,
            mirrors,
            tcg,
            x86: is_x86(domain, host),
            cpu_fails: cpu_fails.is_some(),
            keep: !profile.override_existing,
            on_no_fit: profile.on_no_fit,
            floating_slots: VcpuSet::new(),
            dedicated,
            realtime,
            left_out,
            ruled,
            broken,
            profile,
        }
    }

    /// Lets the empty vCPU slots float, so that the guest needs CPUs for the vCPUs it starts with
    /// alone. `None`: the guest has no such slots, or they float anyway.
    pub(crate) fn without_slots(&self, domain: &Domain) -> Option<Self> {
        let slots = self.dedicated.intersection(&domain.empty_slots);
        if slots.is_empty() {
            return None;
        }
        let mut less = self.clone();
        less.dedicated = less.dedicated.difference(&slots);
        less.profile.cpus = match less.dedicated.is_empty() {
            true => Cpus::Shared,
            false => Cpus::Mixed,
        };
        less.floating_slots = slots;
        Some(less)
    }

    /// Gives the empty slots of a placement the shared CPUs of its nodes. Fewer CPUs than slots are
    /// enough: none of them runs.
    ///
    /// # Errors
    /// The host has no shared CPUs beside the placement.
    pub(crate) fn float_slots(
        &self,
        placed: &mut Placed,
        host: &Host,
        supplies: &Supplies,
    ) -> Result<(), Vec<Reason>> {
        if self.floating_slots.is_empty() {
            return Ok(());
        }
        let own = placed.vcpus.values().filter(|pin| pin.len() == 1);
        let own = own.fold(placed.withheld.clone(), |all, pin| all.union(pin));
        let shared = supplies.now.shared.difference(&own);
        let on_nodes = |cpu: &HostCpu| {
            host.core_of(*cpu)
                .is_some_and(|core| placed.nodes.contains(&core.node))
        };
        let near: CpuSet = shared.iter().filter(on_nodes).collect();
        let room = if near.is_empty() { shared } else { near };
        if room.is_empty() {
            return Err(vec![NoPlace::NoSharedCpus.into()]);
        }
        let slots = self.floating_slots.iter();
        placed.vcpus.extend(slots.map(|slot| (slot, room.clone())));
        Ok(())
    }

    /// Returns whether guest cells are made where the guest spans nodes.
    pub(crate) fn makes_cells(&self) -> bool {
        self.visible && self.profile.numa == Numa::Match
    }

    /// Lists what is asked for and not allowed on this host.
    ///
    /// # Errors
    /// The policy contradicts itself for this guest.
    pub(crate) fn not_allowed(&self, host: &Host, domain: &Domain) -> Result<Vec<Note>, EngineError> {
        if let Some(problem) = &self.broken {
            return Err(EngineError::Policy(problem.clone()));
        }
        let mut out = Vec::new();
        let realtime = !self.realtime.is_empty() && (!self.keep || domain.vcpuscheds.is_empty());
        if realtime && (!host.rt_allowed || host.rt_runtime_us == Some(0)) {
            out.push(Note::new(Subject::RealtimeVcpus, Outcome::NoRealtime));
        }
        if self.profile.locked && !domain.locked && host.memlock_limited {
            out.push(Note::new(Subject::Value(Target::Locked), Outcome::NoLockedMemory));
        }
        Ok(out)
    }
}

/// Takes out of a profile what options of QEMU rule, with a note for each.
fn ruled(domain: &Domain, profile: &mut Profile) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut say = |part: Ruled, wanted: bool, what: Subject| {
        let option = domain.qemu.rules(&part).filter(|_| wanted);
        notes.extend(option.map(|option| Note::new(what, Basis::QemuOption { option })));
        option.is_some()
    };
    let wanted = profile.topology != TopologyRule::Keep;
    if say(Ruled::Topology, wanted, Subject::Value(Target::Topology)) {
        profile.topology = TopologyRule::Keep;
    }
    let wanted = profile.cpu_mode != CpuMode::Keep;
    if say(Ruled::CpuModel, wanted, Subject::CpuModel) {
        profile.cpu_mode = CpuMode::Keep;
    }
    let wanted = profile.numa == Numa::Match && !domain.has_cells();
    say(Ruled::Cells, wanted, Subject::Value(Target::Cells));
    let wanted = profile.numa != Numa::Off && profile.memory_mode != MemoryMode::Off;
    if say(Ruled::Memory, wanted, Subject::Memory) {
        profile.memory_mode = MemoryMode::Off;
    }
    notes
}

/// Returns whether the guest's instructions are not the host's. 32-bit guests of the host's family
/// run without emulation.
fn is_foreign(guest: &str, host: &str) -> bool {
    let family = |arch: &str| match arch {
        "i386" | "i486" | "i586" | "i686" | "x86_64" => "x86".to_string(),
        "armv7l" | "armv6l" | "aarch64" => "arm".to_string(),
        "ppc64" | "ppc64le" | "ppc" => "ppc".to_string(),
        "s390" | "s390x" => "s390".to_string(),
        other => other.to_string(),
    };
    !guest.is_empty() && !host.is_empty() && family(guest) != family(host)
}

pub(crate) fn is_x86(domain: &Domain, host: &Host) -> bool {
    let arch = if domain.arch.is_empty() {
        &host.arch
    } else {
        &domain.arch
    };
    arch == "x86_64" || (arch.starts_with('i') && arch.ends_with("86"))
}
