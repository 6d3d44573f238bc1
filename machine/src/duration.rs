//! Durations as people write them: `15m`, `1h 30m`, `24:00:00`, or `PT15M` as in ISO 8601.
//!
//! A text that two readers could take for different lengths is an error: a month has no fixed length, a
//! number needs a unit, and no unit may appear twice. A year is 365 days.

use jiff::Span;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: {reason}")]
pub struct InvalidDuration {
    text: String,
    reason: &'static str,
}

const FORMATS: &str = "write it as 15m, 1h 30m, 24:00:00 or PT15M; the units are y, w, d, h, m, s and ms, the largest first, each at most once";

/// Reads a duration, in milliseconds.
///
/// # Errors
///
/// The text is not a duration, is ambiguous, or is not a whole number of milliseconds.
pub fn parse_duration(text: &str) -> Result<u64, InvalidDuration> {
    milliseconds(text.trim()).map_err(|reason| InvalidDuration {
        text: text.chars().take(80).collect(),
        reason,
    })
}

fn milliseconds(text: &str) -> Result<u64, &'static str> {
    let number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if number {
        return Err("it has no unit; write, for example, 3600s or 3600ms");
    }
    let span: Span = text.parse().map_err(|_| FORMATS)?;
    if span.is_negative() {
        return Err("it is negative");
    }
    if span.get_months() != 0 {
        return Err("a month has no fixed length; write days");
    }
    let nanoseconds = [
        (i128::from(span.get_years()), 365 * DAY),
        (i128::from(span.get_weeks()), 7 * DAY),
        (i128::from(span.get_days()), DAY),
        (i128::from(span.get_hours()), 3_600_000_000_000),
        (span.get_minutes().into(), 60_000_000_000),
        (span.get_seconds().into(), 1_000_000_000),
        (span.get_milliseconds().into(), 1_000_000),
        (span.get_microseconds().into(), 1000),
        (span.get_nanoseconds().into(), 1),
    ];
    // Each is far below 2^100.
    let nanoseconds: i128 = nanoseconds.iter().map(|(count, unit)| count * unit).sum();
    if nanoseconds % 1_000_000 != 0 {
        return Err("it is not a whole number of milliseconds");
    }
    u64::try_from(nanoseconds / 1_000_000).map_err(|_| "it is too long")
}

/// A day, in nanoseconds.
const DAY: i128 = 86_400_000_000_000;

/// A duration as [`parse_duration`] reads it. Days are the largest unit.
pub fn show_duration(ms: u64) -> String {
    let units = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
        (1, "ms"),
    ];
    let mut left = ms;
    let mut parts = vec![];
    for (unit, name) in units {
        if left >= unit {
            parts.push(format!("{}{name}", left / unit));
            left %= unit;
        }
    }
    match parts.is_empty() {
        true => "0s".to_owned(),
        false => parts.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_as_people_write_it() {
        const HOUR: u64 = 3_600_000;
        for (text, ms) in [
            ("15m", HOUR / 4),
            ("PT15M", HOUR / 4),
            ("pt15m", HOUR / 4),
            ("1h 30m", 3 * HOUR / 2),
            ("1h30m", 3 * HOUR / 2),
            ("1.5h", 3 * HOUR / 2),
            ("P1DT12H", 36 * HOUR),
            ("24:00:00", 24 * HOUR),
            ("2 days", 48 * HOUR),
            ("1w", 7 * 24 * HOUR),
            ("90d", 90 * 24 * HOUR),
            ("100years", 100 * 365 * 24 * HOUR),
            ("10ms", 10),
            ("0s", 0),
            ("1s 500ms", 1500),
            (" 5 seconds ", 5000),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
            assert_eq!(parse_duration(&show_duration(ms)), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_ambiguous_or_no_duration_is_refused_with_the_reason() {
        for (text, words) in [
            ("3600", "no unit"),
            ("3_600", "no unit"),
            ("1M", "15m"),
            ("1mo", "month"),
            ("2 months", "month"),
            ("P1M", "month"),
            ("5m5m", "at most once"),
            ("30m 1h", "the largest first"),
            ("-5m", "negative"),
            ("5m ago", "negative"),
            ("1us", "whole number of milliseconds"),
            ("soon", "write it as"),
            ("", "write it as"),
            ("999999999999999999999999d", "write it as"),
        ] {
            let error = parse_duration(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
            assert!(error.starts_with(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_duration_is_shown_in_days_and_less() {
        for (ms, text) in [
            (0, "0s"),
            (90 * 86_400_000, "90d"),
            (5_400_000, "1h 30m"),
            (1500, "1s 500ms"),
        ] {
            assert_eq!(show_duration(ms), text);
        }
    }
}
