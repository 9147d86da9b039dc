//! Comparison of two measurements: better, same or worse, and by how much.

use serde::Serialize;

use crate::measure::data::{Figure, Guest, Kind, Measurement};

/// Standard deviations of tenths that a difference has to exceed.
const DEVIATIONS: f64 = 2.0;

/// Part of a value that a difference has to exceed: a tenth.
const ALIKE: f64 = 10.0;

/// Answer of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Less of what costs a guest time.
    Better,
    /// No difference that exceeds the noise.
    Same,
    /// More of what costs a guest time.
    Worse,
    /// Nothing to compare.
    Unknown,
}

impl Verdict {
    /// Returns the word for people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Same => "same",
            Self::Worse => "worse",
            Self::Unknown => "not known",
        }
    }
}

/// Comparison of a measurement with an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Comparison {
    /// Verdict on all guests: worse if one is, otherwise better if one is.
    pub verdict: Verdict,
    /// Time at which the earlier measurement began, in seconds since 1970.
    pub began: u64,
    /// Length of the earlier measurement.
    pub seconds: f64,
    /// Guests of the later measurement.
    pub guests: Vec<GuestCompared>,
    /// Names of guests that only the earlier measurement has.
    pub missing: Vec<String>,
}

/// Comparison of a guest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct GuestCompared {
    /// Guest's name.
    pub name: String,
    /// Guest's UUID.
    pub uuid: String,
    /// Verdict of the first figure that is better or worse.
    pub verdict: Verdict,
    /// True: the guest did not want as much CPU time as before, so that it did other work.
    pub load_differs: bool,
    /// Figures, those that matter most first; none: the earlier measurement lacks the guest.
    pub figures: Vec<FigureCompared>,
}

/// Comparison of a figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct FigureCompared {
    /// Kind of the figure.
    pub figure: Kind,
    /// Earlier value; null: not known.
    pub before: Option<f64>,
    /// Later value; null: not known.
    pub after: Option<f64>,
    /// Greatest difference that is taken for noise.
    pub noise: f64,
    /// Verdict; of the load, `same` or `unknown`.
    pub verdict: Verdict,
}

/// Compares two measurements. Guests are the same by their UUIDs, or else by their names.
pub(crate) fn compare(before: &Measurement, after: &Measurement) -> Comparison {
    let guests: Vec<GuestCompared> = after
        .guests
        .iter()
        .map(|guest| compared(same(guest, &before.guests), guest))
        .collect();
    let missing = before
        .guests
        .iter()
        .filter(|guest| same(guest, &after.guests).is_none());
    let any = |verdict| guests.iter().any(|guest| guest.verdict == verdict);
    let order = [Verdict::Worse, Verdict::Better, Verdict::Same];
    Comparison {
        verdict: order
            .into_iter()
            .find(|verdict| any(*verdict))
            .unwrap_or(Verdict::Unknown),
        began: before.began,
        seconds: before.seconds,
        missing: missing.map(|guest| guest.name.clone()).collect(),
        guests,
    }
}

/// Finds a guest among others.
fn same<'m>(guest: &Guest, all: &'m [Guest]) -> Option<&'m Guest> {
    let by_uuid = |other: &&Guest| !guest.uuid.is_empty() && other.uuid == guest.uuid;
    let by_name = |other: &&Guest| other.name == guest.name;
    all.iter().find(by_uuid).or_else(|| all.iter().find(by_name))
}

fn compared(before: Option<&Guest>, after: &Guest) -> GuestCompared {
    let figures: Vec<FigureCompared> = match before {
        None => Vec::new(),
        Some(before) => Kind::ALL
            .into_iter()
            .filter_map(|kind| Some(figure(of(before, kind)?, of(after, kind)?)))
            .collect(),
    };
    let judged = || figures.iter().filter(|figure| figure.figure.is_judged());
    let decides = judged().find(|figure| matches!(figure.verdict, Verdict::Better | Verdict::Worse));
    let known = judged().find(|figure| figure.verdict == Verdict::Same);
    let load = figures.iter().find(|figure| figure.figure == Kind::Load);
    GuestCompared {
        name: after.name.clone(),
        uuid: after.uuid.clone(),
        verdict: decides
            .or(known)
            .map_or(Verdict::Unknown, |figure| figure.verdict),
        load_differs: load.is_some_and(|load| load.verdict != Verdict::Same),
        figures,
    }
}

fn of(guest: &Guest, kind: Kind) -> Option<&Figure> {
    guest.figures.iter().find(|figure| figure.figure == kind)
}

fn figure(before: &Figure, after: &Figure) -> FigureCompared {
    let kind = after.figure;
    // Twice the greater deviation of the tenths: a conservative measure, as tenths of one interval
    // are more alike than two intervals.
    let spread = |figure: &Figure| figure.spread.unwrap_or(0.0).abs();
    let noise = DEVIATIONS * spread(before).max(spread(after));
    // No two intervals of a load are equal, however steady it is within one.
    let size = |figure: &Figure| figure.value.unwrap_or(0.0).abs();
    let alike = size(before).max(size(after)) / ALIKE;
    let noise = noise.max(alike).max(kind.least()).min(f64::MAX);
    let verdict = match (before.value, after.value) {
        (Some(before), Some(after)) if (after - before).abs() <= noise => Verdict::Same,
        (Some(_), Some(_)) if !kind.is_judged() => Verdict::Unknown,
        (Some(before), Some(after)) if after < before => Verdict::Better,
        (Some(_), Some(_)) => Verdict::Worse,
        _ => Verdict::Unknown,
    };
    FigureCompared {
        figure: kind,
        before: before.value,
        after: after.value,
        noise,
        verdict,
    }
}
