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
        searched: 0,
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

/// Largest number of places that are searched.
const SEARCHES: usize = 16;

/// Guests that start at host boot and claim CPUs which others claim, too.
struct Surplus<'a> {
    view: &'a Snapshot,
    at_boot: &'a IdSet<Place>,
    /// Number of places that were searched.
    searched: usize,
    /// Guests without room, of each group whose claims overlap; `None`: too many to search.
    known: BTreeMap<Vec<Place>, Option<Vec<Place>>>,
}

impl Surplus<'_> {
    /// Returns the guests of a group that find no place beside those that run, the others that
    /// start at host boot and the guests before them. `None`: they are too many to search.
    fn without_room(&mut self, group: &[Place], guests: &[Guest]) -> Option<Vec<Place>> {
        if let Some(known) = self.known.get(group) {
            return known.clone();
        }
        self.searched += group.len();
        let found = (self.searched <= SEARCHES).then(|| self.search(group, guests));
        self.known.insert(group.to_vec(), found.clone());
        found
    }

    fn search(&self, group: &[Place], guests: &[Guest]) -> Vec<Place> {
        let mut view = self.view.clone();
        let hold = |view: &mut Snapshot, place: Place, cpus: &CpuSet| {
            let Some(guest) = guests.get(place.0 as usize) else {
                return;
            };
            let holders = &mut Arc::make_mut(&mut view.reading).ledger.holders;
            holders.push(Arc::new(Holder {
                uuid: guest.uuid.clone(),
                name: guest.name.clone(),
                pins: cpus.iter().map(CpuSet::one).collect(),
                reservation: true,
                ..Holder::default()
            }));
        };
        for other in self.at_boot.iter().filter(|other| !group.contains(other)) {
            if let Some(guest) = guests.get(other.0 as usize) {
                hold(&mut view, other, &guest.claims);
            }
        }
        let mut without = Vec::new();
        for place in group {
            match fitting(&view, *place, guests) {
                Some(cpus) => hold(&mut view, *place, &cpus),
                None => without.push(*place),
            }
        }
        without
    }
}

/// Returns the CPUs that a guest would hold, if it started; `None`: it finds no place.
fn fitting(view: &Snapshot, place: Place, guests: &[Guest]) -> Option<CpuSet> {
    let name = &guests.get(place.0 as usize)?.name;
    let text = view.root.read_opt(claims::path(name)).ok()??;
    let decision = view.decide(&text, Question::of(Scope::Boot)).ok()?;
    let placed = decision.plan().placement.as_ref();
    let placed = placed.filter(|placement| placement.fits)?;
    Some(placed.dedicated.union(&placed.withheld))
}

/// Returns the note on guests that start together with overlapping claims. Those that find no room
/// beside the ones before them by name have to give way: to other places, or else out of the start
/// at host boot.
fn at_boot_note(
    surplus: &mut Surplus<'_>,
    text: String,
    guests: &[Guest],
    own: Place,
    with: &IdSet<Place>,
) -> Note {
    let code = Code::BootClaimsOverlap;
    let mut all: Vec<Place> = with.iter().chain([own]).collect();
    all.sort_unstable();
    let word = |place: &Place| {
        let guest = guests.get(place.0 as usize)?;
        Some(guest_word(&guest.name, &guest.uuid))
    };
    let Some(without) = surplus.without_room(&all, guests) else {
        let said = format!("{text}: there may be no room for all");
        return Note::with_command(code, said, "virtfit plan");
    };
    if without.is_empty() {
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
    let first = without.first().and_then(fallback);
    let alike = all.iter().all(|place| fallback(place) == first);
    let (does, do_so) = match first.filter(|_| alike) {
        Some(OnNoFit::RunShared) => ("floats", "float"),
        Some(OnNoFit::RunUntuned) => ("runs untuned", "run untuned"),
        Some(OnNoFit::Refuse) => ("is refused", "are refused"),
        None => ("gets none of its own", "get none of their own"),
    };
    let (last, less) = match without.len() {
        1 => (
            format!("so the one that starts last {does}"),
            "one less".to_string(),
        ),
        count => (
            format!("so the {count} that start last {do_so}"),
            format!("{count} less"),
        ),
    };
    let words = without.iter().filter_map(word);
    let commands: Vec<String> = words
        .map(|word| format!("virsh autostart --disable {word}"))
        .collect();
    let said = format!("{text}: there is no room for all, {last}; {less} at host boot");
    Note::with_command(code, said, commands.join(" && "))
}
