//! Human-readable quantities: `64KiB`, `1h 30m`, `1000`.

use crate::duration::{parse_duration, show_duration};

const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    /// A value as [`parse`](Self::parse) reads it, with the largest unit that divides it.
    pub fn show(self, value: u64) -> String {
        match self {
            Unit::Count => value.to_string(),
            Unit::Milliseconds => show_duration(value),
            Unit::Bytes => {
                let divides = |(_, size): &(_, u64)| value >= *size && value.is_multiple_of(*size);
                let (unit, size) = SIZES.into_iter().find(divides).unwrap_or(("B", 1));
                format!("{}{unit}", value / size)
            }
        }
    }

    /// Reads a value: a number, which may have `_` between its digits, of things, bytes or milliseconds; or
    /// a size such as `64KiB`, a duration such as `1h 30m`. None if it is neither, or 2^64 or more.
    pub fn parse(self, text: &str) -> Option<u64> {
        let number = |digits: &str| digits.replace('_', "").parse::<u64>().ok();
        number(text).or_else(|| match self {
            Unit::Count => None,
            Unit::Milliseconds => parse_duration(text).ok(),
            Unit::Bytes => {
                let (digits, unit) = text.split_at(text.find(|it: char| it.is_ascii_alphabetic())?);
                let named = |(name, _): &&(&str, _)| name.eq_ignore_ascii_case(unit.trim());
                let (_, size) = SIZES.iter().find(named)?;
                number(digits.trim())?.checked_mul(*size)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_they_are_read() {
        for (unit, value, text) in [
            (Unit::Bytes, 64 << 20, "64MiB"),
            (Unit::Bytes, 1025, "1025B"),
            (Unit::Bytes, 0, "0B"),
            (Unit::Milliseconds, 86_400_000, "1d"),
            (Unit::Milliseconds, 5_400_000, "1h 30m"),
            (Unit::Count, 9, "9"),
        ] {
            assert_eq!(unit.show(value), text);
            assert_eq!(unit.parse(text), Some(value), "{text}");
        }
    }

    #[test]
    fn a_number_may_have_no_unit_or_one_of_its_kind() {
        for (unit, text, value) in [
            (Unit::Count, "1_000_000", Some(1_000_000)),
            (Unit::Bytes, "1024", Some(1024)),
            (Unit::Bytes, "1_024 kib", Some(1 << 20)),
            (Unit::Milliseconds, "5000", Some(5000)),
            (Unit::Count, "1KiB", None),
            (Unit::Bytes, "24h", None),
            (Unit::Bytes, "KiB", None),
            (Unit::Bytes, "99999999999GiB", None),
            (Unit::Milliseconds, "64MiB", None),
            (Unit::Count, "", None),
            (Unit::Count, "-1", None),
        ] {
            assert_eq!(unit.parse(text), value, "{text}");
        }
    }
}
