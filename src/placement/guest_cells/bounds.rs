//! Bounds of the search for guest cells: a branch that cannot beat the best known placement, or in
//! which the cells to come cannot each have a node, is cut.

use std::cmp::Reverse;

use crate::placement::Mirror;
use crate::placement::cores::NodeView;
use crate::placement::guest_cells::Search;
use crate::placement::rank::Bar;
use crate::placement::threading::Level;

impl Search<'_, '_> {
    fn chosen_nodes(&self) -> impl Iterator<Item = &NodeView> + Clone {
        self.chosen
            .iter()
            .flatten()
            .map(|(node, _)| &self.site.nodes[*node])
    }

    /// Returns whether the best this branch could reach beats the best known. Branches come in
    /// order of their CPU lists, so a tie does not.
    pub(super) fn promising(&self, position: usize) -> bool {
        let far = self.least_far(position);
        let rest = &self.order[position..];
        let dedicated = |cell: &&usize| {
            !self.site.demand.cells[**cell]
                .vcpus
                .is_disjoint(&self.site.demand.dedicated)
        };
        let more = rest.iter().filter(dedicated).count() as u32;
        let most = self.site.demand.max_llcs;
        if (far > 0 && self.site.demand.devices_required) || (most > 0 && self.cost.llcs + more > most) {
            return false;
        }
        if self.round.exact && !self.packages_fit(position) {
            return false;
        }
        let Some(best) = &self.best else { return true };
        let least = self.cost + self.least[position];
        let count = self.order.len() as u32;
        let mut mine = Bar {
            autostart: least.autostart,
            nodes: count,
            far_devices: far,
            round: self.round.rank(self.site),
            ..Bar::default()
        };
        if mine > best.key.bar() {
            return false;
        }
        mine.distance = self.least_distance(position);
        let (mine, known) = ((mine, least.tail()), (best.key.bar(), best.key.tail()));
        if mine != known {
            return mine < known;
        }
        let (mine, known) = (self.least_left(position), best.key.left);
        mine < known || (self.inherited && mine == known)
    }

    /// Returns whether sockets of equal size can still show the packages: those of the chosen
    /// nodes, in the order of vCPUs, are runs of one length, none of which comes back.
    fn packages_fit(&self, position: usize) -> bool {
        if self.site.mirror() == Mirror::Nodes {
            return true;
        }
        let mut runs: Vec<(u32, usize)> = Vec::new();
        for cell in &self.order[..position] {
            let vcpus = &self.site.demand.cells[*cell].vcpus;
            let node = self.chosen[*cell].map(|(node, _)| &self.site.nodes[node]);
            let Some(package) = node.and_then(|node| node.package) else {
                return true;
            };
            match runs.iter().position(|(known, _)| *known == package) {
                Some(at) if at + 1 == runs.len() => runs[at].1 += vcpus.len(),
                Some(_) => return false,
                None => runs.push((package, vcpus.len())),
            }
        }
        let Some((_, length)) = runs.first().copied() else {
            return true;
        };
        let all = self.site.demand.vcpus as usize;
        let (last, closed) = runs
            .split_last()
            .map_or((length, &[][..]), |(last, rest)| (last.1, rest));
        closed.iter().all(|(_, other)| *other == length)
            && (closed.is_empty() || (last <= length && all.is_multiple_of(length)))
            && runs.len() <= self.site.most_packages()
    }

    pub(super) fn least_far(&self, position: usize) -> u32 {
        let here = |(node, _): &(usize, usize)| self.site.nodes[*node].devices;
        let chosen: u32 = self.chosen.iter().flatten().map(here).sum();
        let own = |cell: usize, node: usize| {
            let cell = self.site.demand.cells[cell].id;
            self.site.devices_of(cell, self.site.nodes[node].id)
        };
        let chosen_own = self.order[..position].iter().map(|cell| {
            let node = self.chosen[*cell].map(|(node, _)| node);
            node.map_or(0, |node| own(*cell, node))
        });
        let rest = &self.order[position..];
        let hoped_own = rest.iter().map(|cell| {
            let open = self.fitting[*cell].iter().filter(|node| !self.taken[**node]);
            open.map(|node| own(*cell, *node)).max().unwrap_or(0)
        });
        let mut open: Vec<u32> = self.untaken().map(|node| node.devices).collect();
        open.sort_unstable_by_key(|devices| Reverse(*devices));
        let hoped: u32 = open.iter().take(rest.len()).sum();
        let local = chosen + chosen_own.sum::<u32>() + hoped_own.sum::<u32>() + hoped;
        (self.site.demand.devices.len() as u32).saturating_sub(local)
    }

    fn untaken(&self) -> impl Iterator<Item = &NodeView> {
        let open = |(_, taken): &(&NodeView, &bool)| !**taken;
        self.site
            .nodes
            .iter()
            .zip(&self.taken)
            .filter(open)
            .map(|(node, _)| node)
    }

    /// Returns the distances of the chosen nodes, with the least that the nodes to come can add.
    fn least_distance(&self, position: usize) -> u64 {
        let open = (0..self.taken.len()).filter(|node| !self.taken[*node]);
        let open = open.map(|node| (node, self.to_taken[node]));
        let more = self.order.len() - position;
        self.distance + self.site.distances().least_more(open, more)
    }

    /// Returns a lower bound of [`crate::placement::Key::left`] for this branch: the free CPUs left
    /// on the chosen nodes and on the best nodes to come.
    fn least_left(&self, position: usize) -> i64 {
        let rest = self.order.len() - position;
        let demand = self.site.demand;
        let sign = if demand.spread { -1 } else { 1 };
        let chosen = self.chosen_nodes().map(|node| i64::from(node.free));
        let mut open: Vec<i64> = self.untaken().map(|node| sign * i64::from(node.free)).collect();
        open.sort_unstable();
        let used = (demand.dedicated.len() + demand.extra_max as usize) as i64;
        // Withheld siblings are unknown here: counting all of them only loosens the bound.
        let withheld = match demand.withhold_siblings || self.round.level == Level::Isolate {
            true => chosen.clone().sum::<i64>() + open.iter().take(rest).map(|free| free.abs()).sum::<i64>(),
            false => 0,
        };
        let left = chosen.map(|free| sign * free).sum::<i64>() + open.iter().take(rest).sum::<i64>();
        match demand.spread {
            true => left + (demand.dedicated.len() + demand.extra_min as usize) as i64,
            false => left - used - withheld,
        }
    }

    /// Returns whether the cells from here on can still each have a node of their own (Kuhn's
    /// augmenting paths).
    pub(super) fn can_match(&self, position: usize) -> bool {
        let mut owner: Vec<Option<usize>> = vec![None; self.taken.len()];
        (position..self.order.len()).all(|position| {
            let mut seen = self.taken.clone();
            self.augment(self.order[position], &mut owner, &mut seen)
        })
    }

    fn augment(&self, cell: usize, owner: &mut [Option<usize>], seen: &mut [bool]) -> bool {
        for &node in &self.fitting[cell] {
            if seen[node] {
                continue;
            }
            seen[node] = true;
            let free = match owner[node] {
                None => true,
                Some(other) => self.augment(other, owner, seen),
            };
            if free {
                owner[node] = Some(cell);
                return true;
            }
        }
        false
    }
}
