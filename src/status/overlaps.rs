//! Claims of several definitions on one CPU: at most one of their guests can get what its
//! definition says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::engine::Question;
use crate::ledger::{Holder, claims};
use crate::snapshot::Snapshot;
use crate::status::Guest;
use crate::status::note::{Code, Note, first_names};
use crate::types::guest_word::guest_word;
use crate::types::ids::{HostCpu, Id};
use crate::types::idset::{CpuSet, IdSet};
use crate::types::on_no_fit::OnNoFit;
use crate::types::plan::Scope;
use crate::types::plural::cpus;

/// Place of a guest in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u32);

impl Id for Place {
    const NOUN: &'static str = "guest";
    fn new(raw: u32) -> Self {
        Self(raw)
    }
    fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Adds a note to each guest whose CPUs others claim too. Guests that libvirt starts by itself
/// start together: among them an overlap is wrong. `guests` are in the order of their names.
pub(crate) fn note(view: &Snapshot, guests: &mut [Guest]) {
    // Anybody who may define guests may define thousands with one claim: sets keep that cheap.
    let mut claimants: BTreeMap<HostCpu, IdSet<Place>> = BTreeMap::new();
    let mut at_boot: IdSet<Place> = IdSet::new();
    for (place, guest) in (0..).map(Place).zip(guests.iter()) {
        for cpu in guest.claims.iter() {
            claimants.entry(cpu).or_default().insert(place);
        }
        if view.reading.autostart.contains(&guest.name) {
            at_boot.insert(place);
        }
    }
    let mut notes: Vec<(usize, Note)> = Vec::new();
    let mut surplus = Surplus {
        view,
        at_boot: &at_boot,
        known: BTreeMap::new(),
    };
    for (place, guest) in guests.iter().enumerate() {
        let mut others: IdSet<Place> = IdSet::new();
        for claiming in guest.claims.iter().filter_map(|cpu| claimants.get(&cpu)) {
            others.extend_from(claiming);
        }
        let own = Place(place as u32);
        others.remove(own);
        let together = match at_boot.contains(own) {
            true => others.intersection(&at_boot),
            false => IdSet::new(),
        };
        let apart = others.difference(&together);
        for (code, with, when) in [
            (Code::BootClaimsOverlap, together, " at host boot"),
            (Code::ClaimsOverlap, apart, ""),
        ] {
            if with.is_empty() {
                continue;
            }
            let shared = |cpu: &HostCpu| {
                claimants
                    .get(cpu)
                    .is_some_and(|claiming| !claiming.is_disjoint(&with))
            };
            let both: CpuSet = guest.claims.iter().filter(shared).collect();
            let first = with.iter().take(3);
            let first: Vec<&str> = first
                .filter_map(|at| Some(guests.get(at.0 as usize)?.name.as_str()))
                .collect();
            let verb = if with.len() == 1 { "does" } else { "do" };
            let names = first_names(&first, with.len());
            let text = format!("claims {}, as {verb} {names}{when}", cpus(&both));
            notes.push((
                place,
                match code {
                    Code::BootClaimsOverlap => at_boot_note(&mut surplus, text, guests, own, &with),
                    _ => Note::new(code, text),
                },
            ));
        }
    }
    for (place, note) in notes {
        guests[place].notes.push(note);
    }
}

/// Largest number of guests for which a place beside the others is searched.
const SEARCHES: usize = 16;

/// Guests that start at host boot and claim CPUs which others claim, too.
struct Surplus<'a> {
    view: &'a Snapshot,
    at_boot: &'a IdSet<Place>,
    /// Guests for which a place beside all others was searched; true: there is one.
    known: BTreeMap<Place, bool>,
}

impl Surplus<'_> {
    /// Returns whether a guest finds a place beside those that run and all others that start at
    /// host boot.
    fn has_room(&mut self, place: Place, guests: &[Guest]) -> bool {
        if let Some(known) = self.known.get(&place) {
            return *known;
        }
        let room = self.known.len() < SEARCHES && self.search(place, guests).unwrap_or(false);
        self.known.insert(place, room);
        room
    }

    fn search(&self, place: Place, guests: &[Guest]) -> Option<bool> {
        let name = &guests.get(place.0 as usize)?.name;
        let text = self.view.root.read_opt(claims::path(name)).ok()??;
        let mut view = self.view.clone();
        let holders = &mut Arc::make_mut(&mut view.reading).ledger.holders;
        for other in self.at_boot.iter().filter(|other| *other != place) {
            let other = guests.get(other.0 as usize)?;
            holders.push(Arc::new(Holder {
                uuid: other.uuid.clone(),
                name: other.name.clone(),
                pins: other.claims.iter().map(CpuSet::one).collect(),
                reservation: true,
                ..Holder::default()
            }));
        }
        let decision = view.decide(&text, Question::of(Scope::Boot)).ok()?;
        let placed = decision.plan().placement.as_ref();
        Some(placed.is_some_and(|placement| placement.fits))
    }
}

/// Returns the note on guests that start together with overlapping claims. The last of them by name
/// is the one that has to give way: to another place, or else out of the start at host boot.
fn at_boot_note(
    surplus: &mut Surplus<'_>,
    text: String,
    guests: &[Guest],
    own: Place,
    with: &IdSet<Place>,
) -> Note {
    let code = Code::BootClaimsOverlap;
    let all: Vec<Place> = with.iter().chain([own]).collect();
    let last = all.iter().copied().max().unwrap_or(own);
    let word = |place: &Place| {
        let guest = guests.get(place.0 as usize)?;
        Some(guest_word(&guest.name, &guest.uuid))
    };
    if surplus.has_room(last, guests) {
        let mut words: Vec<&str> = all.iter().filter_map(word).collect();
        words.sort_unstable();
        let command = match words.len() {
            0..=3 => format!("virtfit apply {}", words.join(" ")),
            _ => "virtfit apply --all".to_string(),
        };
        return Note::with_command(code, format!("{text}; there is room for them apart"), command);
    }
    let policy = &surplus.view.policy;
    let fallback = |place: &Place| {
        let profile = guests.get(place.0 as usize)?.profile.as_deref()?;
        Some(policy.profile(profile)?.on_no_fit)
    };
    let does = match all.iter().all(|place| fallback(place) == fallback(&last)) {
        true => fallback(&last),
        false => None,
    };
    let does = match does {
        Some(OnNoFit::RunShared) => "floats",
        Some(OnNoFit::RunUntuned) => "runs untuned",
        Some(OnNoFit::Refuse) => "is refused",
        None => "gets none of its own",
    };
    let said = format!("{text}: there is no room for all, so the one that starts last {does}");
    match word(&last) {
        Some(word) => Note::with_command(
            code,
            format!("{said}; one less at host boot"),
            format!("virsh autostart --disable {word}"),
        ),
        None => Note::new(code, said),
    }
}
