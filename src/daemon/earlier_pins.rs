//! The pins of guests, for the day when somebody defines one again without them (Ansible,
//! Terraform): it gets the same CPUs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::daemon::records::Records;
use crate::types::ids::VcpuId;
use crate::types::idset::CpuSet;
use crate::types::plan::Placement;

/// Where they are on the host.
pub const FOLDER: &str = "/var/lib/virtfit/earlier";

/// All of them.
pub type PreviousPinsRecords = Records<PreviousPins>;

/// A guest's pins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousPins {
    /// The guest's name: one that is created anew has another UUID.
    pub name: String,
    /// Each vCPU's pin.
    pub pins: BTreeMap<VcpuId, CpuSet>,
}

impl PreviousPins {
    /// Those of a placement; `None` where it is no place of its own.
    pub fn of(name: &str, placement: &Placement) -> Option<Self> {
        let own = placement.fits && !placement.dedicated.is_empty();
        own.then(|| Self {
            name: name.into(),
            pins: placement.vcpus.clone(),
        })
    }
}

/// The pins a guest had, by its UUID, else by its name.
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
