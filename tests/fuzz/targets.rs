//! Targets: each reads bytes as one kind of input, checks what must hold for all inputs, and
//! returns a word on the result. A target panics where a rule does not hold.
#![allow(clippy::unwrap_used, dead_code)]

use virtfit::domain::Domain;
use virtfit::engine::{Decision, Inputs, Question, decide};
use virtfit::host::Host;
use virtfit::ledger::claims::Written;
use virtfit::ledger::live_pins::Records;
use virtfit::ledger::reservation::{Daemon, Reservation};
use virtfit::ledger::{Holder, Ledger, status, taken};
use virtfit::policy::profile::{OnNoFit, VcpuList};
use virtfit::policy::{Policy, cpu_sets, select};
use virtfit::rewrite::{self, Head, Shape};
use virtfit::types::cpulist;
use virtfit::types::devices::GuestFacts;
use virtfit::types::ids::{HostCpu, KiB, NodeId, VcpuId};
use virtfit::types::idset::{CpuSet, NodeSet, VcpuSet};
use virtfit::types::plan::Scope;
use virtfit::types::reason::Basis;
use virtfit::types::setting::{DiskAttribute, Setting, Target, Value};
use virtfit::xml::{Document, Element};

/// Reads a document and visits every element.
pub fn xml(input: &[u8]) -> String {
    let document = match Document::parse_bytes(input) {
        Ok(document) => document,
        Err(error) => return error.problem,
    };
    assert_eq!(document.text().as_bytes(), input);
    let mut elements = 0;
    let mut open: Vec<Element<'_>> = vec![document.root()];
    while let Some(element) = open.pop() {
        elements += 1;
        assert!(element.raw().starts_with('<') && element.raw().ends_with('>'));
        element.text();
        element.namespace();
        for (name, _) in element.raw_attrs() {
            assert!(element.attr(name).is_some() && element.attr_span(name).is_some());
        }
        open.extend(element.children());
    }
    format!("{} elements", elements.min(4))
}

/// Puts settings into a domain and takes them out again: nothing else changes.
pub fn rewriting(input: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(input) else {
        return "not UTF-8".into();
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(_) => return "not XML".into(),
    };
    let domain = match virtfit::domain::parse::parse(&document) {
        Ok(domain) => domain,
        Err(error) => return error.problem,
    };
    match rewrite::provenance(&document) {
        Err(error) => return error.problem,
        Ok(Some(_)) => {
            let before = match rewrite::revert(&document) {
                Ok(before) => before.xml,
                Err(error) => return error.problem,
            };
            let again =
                Document::parse(&before).unwrap_or_else(|error| panic!("reverted to {error}: {before}"));
            assert!(
                matches!(rewrite::provenance(&again), Ok(None)),
                "provenance stays: {before}"
            );
            return "reverted".into();
        }
        Ok(None) => {}
    }
    assert_eq!(
        rewrite::revert(&document).unwrap().xml,
        text,
        "revert changes what is not virtfit's"
    );
    let tuned = match rewrite::apply(&document, &settings(&domain), &head()) {
        Ok(tuned) => tuned,
        Err(error) => return error.problem,
    };
    let after = Document::parse(&tuned).unwrap_or_else(|error| panic!("tuned to {error}: {tuned}"));
    let provenance = rewrite::provenance(&after).unwrap();
    assert!(provenance.is_some(), "no provenance in {tuned}");
    let back = rewrite::revert(&after).unwrap().xml;
    assert_eq!(
        back, text,
        "revert does not bring back what was there; tuned: {tuned}"
    );
    "there and back".into()
}

fn settings(domain: &Domain) -> Vec<Setting> {
    let setting = |target, value| Setting {
        target,
        value,
        why: Basis::ByProfile,
    };
    let cpus = |list: &str| Value::Cpus(cpulist::parse::<HostCpu>(list).unwrap());
    let vcpus = domain.vcpus.min(4);
    let mut all: Vec<Setting> = (0..vcpus)
        .map(|vcpu| setting(Target::VcpuPin(VcpuId(vcpu)), cpus("5")))
        .collect();
    let numa = Value::Numa {
        mode: "strict",
        nodes: NodeSet::one(NodeId(0)),
    };
    all.push(setting(Target::EmulatorPin, cpus("0-1,4")));
    all.push(setting(Target::NumaMemory, numa));
    all.push(setting(Target::Hugepages, Value::PageSize(KiB(2048))));
    all.push(setting(Target::CpuMode, Value::CpuMode("host-passthrough")));
    all.push(setting(Target::HintDedicated, Value::Text("on".into())));
    let mut seen = std::collections::BTreeSet::new();
    for disk in domain
        .disks
        .iter()
        .take(2)
        .filter(|disk| seen.insert(&disk.target))
    {
        let target = Target::Disk(disk.target.clone(), DiskAttribute::Io);
        all.push(setting(target, Value::Text("native".into())));
    }
    all
}

fn head() -> Head {
    Head {
        uuid: None,
        profile: "fit".into(),
        policy_digest: "0123456789ab".into(),
        shape: Shape::default(),
        withheld: CpuSet::new(),
        on_no_fit: OnNoFit::RunShared,
    }
}

/// Makes a decision; a second one changes nothing, and a revert gives the input.
pub fn decision(input: &[u8], host: &Host) -> String {
    let Ok(text) = std::str::from_utf8(input) else {
        return "not UTF-8".into();
    };
    let policy = Policy::builtin();
    // Each input is tried in one way, which depends on the input alone.
    let sum: usize = input.iter().map(|byte| usize::from(*byte)).sum();
    let profile = ["fit", "local", "isolated", "realtime", "shared", "pin"][sum % 6];
    let facts = GuestFacts::default();
    let ledger = Ledger::default();
    let ask = |text: &str| {
        let inputs = Inputs {
            host,
            policy: &policy,
            ledger: &ledger,
            facts: &facts,
            question: Question {
                profile: Some(profile),
                ..Question::of(if sum.is_multiple_of(5) {
                    Scope::Incoming
                } else {
                    Scope::Boot
                })
            },
        };
        decide(text, &inputs)
    };
    let (tuned, scope) = match ask(text) {
        Err(error) => return error.to_string(),
        Ok(Decision::Refused(plan)) => return plan.reasons_line(),
        Ok(Decision::Unchanged(plan)) => return plan.reasons_line(),
        Ok(Decision::Tuned { xml, plan }) => (xml, plan.scope),
    };
    let fresh =
        Document::parse(text).is_ok_and(|document| matches!(rewrite::provenance(&document), Ok(None)));
    let after = Document::parse(&tuned).unwrap_or_else(|error| panic!("tuned to {error}: {tuned}"));
    virtfit::domain::parse::parse(&after).unwrap_or_else(|error| panic!("tuned to {error}: {tuned}"));
    if fresh {
        assert_eq!(
            rewrite::revert(&after).unwrap().xml,
            text,
            "not what was there; tuned: {tuned}"
        );
    }
    match ask(&tuned) {
        Ok(Decision::Unchanged(_)) => {}
        Ok(Decision::Tuned { xml, .. }) => {
            assert_eq!(xml, tuned, "tuned twice ({profile}, {scope:?}) is not tuned once")
        }
        other => panic!("tuned ({profile}, {scope:?}) once, then {other:?}: {tuned}"),
    }
    format!("tuned by {profile}")
}

/// Reads a policy and uses it.
pub fn policy(input: &[u8], host: &Host) -> String {
    let Ok(text) = std::str::from_utf8(input) else {
        return "not UTF-8".into();
    };
    match Policy::parse(text, "fuzz.toml") {
        Err(errors) => {
            let shown = errors.to_string();
            assert!(!shown.is_empty());
            shown.lines().next().unwrap_or_default().to_string()
        }
        Ok(policy) => {
            assert_eq!(policy.digest.len(), 12);
            let sets = cpu_sets::resolve(&policy.host, host);
            assert!(sets.dedicated.is_subset(&host.online));
            assert!(
                sets.shared_now(host, &sets.dedicated)
                    .is_disjoint(&sets.dedicated)
            );
            let domain = Domain {
                name: "db-1".into(),
                vcpus: 4,
                ..Domain::default()
            };
            let selection = select::select(&policy, &domain, false);
            format!(
                "a policy: {}",
                selection.profile.map(|profile| profile.name).unwrap_or_default()
            )
        }
    }
}

/// Parses a cpulist: it prints in one form, with equal meaning.
pub fn cpus(input: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(input) else {
        return "not UTF-8".into();
    };
    let whole = VcpuSet::first_n(70);
    let _ = VcpuList(text.into()).resolve(70);
    let _ = cpulist::parse_within::<VcpuId>(text, &whole);
    match cpulist::parse::<HostCpu>(text) {
        Err(error) => {
            assert!(error.to_string().chars().count() < 250, "{error}");
            error.problem.to_string()
        }
        Ok(set) => {
            let shown = set.to_string();
            assert_eq!(cpulist::parse::<HostCpu>(&shown).unwrap(), set, "{shown}");
            format!("{} ranges", shown.split(',').count().min(4))
        }
    }
}

/// Reads a status file or a definition as the ledger does.
pub fn ledger(input: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(input) else {
        return "not UTF-8".into();
    };
    if let Ok(written) = Written::parse(text, KiB(2048)) {
        let policy = Policy::builtin();
        claims_no_cpu_without_a_rule(&written, &policy);
        let profile = policy.profile("isolated").unwrap();
        let claim = written.claim_by(Some(profile), &policy.host, true);
        return format!("a claim of {}", claim.map_or(0, |claim| claim.cpus.len().min(2)));
    }
    match status::parse(text, KiB(2048), &Records::default()) {
        Err(error) => error.problem,
        Ok(read) => {
            let (pins, wide) = (read.holder.pins.len().min(4), read.holder.wide.len().min(2));
            format!("a holder of {pins} pins and {wide} wide masks")
        }
    }
}

/// Checks that a guest without a rule claims at most the pages that it needs to start.
fn claims_no_cpu_without_a_rule(written: &Written, policy: &Policy) {
    let claim = written.claim(policy, true).unwrap_or_default();
    let cpus = claim.cpus.union(&claim.withheld);
    assert!(cpus.is_empty(), "claims {cpus} without a rule");
    assert!(!claim.own_pages || !claim.pages.is_empty(), "{claim:?}");
}

/// Compares a running guest whose record is forged with one that has equal pins and no record: it
/// takes no more from others, except siblings of CPUs that these pins name; and beside both another
/// guest gets an equal placement.
pub fn forged(input: &[u8], host: &Host) -> String {
    let Ok(text) = std::str::from_utf8(input) else {
        return "not UTF-8".into();
    };
    let running = |domain: &str| {
        format!(
            "<domstatus state='running' pid='9'><vcpus><vcpu id='0' pid='7'/></vcpus>{domain}</domstatus>"
        )
    };
    let Some(honest) = without_record(text) else {
        return "not XML".into();
    };
    let read = |text: &str| status::parse(&running(text), KiB(2048), &Records::default());
    let [Ok(forged), Ok(honest)] = [text, &honest].map(read) else {
        return "no domain".into();
    };
    // With a profile the wide masks count too.
    let [forged, honest] = [forged, honest].map(|read| {
        let mut holder = Holder::clone(&read.holder);
        holder.pins.extend(std::mem::take(&mut holder.wide));
        holder
    });
    let policy = Policy::builtin();
    let dedicated = cpu_sets::resolve(&policy.host, host).dedicated;
    let siblings = |cpus: &CpuSet| -> CpuSet {
        let cores = cpus.iter().filter_map(|cpu| host.core_of(cpu));
        cores.flat_map(|core| core.cpus.iter().copied()).collect()
    };
    assert!(
        forged.occupies.is_subset(&honest.occupies),
        "occupies {} by its record, {} by its pins",
        forged.occupies,
        honest.occupies
    );
    let mut same = forged.occupies == honest.occupies;
    for share_cores in [true, false] {
        let held = [&forged, &honest].map(|holder| taken::held(holder, host, &dedicated, share_cores));
        assert!(
            held[0].is_subset(&held[1].union(&siblings(&held[1]))),
            "holds {} by its record, {} by its pins",
            held[0],
            held[1]
        );
        same &= held[0] == held[1];
    }
    if let Ok(written) = Written::parse(text, KiB(2048)) {
        claims_no_cpu_without_a_rule(&written, &policy);
        let pins = honest.pins.iter().fold(CpuSet::new(), |all, pin| all.union(pin));
        for profile in policy.profiles.values() {
            let claim = written.claim_by(Some(profile), &policy.host, false);
            let cpus = claim.unwrap_or_default().cpus;
            assert!(cpus.is_subset(&pins), "claims {cpus}, pinned to {pins}");
        }
    }
    if !same {
        return "holds less, or siblings".into();
    }
    let beside = |holder: Holder| {
        let ledger = Ledger {
            holders: vec![holder.into()],
            claims: Vec::new(),
        };
        let inputs = Inputs {
            host,
            policy: &policy,
            ledger: &ledger,
            facts: &GuestFacts::default(),
            question: Question {
                profile: Some("fit"),
                ..Question::of(Scope::Boot)
            },
        };
        let decision = decide(OTHER, &inputs).unwrap();
        decision.xml().map(str::to_string)
    };
    let held = forged.pins.len().min(3);
    assert_eq!(
        beside(forged),
        beside(honest),
        "another guest is given something else"
    );
    format!("the same beside {held} pins")
}

/// Makes the guest beside the forged one.
const OTHER: &str = "<domain type='kvm'><name>other</name><uuid>5b1f7a0c-0000-4000-8000-00000000000f</uuid>\
                     <memory unit='GiB'>2</memory><vcpu>4</vcpu><os><type arch='x86_64'>hvm</type></os></domain>";

/// Returns the text without virtfit's record, readable or not.
fn without_record(text: &str) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let root = document.root();
    let notes = root
        .children_named("metadata")
        .flat_map(|metadata| metadata.children());
    let mut out = text.to_string();
    let spans: Vec<_> = notes
        .filter(|note| {
            note.namespace()
                .is_some_and(|uri| uri.starts_with("https://virtfit.dev/ns/domain/"))
        })
        .map(|note| note.span())
        .collect();
    for span in spans.into_iter().rev() {
        out.replace_range(span, "");
    }
    Some(out)
}

/// Returns a domain as virtfit leaves it on this host, for inputs to start from.
pub fn tuned(text: &str, host: &Host, profile: &str) -> Option<String> {
    let inputs = Inputs {
        host,
        policy: &Policy::builtin(),
        ledger: &Ledger::default(),
        facts: &GuestFacts::default(),
        question: Question {
            profile: Some(profile),
            ..Question::of(Scope::Boot)
        },
    };
    decide(text, &inputs).ok()?.xml().map(str::to_string)
}

/// Writes a reservation that parses and reads it again: it is unchanged.
pub fn reservation(input: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(input) else {
        return "not UTF-8".into();
    };
    match Reservation::from_json(text) {
        Err(error) => error.to_string(),
        Ok(reservation) => {
            let again = Reservation::from_json(&reservation.to_json().unwrap()).unwrap();
            assert_eq!(again, reservation);
            let holder = reservation.holder();
            let void = reservation.void(1_000_000, Some("boot"), Daemon::StartedAt(5), false);
            format!("{} pins, {void:?}", holder.pins.len().min(2))
        }
    }
}
