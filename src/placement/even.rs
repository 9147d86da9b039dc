//! Search over sets of nodes for the most even division: the narrowest window of vCPUs a node in
//! which the best cost of what comes before is reached.

use crate::placement::Placed;
use crate::placement::cores::Site;
use crate::placement::division::Division;
use crate::placement::node_sets::Sets;
use crate::placement::rank::Bar;
use crate::placement::spread::{Round, Spread, Window};

/// Returns the better of `best` and of the best placement of a round on `count` nodes.
pub(crate) fn search(
    site: &Site<'_>,
    round: Round,
    spread: Spread,
    count: usize,
    best: Option<Placed>,
) -> Option<Placed> {
    let division = Division::new(site, round, spread);
    let mut sets = Sets::new(&division, count);
    if site.first {
        return sets.search(Window::ANY, best);
    }
    if !sets.is_possible(best.as_ref()) {
        return best;
    }
    // Most guests can be divided evenly, so that is tried first.
    let all = division.last();
    let narrowest = usize::from(!all.is_multiple_of(count));
    let ideal = sets.ideal();
    let is_ideal = |placed: &Placed| {
        Bar {
            distance: 0,
            ..placed.key.bar()
        } <= ideal
    };
    let mut best = widths(&mut sets, narrowest, best);
    if best.as_ref().is_some_and(is_ideal) {
        return best;
    }
    // Then any division, which says what can be had; then the narrowest windows with which it can.
    best = sets.search(Window::ANY, best);
    for width in narrowest + 1.. {
        let uneven = |placed: &Placed| placed.key.uneven as usize / division.step();
        let open = best
            .as_ref()
            .is_some_and(|best| best.key.bar().round == round.rank(site) && uneven(best) > width);
        if !open {
            break;
        }
        best = widths(&mut sets, width, best);
    }
    best
}

/// Returns the better of `best` and of the placements with windows of one width.
fn widths(sets: &mut Sets<'_, '_, '_>, width: usize, mut best: Option<Placed>) -> Option<Placed> {
    for window in Window::of_width(width, sets.division().last(), sets.count()) {
        best = sets.search(window, best);
    }
    best
}

/// Returns the better of `best` and of the placements that spread it more evenly over as many
/// caches, for a round whose caches have any number of units.
///
/// `search` searches with a given spread.
pub(crate) fn over_caches(
    site: &Site<'_>,
    round: &Round,
    spread: Spread,
    mut best: Option<Placed>,
    mut search: impl FnMut(Spread, Option<Placed>) -> Option<Placed>,
) -> Option<Placed> {
    let threads = round.level.threads();
    let units = round.units(site);
    for width in 0.. {
        let found = best.as_ref().filter(|best| {
            best.key.bar().round == round.rank(site) && best.key.llc_uneven > width as u32 * threads
        });
        let Some(found) = found else { break };
        for window in Window::of_width(width, units, found.key.llcs as usize) {
            best = search(spread.within(window), best);
        }
    }
    best
}
