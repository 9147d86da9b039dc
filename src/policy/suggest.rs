//! "did you mean": the known word closest to the one that was written.

/// Returns the candidate nearest to `word`, if it is near enough to be a typing error.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let length = word.chars().count();
    if length == 0 || length > LONGEST {
        return None;
    }
    let plain = simple(word);
    // Edits: insert, delete, replace, swap of neighbours.
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&plain, &simple(candidate)), candidate))
        .filter(|(distance, candidate)| {
            let shorter = length.min(candidate.chars().count());
            *distance <= shorter.div_ceil(3) && *distance < shorter
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns `; did you mean 'x'?`, or an empty text.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(word, candidates) {
        Some(candidate) => format!("; did you mean '{candidate}'?"),
        None => String::new(),
    }
}

/// Makes words comparable: upper and lower case, dashes and underscores are easily mixed up.
fn simple(word: &str) -> String {
    word.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c == '-' { '_' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = [
            "housekeeping",
            "dedicated",
            "shared",
            "smt",
            "numa",
            "cpus",
            "fit",
            "off",
        ];
        for (word, expected) in [
            ("housekeping", Some("housekeeping")),
            ("Dedicated", Some("dedicated")),
            ("shraed", Some("shared")),
            ("stm", Some("smt")),
            ("cpu", Some("cpus")),
            ("fitt", Some("fit")),
            ("x", None),
            ("", None),
            ("zzzzzz", None),
            ("ab", None),
        ] {
            assert_eq!(nearest(word, words), expected, "{word}");
        }
    }
}
