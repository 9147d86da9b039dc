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
//! Bytes that are not virtfit's stay. New elements go where libvirt's formatter writes them. What
//! they replace is recorded in the provenance ([`Provenance`]), an element of virtfit's own in
//! `<metadata>`.

mod address;
mod apply;
mod changes;
mod edits;
mod found;
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
pub(crate) use changes::{changes, in_force};
pub use request::request;
pub use revert::{Reverted, revert, revert_but};
pub use target::path;
pub use value::show;
pub(crate) use value::show_distances;

/// Head of the provenance: the facts of a fit as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// UUID of the guest that the record is of; `None` where the domain had none yet, and in
    /// records of the first releases.
    pub uuid: Option<String>,
    /// Profile of the fit.
    pub profile: String,
    /// Digest of the policy that the profile came from.
    pub policy_digest: String,
    /// Shape chosen at the first fit.
    pub shape: Shape,
    /// Withheld CPUs: siblings of the guest's own CPUs that no guest gets on its account.
    pub withheld: CpuSet,
    /// Decision at a start where nothing fits.
    pub on_no_fit: OnNoFit,
}

/// Shape of a guest, decided once and kept by later placements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// vCPUs of a guest core for which the pins were chosen; 0: not known.
    pub threads: u32,
    /// Guest cells that virtfit made; empty: none.
    pub cells: Vec<(VcpuSet, KiB)>,
    /// Topology that virtfit gave the guest; `None` where it gave none.
    pub topology: Option<Topology>,
}

/// Provenance: the record in `<metadata>` of what virtfit did to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Facts of the fit as a whole.
    pub head: Head,
    /// Settings that virtfit wrote, in the order of [`Target`].
    pub owned: Vec<Owned>,
}

impl Provenance {
    /// Returns whether the record is of the guest with this UUID. A record without a UUID is of the
    /// guest it is found in; one with another UUID, or in a domain that has none, was copied.
    pub fn is_of(&self, uuid: &str) -> bool {
        self.head.uuid.as_ref().is_none_or(|own| own == uuid)
    }
}

/// Setting that virtfit wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Place of the setting.
    pub target: Target,
    /// Value that virtfit wrote; [`Value::Absent`] where it removed something.
    pub wrote: Value,
    /// Pieces that were there before; empty: none.
    pub was: Vec<Was>,
}

/// Piece that was there before a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Was {
    /// Element without this attribute.
    NoAttribute {
        /// Attribute's name.
        name: String,
    },
    /// Attribute with another value.
    Attribute {
        /// Attribute's name.
        name: String,
        /// Bytes between the attribute's quotes.
        raw: String,
    },
    /// Attribute that was removed.
    GoneAttribute {
        /// Attribute's name.
        name: String,
        /// Attribute's bytes with the white space before it.
        raw: String,
        /// Number of attributes before it.
        number: usize,
    },
    /// Element that was replaced.
    Element {
        /// Element's bytes.
        raw: String,
    },
    /// Element that was removed.
    GoneElement {
        /// Element's bytes with the white space before it.
        raw: String,
        /// Former position of the element.
        position: Position,
    },
    /// Ids that `<iothreadids>` listed; libvirt adds the ids that it fills in.
    IothreadIds {
        /// Ids, separated by commas.
        ids: String,
    },
}

/// Former position of a removed element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Index among several containers of one name.
    pub parent: usize,
    /// Number of elements before it in its container.
    pub number: usize,
    /// Bytes between the end of the element before it (or of its container's start tag) and the
    /// white space before it.
    pub gap: usize,
}

/// Reads the provenance of a document; `None` where virtfit wrote nothing.
///
/// # Errors
/// The root is not `<domain>`, or the provenance is of another version or cannot be read. The error
/// says what to do.
pub fn provenance(document: &Document<'_>) -> Result<Option<Provenance>, XmlError> {
    let root = places::domain(document)?;
    Ok(provenance::read(&root)?.map(|record| record.provenance))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
