//! Choices of CPUs that nodes have for the cells of a guest.

use crate::placement::cores::Site;
use crate::placement::node_table::NodeTable;
use crate::placement::rank::Cost;
use crate::placement::spread::{Round, Spread};
use crate::types::ids::HostCpu;

/// Choices of CPUs that each node has for each cell, memory not counted. Equal cells have equal
/// ones.
pub(crate) struct Offers {
    /// By cell, by node: empty, or one for each number of caches that makes a difference.
    pub by_cell: Vec<Vec<Vec<Offer>>>,
    /// Better ones may exist.
    pub bounded: bool,
}

/// Choice of CPUs on one node.
#[derive(Clone)]
pub(crate) struct Offer {
    /// Cost of the CPUs.
    pub cost: Cost,
    /// CPUs in vCPU order.
    pub cpus: Vec<HostCpu>,
}

impl Offers {
    /// Works out the offers of one round and spread.
    pub(crate) fn new(site: &Site<'_>, round: &Round, spread: &Spread) -> Self {
        let threads = round.level.threads() as usize;
        // Cells that need as many units and floating vCPUs get equal offers.
        let needs: Vec<(usize, usize)> = site
            .demand
            .cells
            .iter()
            .map(|cell| {
                let dedicated = cell.vcpus.intersection(&site.demand.dedicated).len();
                (
                    dedicated / threads,
                    cell.vcpus.intersection(&site.demand.floating()).len(),
                )
            })
            .collect();
        // The tables need only the numbers of units between the fewest and the most.
        let units = || needs.iter().map(|(units, _)| *units);
        let counts = units().min().unwrap_or(0)..=units().max().unwrap_or(0);
        let mut bounded = false;
        let mut by_cell = vec![Vec::with_capacity(site.nodes.len()); needs.len()];
        // One table a node serves all cells, so the tables are outside the loop over cells.
        for node in &site.nodes {
            let table = NodeTable::new(site, node, round, spread, counts.clone());
            bounded |= table.is_bounded();
            let mut known: Vec<((usize, usize), Vec<Offer>)> = Vec::new();
            for (cell, need) in needs.iter().enumerate() {
                let offer = match known.iter().find(|(other, _)| other == need) {
                    Some((_, offers)) => offers.clone(),
                    None => {
                        let (units, floating) = *need;
                        let room = floating <= node.shared.len();
                        let offer = |(row, cost)| Offer {
                            cost,
                            cpus: table.cpus_of(row, units).to_vec(),
                        };
                        let mut offers: Vec<Offer> =
                            table.choices(units).filter(|_| room).map(offer).collect();
                        offers.sort_by_key(|offer| offer.cost);
                        known.push((*need, offers.clone()));
                        offers
                    }
                };
                by_cell[cell].push(offer);
            }
        }
        Self { by_cell, bounded }
    }
}
