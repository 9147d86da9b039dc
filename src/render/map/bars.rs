//! Memory of a map's nodes as bars, each guest's part in its letter.

use crate::map::{Picture, Pool};
use crate::render::layout::{Line, Paint};
use crate::render::memory::{of_total, page};
use crate::types::ids::KiB;

/// Columns of a bar between its brackets.
const BAR: usize = 10;

/// Returns the label of a bar: `mem` for small pages, else the page size.
pub(super) fn label(size: Option<KiB>) -> String {
    size.map_or_else(|| "mem".to_string(), page)
}

/// Draws a bar: `[AAAABB..##] 3 of 16 GiB free`; `#` is what guests do not have and what is not to
/// be given out.
pub(super) fn bar(pool: &Pool, picture: &Picture) -> Line {
    let mut line = Line::of("[", Paint::Plain);
    let mut used = 0;
    for (guest, columns) in columns(pool) {
        let guest = guest.and_then(|at| picture.guests.get(at));
        match guest {
            Some(guest) => line.push(guest.letter.repeat(columns), Paint::Guest(guest.color)),
            None => line.push(".".repeat(columns), Paint::Plain),
        };
        used += columns;
    }
    line.push("#".repeat(BAR.saturating_sub(used)), Paint::Dim);
    let free = of_total(pool.free_kib.0, pool.total_kib.0);
    line.push(format!("] {free} free"), Paint::Plain);
    line
}

/// Divides a bar among guests, and the free part (`None`): at most [`BAR`] in all. A guest with any
/// memory has a column as long as there are some.
fn columns(pool: &Pool) -> Vec<(Option<usize>, usize)> {
    let total = u128::from(pool.total_kib.0.max(1));
    let scale = |kib: u128| {
        usize::try_from((kib * BAR as u128).div_ceil(total))
            .unwrap_or(BAR)
            .min(BAR)
    };
    let (mut sum, mut used) = (0u128, 0);
    let mut out = Vec::new();
    for part in &pool.guests {
        sum += u128::from(part.kib.0);
        let until = scale(sum).max((used + 1).min(BAR));
        out.push((Some(part.guest), until - used));
        used = until;
    }
    let everything_else_is_free = sum + u128::from(pool.free_kib.0) >= total;
    let free = match everything_else_is_free {
        true => BAR - used,
        false => (u128::from(pool.free_kib.0) * BAR as u128 / total) as usize,
    };
    out.push((None, free.min(BAR - used)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::Part;

    #[test]
    fn bars_are_as_long_as_their_parts() {
        for (parts, free, total, want) in [
            (&[][..], 10, 10, &[10][..]),
            (&[5], 5, 10, &[5, 5]),
            (&[1, 1], 98, 100, &[1, 1, 8]),
            (&[100, 1], 0, 101, &[10, 0, 0]),
            (&[20, 20], 40, 100, &[2, 2, 4]),
            (&[u64::MAX, u64::MAX], u64::MAX, u64::MAX, &[10, 0, 0]),
            (&[], 0, 0, &[0]),
        ] {
            let parts = parts.iter().map(|kib| Part {
                guest: 0,
                kib: KiB(*kib),
            });
            let pool = Pool {
                page_kib: None,
                total_kib: KiB(total),
                free_kib: KiB(free),
                guests: parts.collect(),
            };
            let got: Vec<usize> = columns(&pool).into_iter().map(|(_, columns)| columns).collect();
            assert_eq!(got, want, "{pool:?}");
        }
    }
}
