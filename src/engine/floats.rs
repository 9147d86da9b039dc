//! Masks of floating threads that are written already. They are the CPUs for floating threads less
//! those that guests held at that time, so they differ by who runs. That alone is no reason for
//! another definition: a guest that starts is pinned by the present state, and virtfitd moves its
//! floating threads while it runs.

use crate::engine::fit::Fit;
use crate::placement::Supply;
use crate::policy::cpu_sets;
use crate::types::idset::CpuSet;
use crate::types::plan::Scope;
use crate::types::setting::{Setting, Target, Value};

/// Returns the settings with the masks that virtfit wrote under this policy, for threads that float
/// there and now; `None`: all masks are as they would be written. `empty` is the supply of the host
/// without guests, `policy_digest` that of the policy.
pub(super) fn as_recorded(
    fit: &Fit<'_>,
    settings: &[Setting],
    empty: &Supply,
    policy_digest: &str,
) -> Option<Vec<Setting>> {
    let provenance = fit.case.provenance?;
    // Another policy may give floating threads other CPUs, and a guest that comes in is pinned by
    // the present state.
    if fit.case.scope == Scope::Incoming || provenance.head.policy_digest != policy_digest {
        return None;
    }
    let recorded = |setting: &Setting| {
        let wanted = mask(&setting.value)?;
        let owned = provenance
            .owned
            .iter()
            .find(|owned| owned.target == setting.target)?;
        let wrote = mask(&owned.wrote).filter(|wrote| *wrote != wanted)?;
        let kept = [wanted, wrote].iter().all(|mask| holds_nothing(mask, empty))
            && may_float(fit, &setting.target, wrote, empty);
        kept.then(|| Setting {
            value: owned.wrote.clone(),
            ..setting.clone()
        })
    };
    let found: Vec<Option<Setting>> = settings.iter().map(recorded).collect();
    found.iter().any(Option::is_some).then(|| {
        let pairs = found.into_iter().zip(settings);
        pairs
            .map(|(kept, setting)| kept.unwrap_or_else(|| setting.clone()))
            .collect()
    })
}

fn mask(value: &Value) -> Option<&CpuSet> {
    match value {
        Value::Cpus(mask) => Some(mask),
        _ => None,
    }
}

/// Returns whether virtfit's mask of these CPUs holds none of them.
fn holds_nothing(mask: &CpuSet, empty: &Supply) -> bool {
    mask.len() > 1 || mask.is_disjoint(&empty.dedicated)
}

/// Returns whether a thread floats, and may do so on all of these CPUs while no other guest runs.
fn may_float(fit: &Fit<'_>, target: &Target, mask: &CpuSet, empty: &Supply) -> bool {
    match target {
        Target::VcpuPin(vcpu) => {
            let own = fit.fits && fit.case.wishes.dedicated.contains(*vcpu);
            !own && mask.is_subset(&empty.shared)
        }
        Target::EmulatorPin | Target::IothreadPin(_) => mask.is_subset(&cpu_sets::usable(fit.case.host)),
        _ => false,
    }
}
