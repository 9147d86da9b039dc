//! Random states of guests, definitions, daemon, hook and policy. Whenever two running guests may
//! run on a CPU that one of them holds, or a guest is not where its profile wants it, `virtfit
//! status` exits 3 and names it; where nothing of the kind is true, it exits 0.
//!
//! The truth is worked out here from the generated state, by the definitions of the glossary alone,
//! without the code under test.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex};

use proptest::prelude::*;
use virtfit::status::Status;

use super::host::{By, Host, Made, of};

/// Set of CPUs, in a form of the test's own.
type Cpus = BTreeSet<u32>;

/// Wish of the policy for a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// No rule matches.
    Nothing,
    /// `cpus = "dedicated"`.
    Own,
    /// `cpus = "shared"`.
    Shared,
}

#[derive(Debug, Clone)]
struct State {
    guests: Vec<(Made, Wish)>,
    daemon: bool,
    /// Mode of the hook's file; `None`: it is missing.
    hook: Option<u32>,
    broken_policy: bool,
    disabled: bool,
}

/// CPUs of which guests get some for themselves; few, so that guests meet.
const OWN: [u32; 5] = [1, 2, 3, 17, 18];
/// Masks of several CPUs: housekeeping, shared with dedicated ones, dedicated alone.
const WIDE: [&str; 4] = ["0,8,16,24", "0,3,18", "0-31", "2-3"];
const HOUSEKEEPING: [u32; 4] = [0, 8, 16, 24];

fn mask() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => proptest::sample::select(&OWN[..]).prop_map(|cpu| cpu.to_string()),
        1 => Just("0".to_string()),
        3 => proptest::sample::select(&WIDE[..]).prop_map(String::from),
    ]
}

/// vCPU: its pin, and its mask in the kernel.
fn vcpu() -> impl Strategy<Value = (Option<(String, By)>, String)> {
    let by = prop_oneof![4 => Just(By::Virtfit), 1 => Just(By::Hand)];
    let pin = prop_oneof![5 => (mask(), by).prop_map(Some), 1 => Just(None)];
    // Mostly the mask is the pin.
    let moved = prop_oneof![9 => Just(None), 1 => mask().prop_map(Some)];
    (pin, moved).prop_map(|(pin, moved)| {
        let pinned = pin.as_ref().map_or("0-31".to_string(), |(cpus, _)| cpus.clone());
        (pin, moved.unwrap_or(pinned))
    })
}

fn guest(name: &'static str) -> impl Strategy<Value = (Made, Wish)> {
    let wish = prop_oneof![2 => Just(Wish::Nothing), 4 => Just(Wish::Own), 1 => Just(Wish::Shared)];
    let vcpus = proptest::collection::vec(vcpu(), 1..3);
    (wish, vcpus, proptest::bool::weighted(0.8)).prop_map(move |(wish, vcpus, runs)| {
        let (pins, masks) = vcpus.into_iter().unzip();
        let name = name.to_string();
        (
            Made {
                name,
                pins,
                masks,
                runs,
            },
            wish,
        )
    })
}

fn state() -> impl Strategy<Value = State> {
    let guests = prop_oneof![
        guest("a").prop_map(|a| vec![a]),
        (guest("a"), guest("b")).prop_map(|(a, b)| vec![a, b]),
        (guest("a"), guest("b"), guest("c")).prop_map(|(a, b, c)| vec![a, b, c]),
    ];
    let hook = prop_oneof![8 => Just(Some(0o755)), 1 => Just(Some(0o644)), 1 => Just(None)];
    let mostly = || proptest::bool::weighted(0.9);
    (guests, mostly(), hook, mostly(), mostly()).prop_map(|(guests, daemon, hook, whole, on)| State {
        guests,
        daemon,
        hook,
        broken_policy: !whole,
        disabled: !on,
    })
}

fn cpus(list: &str) -> Cpus {
    let ends = |part: &str| match part.split_once('-') {
        Some((first, last)) => (first.parse().unwrap(), last.parse().unwrap()),
        None => (part.parse().unwrap(), part.parse().unwrap()),
    };
    list.split(',')
        .map(ends)
        .flat_map(|(first, last): (u32, u32)| first..=last)
        .collect()
}

fn is_dedicated(cpu: u32) -> bool {
    !HOUSEKEEPING.contains(&cpu)
}

/// Returns the dedicated CPUs that are a running guest's own by its pins: each single one, and
/// hand-written masks of several that are a choice. virtfit's own masks of several CPUs float; one
/// written by hand that is wider than the vCPUs behind it is a choice only where the profile gives
/// CPUs.
fn holds(guest: &Made, wish: Wish) -> Cpus {
    let mut held = Cpus::new();
    for (list, by) in guest.pins.iter().flatten() {
        let pin = cpus(list);
        let everything = pin.len() == 32;
        let same = |other: &&(String, By)| other == &&(list.clone(), By::Hand);
        let behind = guest.pins.iter().flatten().filter(same).count();
        let is_choice = *by == By::Hand && !everything && (wish == Wish::Own || pin.len() <= behind);
        if pin.len() == 1 || is_choice {
            held.extend(pin.into_iter().filter(|cpu| is_dedicated(*cpu)));
        }
    }
    held
}

fn may_run(guest: &Made) -> Cpus {
    guest.masks.iter().flat_map(|mask| cpus(mask)).collect()
}

/// Returns why a guest is not where its profile wants it; `None`: it is, or a hand-written pin of
/// several CPUs leaves that open.
fn misplaced(guest: &Made, wish: Wish) -> Option<String> {
    let held = holds(guest, wish);
    let pins = guest.pins.iter().flatten().map(|(list, _)| cpus(list));
    let mut single: Vec<Cpus> = pins
        .filter(|pin| pin.len() == 1 && pin.is_subset(&held))
        .collect();
    let all = single.len();
    single.sort();
    single.dedup();
    if wish == Wish::Own && single.len() < all {
        return Some("two vCPUs have one CPU".into());
    }
    for (vcpu, (pin, mask)) in guest.pins.iter().zip(&guest.masks).enumerate() {
        let mask = cpus(mask);
        let alone = mask.len() == 1 && mask.iter().all(|cpu| held.contains(cpu));
        let by_virtfit = matches!(pin, Some((_, By::Virtfit)));
        let taste = matches!(pin, Some((list, By::Hand)) if cpus(list).len() > 1);
        match wish {
            Wish::Own if !alone && !taste => return Some(format!("vCPU {vcpu} has no CPU of its own")),
            Wish::Shared if by_virtfit && alone => return Some(format!("vCPU {vcpu} has a CPU of its own")),
            _ => {}
        }
        let pinned = pin.as_ref().map(|(list, _)| cpus(list));
        if pinned.is_some_and(|pinned| !mask.is_subset(&pinned)) {
            return Some(format!("vCPU {vcpu} is not on its pin"));
        }
    }
    None
}

fn set_up(host: &Host, state: &State) {
    let mut rules =
        String::from("[profile.own]\ninherits = \"fit\"\nhugepages = \"off\"\nnuma = \"off\"\n\n");
    for (guest, wish) in &state.guests {
        let profile = match wish {
            Wish::Nothing => continue,
            Wish::Own => "own",
            Wish::Shared => "shared",
        };
        let name = &guest.name;
        rules.push_str(&format!(
            "[[rule]]\nmatch = {{ name = \"{name}\" }}\nprofile = \"{profile}\"\n\n"
        ));
    }
    host.reset();
    host.policy(&rules);
    if state.broken_policy {
        let text = serde_json::to_string(&format!("{}{rules}", super::host::SETS)).unwrap();
        let kept = format!("[{{\"path\":\"/etc/virtfit/policy.toml\",\"tier\":\"main\",\"text\":{text}}}]\n");
        host.put("run/virtfit/policy.json", &kept);
        host.policy("[rule]\n");
    }
    if state.daemon {
        host.answer();
    }
    match state.hook {
        Some(mode) => host.hook(mode),
        None => host.remove("etc/libvirt/hooks"),
    }
    if state.disabled {
        host.put("run/virtfit/disabled", "");
    }
    for (guest, _) in &state.guests {
        host.guest(guest);
    }
}

/// Lists everything that is wrong and that the status does not report, or reports of another guest.
fn unsaid(state: &State, status: &Status, exit: i32) -> Vec<String> {
    let mut out = Vec::new();
    let running: Vec<&(Made, Wish)> = state.guests.iter().filter(|(guest, _)| guest.runs).collect();
    let is_named = |name: &str| of(status, name).notes.iter().any(|note| note.wrong);
    let mut trouble = false;
    let mut doubtful = false;
    for (guest, wish) in &running {
        if let Some(why) = misplaced(guest, *wish) {
            trouble = true;
            if !is_named(&guest.name) {
                out.push(format!("{}: {why}", guest.name));
            }
        }
        // A profile of shared CPUs may want it elsewhere for more reasons than are checked here.
        doubtful |= *wish == Wish::Shared || guest.pins.iter().flatten().any(|(_, by)| *by == By::Hand);
        for (other, other_wish) in running.iter().filter(|(other, _)| other.name != guest.name) {
            // virtfit's pins in a guest without a profile are no promise to that guest.
            let promised =
                *other_wish != Wish::Nothing || other.pins.iter().flatten().all(|(_, by)| *by == By::Hand);
            let both: Vec<u32> = may_run(guest)
                .intersection(&holds(other, *other_wish))
                .copied()
                .collect();
            if both.is_empty() {
                continue;
            }
            doubtful |= !promised;
            trouble |= promised;
            let named = of(status, &guest.name).notes.iter();
            let named = named.filter(|note| note.wrong && note.text.contains(&other.name));
            if promised && named.count() == 0 {
                out.push(format!(
                    "{} may run on {both:?}, which {} holds",
                    guest.name, other.name
                ));
            }
        }
    }
    let own = !state.daemon || state.hook != Some(0o755) || state.broken_policy || state.disabled;
    let expected = if trouble || own { 3 } else { 0 };
    if exit != expected && (expected == 3 || !doubtful) {
        out.push(format!("exit {exit}, not {expected}"));
    }
    if status.ok != (exit == 0) {
        out.push(format!("ok: {}, exit {exit}", status.ok));
    }
    out
}

/// Machine on which all states are set up, one after the other.
static HOST: LazyLock<Mutex<Host>> = LazyLock::new(|| Mutex::new(Host::new("")));

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(4), ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_wrong_is_said(state in state()) {
        let host = HOST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        set_up(&host, &state);
        let (status, exit) = host.status();
        let unsaid = unsaid(&state, &status, exit);
        prop_assert!(unsaid.is_empty(), "{unsaid:?}\n{}", String::from_utf8_lossy(&host.virtfit(&["status"]).stdout));
    }
}
