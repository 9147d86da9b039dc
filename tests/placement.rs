//! Placement against brute force: on small random hosts every assignment of vCPUs to CPUs is tried
//! and judged by the rules of the contract, and the best is compared with the engine's.
#![allow(clippy::unwrap_used)]

mod common;

#[path = "placement/cases.rs"]
mod cases;
#[path = "placement/judge.rs"]
mod judge;

use std::collections::BTreeMap;

use proptest::prelude::*;

use cases::case;
use judge::{Judge, fewest_nodes};
use virtfit::host::Host;
use virtfit::placement::{Demand, Placed, SmtRule, Supply, place};
use virtfit::types::ids::{HostCpu, KiB, VcpuId};
use virtfit::types::idset::VcpuSet;

/// Checks rules that hold for every placement and demand.
fn check_invariants(host: &Host, demand: &Demand, now: &Supply, placed: &Placed) {
    let mut seen: BTreeMap<HostCpu, VcpuId> = BTreeMap::new();
    assert_eq!(placed.vcpus.len() as u32, demand.vcpus, "every vCPU has a place");
    for vcpu in demand.dedicated.iter() {
        let pin = &placed.vcpus[&vcpu];
        assert_eq!(pin.len(), 1);
        let cpu = pin.first().unwrap();
        assert!(now.free.contains(cpu), "{cpu:?} was not free");
        assert_eq!(seen.insert(cpu, vcpu), None, "{cpu:?} given twice");
    }
    for cpu in &placed.extra {
        assert!(
            now.free.contains(*cpu) && !seen.contains_key(cpu),
            "extra {cpu:?}"
        );
    }
    assert!(placed.extra.len() as u32 >= demand.extra_min);
    assert!(
        placed
            .withheld
            .iter()
            .all(|cpu| !seen.contains_key(&cpu) && !now.held.contains_key(&cpu))
    );
    for vcpu in demand.floating().iter() {
        let pin = &placed.vcpus[&vcpu];
        assert!(
            !pin.is_empty() && pin.is_subset(&now.shared),
            "{vcpu:?} floats on {pin}"
        );
        assert!(pin.is_disjoint(&placed.withheld));
        assert!(
            !pin.iter()
                .any(|cpu| seen.contains_key(&cpu) || placed.extra.contains(&cpu))
        );
    }
    for cell in &placed.cells {
        if let Some(node) = cell.node {
            for vcpu in cell.vcpus.iter() {
                let cpu = placed.vcpus[&vcpu].first().unwrap();
                assert_eq!(host.core_of(cpu).unwrap().node, node);
            }
            let floating = cell.vcpus.intersection(&demand.floating());
            let pin = floating.first().map(|vcpu| &placed.vcpus[&vcpu]);
            assert!(pin.is_none_or(|pin| floating.len() <= pin.len()));
        }
    }
    assert_eq!(
        placed.cells.iter().map(|cell| cell.memory.0).sum::<u64>(),
        demand.memory.0
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_brute_force(case in case()) {
        let host = case.host();
        let (now, empty) = case.supplies(&host);
        let demand = case.demand();
        if demand.dedicated.is_empty() && demand.max_nodes.is_none() && demand.cells.is_empty() {
            return Ok(()); // floats anywhere
        }
        let most = demand.max_nodes.unwrap_or_else(|| match demand.cells.is_empty() {
            true => fewest_nodes(&host, &demand, &empty),
            false => u32::MAX,
        });
        let judged = Judge { host: &host, demand: &demand, now: &now }.best(most);
        match (place(&host, &demand, &now, &empty), judged) {
            (Ok(placed), Some(best)) => {
                check_invariants(&host, &demand, &now, &placed);
                let again = place(&host, &demand, &now, &empty).unwrap();
                prop_assert_eq!(&again, &placed);
                // The search chooses extra CPUs after the others, not together with them.
                match placed.bounded || demand.extra_max > 0 {
                    true if placed.extra.len() < demand.extra_max as usize => {}
                    true => prop_assert!(placed.key >= best, "{:?} better than {:?}", placed.key, best),
                    false => prop_assert_eq!(placed.key, best),
                }
            }
            (Err(_), None) => {}
            (Ok(placed), None) => prop_assert!(false, "nothing should fit, found {:?}", placed.key),
            // Where siblings are withheld, vCPUs compete with extra CPUs for cores and with
            // floating vCPUs for shared CPUs: with all three, the search may miss a placement.
            (Err(_), Some(_))
                if (demand.smt == SmtRule::Isolate || demand.withhold_siblings)
                    && demand.extra_min > 0
                    && !demand.floating().is_empty() => {}
            (Err(reasons), Some(best)) => prop_assert!(false, "{:?} but {:?} fits", reasons, best),
        }
    }
}

#[test]
fn the_paper_s_reference() {
    let host = common::paper();
    let house = common::cpus("0,8,16,24");
    let dedicated = host.online.difference(&house);
    let supply = Supply {
        dedicated: dedicated.clone(),
        free: dedicated.clone(),
        shared: host.online.clone(),
        isolable: dedicated,
        pages: host
            .nodes
            .iter()
            .map(|node| ((node.id, KiB(2048)), 6144))
            .collect(),
        memory: host.nodes.iter().map(|node| (node.id, KiB(3 << 20))).collect(),
        ..Supply::default()
    };
    let guest = |vcpus: u32| Demand {
        vcpus,
        dedicated: VcpuSet::first_n(vcpus),
        memory: KiB(8 << 20),
        make_cells: true,
        bind: true,
        pages: vec![Some(KiB(2048)), None],
        ..Demand::default()
    };
    let list = |placed: &Placed| placed.key.cpus.iter().map(|cpu| cpu.0).collect::<Vec<_>>();
    let four = place(&host, &guest(4), &supply, &supply).unwrap();
    assert_eq!(
        (list(&four), four.threads, four.page),
        (vec![1, 17, 2, 18], 2, Some(KiB(2048)))
    );
    let three = place(&host, &guest(3), &supply, &supply).unwrap();
    assert_eq!((list(&three), three.threads), (vec![1, 2, 3], 1));
    let twenty = place(&host, &guest(20), &supply, &supply).unwrap();
    assert_eq!(
        (twenty.nodes.len(), twenty.threads, twenty.cells.len()),
        (2, 2, 2)
    );
    let reasons = place(&host, &guest(40), &supply, &supply).unwrap_err();
    assert!(
        reasons[0]
            .to_string()
            .starts_with("needs 40 CPUs, but this host has only 28"),
        "{reasons:?}"
    );
}
