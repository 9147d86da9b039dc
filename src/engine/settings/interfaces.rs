//! Network interfaces: queues.

use std::collections::BTreeSet;

use crate::domain::Interface;
use crate::engine::case::Case;
use crate::engine::fit::Fit;
use crate::engine::settings::List;
use crate::policy::profile::NetQueues;
use crate::types::plan::Scope;
use crate::types::reason::{Basis, LeftOut};
use crate::types::setting::{Target, Value};
use crate::types::subject::Subject;

/// Limit of a tap device's queues (`MAX_TAP_QUEUES` in drivers/net/tun.c of Linux).
const MOST_QUEUES: u32 = 256;

/// Decides the queues of every virtio interface, at the first fit only: the guest sees them.
pub(crate) fn all(fit: &Fit<'_>, list: &mut List) {
    let Case { domain, wishes, .. } = *fit.case;
    if !wishes.visible || fit.case.scope != Scope::Boot || fit.case.shape.is_some() {
        return;
    }
    // More queues than vCPUs would stay idle.
    let vcpus = (domain.vcpus.saturating_sub(domain.empty_slots.len() as u32)).clamp(1, MOST_QUEUES);
    let (queues, why) = match wishes.profile.net_queues {
        NetQueues::Keep => return,
        NetQueues::At(queues) if queues <= vcpus => (queues, Basis::ByProfile),
        NetQueues::At(_) | NetQueues::Vcpus => (vcpus, Basis::QueueAVcpu),
    };
    let virtio = |interface: &&Interface| interface.model.starts_with("virtio");
    for (number, interface) in domain
        .interfaces
        .iter()
        .enumerate()
        .filter(|(_, all)| virtio(all))
    {
        let target = interface.mac.clone().map(Target::NetQueues);
        let Some(target) = target else {
            list.not_done(Subject::InterfaceQueues(number), LeftOut::NoMacOfItsOwn);
            continue;
        };
        let now = interface.queues.as_deref().unwrap_or("1");
        if now.trim() == queues.to_string() {
            continue;
        }
        if let Some(why) = without_vhost(interface, &fit.case.facts.tap_networks, wishes.tcg) {
            list.not_done(Subject::Value(target), why);
        } else if interface.queues.is_some() && wishes.keep {
            list.keep(Subject::Value(target));
        } else {
            list.set(target, Value::Number(queues), why.clone());
        }
    }
}

/// Returns the reason why vhost does not serve an interface with queues of its own.
///
/// libvirt opens one vhost descriptor for each queue of a tap or macvtap device. A device of
/// `type='ethernet'` may be made by another program, without queues, and then QEMU does not start.
///
/// One of `type='network'` is what its network says: libvirt starts no guest with queues of an
/// interface that a pool of host devices gives (`qemuDomainValidateActualNetDef`).
fn without_vhost(interface: &Interface, taps_of: &BTreeSet<String>, tcg: bool) -> Option<LeftOut> {
    if tcg {
        return Some(LeftOut::Emulated);
    }
    if interface.driver.as_deref() == Some("qemu") {
        return Some(LeftOut::ServedByQemu);
    }
    if interface.kind == "network" {
        let network = interface.network.as_deref().unwrap_or_default();
        return (!taps_of.contains(network)).then(|| LeftOut::NoQueuesOfNetwork {
            network: network.into(),
        });
    }
    let taps = matches!(interface.kind.as_str(), "bridge" | "direct");
    (!taps).then(|| LeftOut::NoQueuesOfKind {
        kind: interface.kind.clone(),
    })
}
