//! Map of a host as text and as an image.

mod bars;
mod signs;
mod svg;
mod table;
mod text;

pub(crate) use svg::svg;
pub(crate) use text::text;

use crate::map::{After, Cpu, Guest, Picture};
use crate::types::plan::Verdict;

/// Largest number of CPUs that are drawn with two columns and more each; of more, each CPU is one
/// character, so that a host of 1024 still fits a screen.
const LARGE: usize = 128;

/// Returns whether a host is too large for more than one character a CPU.
fn is_large(picture: &Picture) -> bool {
    cpus(picture).count() > LARGE
}

/// Lists all CPUs of a picture.
fn cpus(picture: &Picture) -> impl Iterator<Item = &Cpu> {
    let caches = picture.nodes.iter().flat_map(|node| &node.caches);
    caches.flat_map(|cache| &cache.cores).flatten()
}

/// Lists the guests that a picture shows: those that run, are promised CPUs or claim some, and the
/// one that is planned.
fn shown(picture: &Picture, planned: Option<usize>) -> Vec<usize> {
    let guests = picture.guests.iter().enumerate();
    let has_a_place =
        |at: usize, guest: &Guest| guest.is_seated() || !guest.claims.is_empty() || planned == Some(at);
    guests
        .filter(|(at, guest)| has_a_place(*at, guest))
        .map(|(at, _)| at)
        .collect()
}

/// Words the verdict of a plan: `as it is planned: tuned by fit`.
fn verdict(after: &After) -> String {
    let by = after.profile.as_ref().map(|profile| format!(" by {profile}"));
    let verdict = match after.verdict {
        Verdict::Tuned => "tuned",
        Verdict::Unchanged => "unchanged",
        Verdict::Refused => "refused",
    };
    format!("as it is planned: {verdict}{}", by.unwrap_or_default())
}
