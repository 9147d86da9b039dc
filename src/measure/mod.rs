//! Measurement of guests over an interval, from the host alone, and its comparison with an earlier
//! one.
//!
//! [`Sampler`] reads counters of threads again and again; [`measurement`] makes figures of them,
//! and [`compare()`] a verdict of two measurements. The latter two are pure. `docs/measure.md` has
//! every figure.

mod compare;
mod data;
mod figures;
mod sampler;
mod sums;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;

pub(crate) use compare::{Comparison, GuestCompared, Verdict, compare};
pub(crate) use data::{Figure, Guest, Kind, Measurement, Other, Thread};
pub(crate) use figures::measurement;
pub(crate) use sampler::{Moment, Sampler, Subject};

/// Version of the format; there is only one.
pub(crate) const VERSION: u32 = 1;
/// Parts of an interval whose figures are compared with each other: they tell the noise.
pub(crate) const SLICES: u32 = 10;
