//! Letter and colour of each guest, which follow from its UUID: a guest keeps them while others
//! come and go, as far as no two guests share one.

use crate::map::data::Guest;

/// Letters, in order of preference.
const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Letters that guests begin with; the others are for those that find none of these left.
const CAPITALS: usize = 26;
/// Letter of guests beyond the last one.
const MANY: &str = "*";
/// Number of colours; `render` has them.
const COLORS: usize = 7;

/// Gives each guest its letter and colour. Guests that run choose first, in the order of their
/// UUIDs.
pub(super) fn give(guests: &mut [Guest]) {
    let mut order: Vec<usize> = (0..guests.len()).collect();
    let key = |at: &usize| {
        guests
            .get(*at)
            .map(|guest| (!guest.is_seated(), guest.uuid.clone(), guest.name.clone()))
    };
    order.sort_by_cached_key(key);
    let (mut letters, mut colors) = ([false; 52], [0usize; COLORS]);
    for at in order {
        let Some(guest) = guests.get_mut(at) else { continue };
        let hash = hash(if guest.uuid.is_empty() {
            &guest.name
        } else {
            &guest.uuid
        });
        guest.letter = free_letter(&mut letters, hash);
        guest.color = rarest_color(&mut colors, hash);
    }
}

/// Takes the first free letter from the one that the hash prefers on; capitals come first.
fn free_letter(taken: &mut [bool; 52], hash: u64) -> String {
    let preferred = (hash % CAPITALS as u64) as usize;
    let capitals = (0..CAPITALS).map(|step| (preferred + step) % CAPITALS);
    let small = (0..CAPITALS).map(|step| CAPITALS + (preferred + step) % CAPITALS);
    let free = capitals.chain(small).find(|at| !taken[*at]);
    match free {
        Some(at) => {
            taken[at] = true;
            char::from(LETTERS[at]).to_string()
        }
        None => MANY.to_string(),
    }
}

/// Takes the colour that fewest guests have, from the one that the hash prefers on.
fn rarest_color(used: &mut [usize; COLORS], hash: u64) -> usize {
    let preferred = (hash / CAPITALS as u64 % COLORS as u64) as usize;
    let all = (0..COLORS).map(|step| (preferred + step) % COLORS);
    let rarest = all.min_by_key(|at| used[*at]).unwrap_or_default();
    used[rarest] += 1;
    rarest
}

/// Returns the FNV-1a hash of a text, with its upper half folded into the lower one: UUIDs that
/// differ in one digit are to be far apart.
fn hash(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(number: usize, state: &str) -> Guest {
        Guest {
            name: format!("g{number}"),
            uuid: format!("8c1f6f0e-0000-4000-8000-{number:012x}"),
            state: state.into(),
            ..Guest::default()
        }
    }

    fn given(mut guests: Vec<Guest>) -> Vec<Guest> {
        give(&mut guests);
        guests
    }

    #[test]
    fn letters_are_unique_and_colours_even() {
        let all = given((0..60).map(|number| guest(number, "running")).collect());
        let mut letters: Vec<&str> = all.iter().map(|guest| guest.letter.as_str()).collect();
        letters.sort_unstable();
        assert_eq!(letters.iter().filter(|letter| **letter == MANY).count(), 8);
        letters.dedup();
        assert_eq!(letters.len(), 53);
        for color in 0..COLORS {
            let count = all.iter().filter(|guest| guest.color == color).count();
            assert!((8..=9).contains(&count), "{color}: {count}");
        }
    }

    #[test]
    fn a_guest_keeps_its_letter_whatever_its_position() {
        let first = given(vec![
            guest(1, "running"),
            guest(2, "running"),
            guest(3, "running"),
        ]);
        let second = given(vec![
            guest(3, "running"),
            guest(2, "running"),
            guest(1, "running"),
        ]);
        let of = |all: &[Guest]| {
            let mut all: Vec<(String, String, usize)> = all
                .iter()
                .map(|guest| (guest.name.clone(), guest.letter.clone(), guest.color))
                .collect();
            all.sort();
            all
        };
        assert_eq!(of(&first), of(&second));
        // One that does not run takes no letter away.
        let third = given(
            (0..60)
                .map(|n| guest(n, if n == 7 { "running" } else { "shut off" }))
                .collect(),
        );
        assert_eq!(third[7].letter, given(vec![guest(7, "running")])[0].letter);
    }
}
