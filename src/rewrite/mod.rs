//! Settings into a domain's text and out of it again, by byte edits.
//!
//! ```text
//! original ── apply(settings) ──► tuned text with provenance ── revert ──► original, byte for byte
//!                                     │   ▲
//!                       libvirt stores│   │dumpxml, an administrator's edits
//!                                     ▼   │
//!                                 other bytes ── revert ──► what is still ours is taken back, the rest stays
//! ```
//!
//! Bytes that are not virtfit's stay. New elements land where libvirt's formatter has them. What
//! was there is recorded in the provenance ([`Provenance`]), an element of virtfit's own in
//! `<metadata>`.

mod address;
mod apply;
mod changes;
mod edits;
mod fragment;
mod layout;
mod needs;
mod order;
mod places;
mod provenance;
mod request;
mod revert;
mod target;
mod value;

use crate::domain::Topology;
use crate::types::ids::KiB;
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::on_no_fit::OnNoFit;
use crate::types::setting::{Target, Value};
use crate::xml::{Document, XmlError};

pub use apply::apply;
pub use changes::{changes, in_force};
pub use request::request;
pub use revert::{Reverted, revert, revert_but};
pub use target::path;

/// What the provenance says of a whole fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The profile.
    pub profile: String,
    /// A digest of the policy it came from.
    pub policy_digest: String,
    /// The shape chosen at the first fit.
    pub shape: Shape,
    /// CPUs kept free on this guest's account: siblings of its own.
    pub withheld: CpuSet,
    /// What to do at start when there is no place.
    pub on_no_fit: OnNoFit,
}

/// The shape of a guest, decided once and kept by later placements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// vCPUs a guest core the pins were chosen for; 0: not known.
    pub threads: u32,
    /// Guest cells virtfit made; empty: none.
    pub cells: Vec<(VcpuSet, KiB)>,
    /// The topology virtfit gave it; none where it gave none.
    pub topology: Option<Topology>,
}

/// What virtfit did to a domain, as its `<metadata>` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// The fit as a whole.
    pub head: Head,
    /// Each setting written, in order of [`Target`].
    pub owned: Vec<Owned>,
}

/// A setting virtfit wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Where.
    pub target: Target,
    /// What it wrote; [`Value::Absent`]: it took something away.
    pub wrote: Value,
    /// What was there; empty: nothing.
    pub was: Vec<Was>,
}

/// A piece of what was there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Was {
    /// The element was there without this attribute.
    NoAttribute {
        /// The attribute.
        name: String,
    },
    /// An attribute had another value.
    Attribute {
        /// The attribute.
        name: String,
        /// The bytes between its quotes.
        raw: String,
    },
    /// An attribute was there that is gone.
    GoneAttribute {
        /// The attribute.
        name: String,
        /// All its bytes, white space before it included.
        raw: String,
        /// How many attributes stood before it.
        number: usize,
    },
    /// An element stood in this place.
    Element {
        /// Its bytes.
        raw: String,
    },
    /// An element was there that is gone.
    GoneElement {
        /// Its bytes, white space before it included.
        raw: String,
        /// Where it stood.
        position: Position,
    },
    /// `<iothreadids>` listed these ids; libvirt adds those it fills in.
    IothreadIds {
        /// The ids, separated by commas.
        ids: String,
    },
}

/// Where an element stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Which of several containers of one name.
    pub parent: usize,
    /// How many elements stood before it in its container.
    pub number: usize,
    /// Bytes between the end of the element before it (or its container's start tag) and its white
    /// space.
    pub gap: usize,
}

/// What virtfit says in this document it did; `None` where it did nothing.
///
/// # Errors
/// The root is not `<domain>`, or the provenance is of another version or cannot be read (the error
/// says what to do).
pub fn provenance(document: &Document<'_>) -> Result<Option<Provenance>, XmlError> {
    let root = places::domain(document)?;
    Ok(provenance::read(&root)?.map(|record| record.provenance))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
