//! Claims of several definitions on one CPU: at most one of their guests can get what its
//! definition says.

use crate::snapshot::Snapshot;
use crate::status::Guest;
use crate::status::note::{Code, Note, names};
use crate::types::idset::CpuSet;
use crate::types::plural::cpus;

/// Adds a note to each guest whose CPUs others claim too. Guests that libvirt starts by itself
/// start together: among them an overlap is wrong.
pub(crate) fn note(view: &Snapshot, guests: &mut [Guest]) {
    let starts_itself = |guest: &Guest| view.reading.autostart.contains(&guest.name);
    let claims: Vec<(String, CpuSet, bool)> = guests
        .iter()
        .filter(|guest| !guest.claims.is_empty())
        .map(|guest| (guest.name.clone(), guest.claims.clone(), starts_itself(guest)))
        .collect();
    for guest in guests.iter_mut().filter(|guest| !guest.claims.is_empty()) {
        let own = starts_itself(guest);
        for (code, at_boot) in [(Code::BootClaimsOverlap, true), (Code::ClaimsOverlap, false)] {
            let mut both = CpuSet::new();
            let mut with = Vec::new();
            for (name, claimed, theirs) in &claims {
                let overlap = claimed.intersection(&guest.claims);
                if *name != guest.name && !overlap.is_empty() && (own && *theirs) == at_boot {
                    both.extend_from(&overlap);
                    with.push(name.as_str());
                }
            }
            if !with.is_empty() {
                let verb = if with.len() == 1 { "does" } else { "do" };
                let when = if at_boot { " at host boot" } else { "" };
                let text = format!("claims {}, as {verb} {}{when}", cpus(&both), names(with));
                guest.notes.push(Note::new(code, text));
            }
        }
    }
}
