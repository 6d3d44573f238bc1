//! Guesses which name was meant by one that does not exist.

/// The longest name that is compared: the comparison takes quadratic time, and no known name is longer.
const LEN_MAX: usize = 64;

/// The known name that is nearest to a wrong one; none if all differ in too many letters.
pub fn nearest<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if wrong.len() > LEN_MAX {
        return None;
    }
    let distance = |known| (strsim::damerau_levenshtein(wrong, known), known);
    // Two names that have no letter in common are as far apart as the longer one is long.
    let is_near = |(distance, known): &(usize, &str)| {
        *distance <= 2.max(known.len() / 3) && *distance < wrong.len().min(known.len())
    };
    let near = known.into_iter().map(distance).filter(is_near);
    near.min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slip_is_near_and_another_name_is_not() {
        let known = [
            "name",
            "initial",
            "states",
            "transitions",
            "to",
            "expect_state",
        ];
        for (wrong, expected) in [
            ("inital", Some("initial")),
            ("States", Some("states")),
            ("transition", Some("transitions")),
            ("exspect_state", Some("expect_state")),
            ("too", Some("to")),
            ("on", None),
            ("x", None),
            ("", None),
            ("color", None),
        ] {
            assert_eq!(nearest(wrong, known), expected, "{wrong:?}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), known), None);
    }
}
