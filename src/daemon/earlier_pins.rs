//! Earlier pins of guests: a guest that is defined again without its pins (by Ansible or Terraform)
//! gets back its CPUs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::daemon::records::Records;
use crate::types::ids::VcpuId;
use crate::types::idset::CpuSet;
use crate::types::plan::Placement;

/// Folder of these records on the host.
pub const FOLDER: &str = "/var/lib/virtfit/earlier";

/// Earlier pins of all guests, by UUID.
pub type PreviousPinsRecords = Records<PreviousPins>;

/// Pins that a guest had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousPins {
    /// Guest's name: a guest that is created again has another UUID.
    pub name: String,
    /// CPUs of each vCPU's pin.
    pub pins: BTreeMap<VcpuId, CpuSet>,
}

impl PreviousPins {
    /// Returns the pins of a placement; `None` where it does not fit or has no CPUs of its own.
    pub fn of(name: &str, placement: &Placement) -> Option<Self> {
        let own = placement.fits && !placement.dedicated.is_empty();
        own.then(|| Self {
            name: name.into(),
            pins: placement.vcpus.clone(),
        })
    }
}

/// Returns the pins a guest had, found by its UUID, else by its name.
pub fn pins<'r>(
    records: &'r PreviousPinsRecords,
    uuid: &str,
    name: &str,
) -> Option<&'r BTreeMap<VcpuId, CpuSet>> {
    let by_name = || {
        let mut all = records.iter().map(|(_, earlier)| earlier);
        all.find(|earlier| earlier.name == name)
    };
    records.get(uuid).or_else(by_name).map(|earlier| &earlier.pins)
}
