//! Enlightenments of Hyper-V, and its clock, for Windows guests.

use std::collections::BTreeSet;

use crate::engine::case::Case;
use crate::engine::fit::Fit;
use crate::engine::settings::List;
use crate::policy::profile::Hyperv;
use crate::types::enlightenment::Enlightenment;
use crate::types::reason::{Basis, LeftOut};
use crate::types::setting::{Target, Value};
use crate::types::subject::Subject;

/// Versions before which the set was not complete: libvirt 5.7 and QEMU 4.1 (`stimer` in direct
/// mode), Linux 5.0.
const FIRST_LIBVIRT: u32 = 5_007_000;
const FIRST_QEMU: u32 = 4_001_000;
const FIRST_KERNEL: u32 = 5;

/// Adds what a Windows guest lacks of the set, as far as this host's KVM offers it.
pub(crate) fn enlightenments(fit: &Fit<'_>, list: &mut List) {
    let Case { domain, wishes, .. } = *fit.case;
    if wishes.profile.hyperv == Hyperv::Keep || !domain.is_windows() {
        return;
    }
    if domain.hyperv_passthrough {
        return list.keep(Subject::Hyperv(Vec::new()));
    }
    let offered = match offered(fit) {
        Ok(offered) => offered,
        Err(why) => return list.not_done(Subject::Hyperv(Vec::new()), why),
    };
    // The clock is what synthetic timers count by. libvirt does not ask for it, but each KVM that
    // has the newer index of processors has it.
    let has_clock = offered.contains(&Enlightenment::Vpindex);
    let target = Target::HypervClock;
    match domain.hypervclock {
        Some(true) => {}
        Some(false) => list.keep(Subject::Value(target)),
        None if !has_clock => list.not_done(Subject::Value(target), LeftOut::KvmLacks),
        None => list.set(target, Value::Text("yes".into()), Basis::WindowsGuest),
    }
    let clock = domain.hypervclock.unwrap_or(has_clock);
    // One that needs another comes after it; what is off by hand takes along what needs it.
    let mut on: BTreeSet<Enlightenment> = BTreeSet::new();
    let mut lacking = Vec::new();
    for one in Enlightenment::ALL {
        let by_hand = domain.hyperv.get(one.as_str());
        let needs = one.needs().iter().all(|need| on.contains(need));
        match by_hand {
            Some(true) => drop(on.insert(one)),
            Some(false) => list.keep(Subject::Value(Target::Hyperv(one))),
            None if !offered.contains(&one) => lacking.push(one),
            None if !needs || (one == Enlightenment::Stimer && !clock) => {
                list.not_done(Subject::Value(Target::Hyperv(one)), LeftOut::NeedsAnother);
            }
            None => {
                on.insert(one);
                let value = Value::Text("on".into());
                list.set(Target::Hyperv(one), value, Basis::WindowsGuest);
            }
        }
    }
    if !lacking.is_empty() {
        list.not_done(Subject::Hyperv(lacking), LeftOut::KvmLacks);
    }
}

/// Returns what KVM offers here, by libvirt's own account: libvirt refuses to start a guest with
/// more (`qemuProcessVerifyHypervFeatures`).
fn offered(fit: &Fit<'_>) -> Result<Vec<Enlightenment>, LeftOut> {
    let Case { domain, host, .. } = *fit.case;
    let emulator = host.emulator(&domain.emulator, &domain.arch);
    let emulator = emulator.ok_or(LeftOut::EmulatorUnknown)?;
    let old = emulator.libvirt < FIRST_LIBVIRT || emulator.qemu < FIRST_QEMU;
    match &emulator.hyperv {
        _ if old => Err(LeftOut::EmulatorOld),
        Some(told) => {
            let is_told = |one: &Enlightenment| told.iter().any(|name| name == one.as_str());
            Ok(Enlightenment::ALL.into_iter().filter(is_told).collect())
        }
        None if emulator.kernel < FIRST_KERNEL => Err(LeftOut::EmulatorOld),
        None => Ok(Enlightenment::ALL.to_vec()),
    }
}
