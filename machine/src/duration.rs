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

/// The units in which durations are shown, in milliseconds: short, and as a word.
const UNITS: [(u64, &str, &str); 5] = [
    (86_400_000, "d", "day"),
    (3_600_000, "h", "hour"),
    (60_000, "m", "minute"),
    (1000, "s", "second"),
    (1, "ms", "millisecond"),
];

/// A duration as [`parse_duration`] reads it, `1h 30m`. Days are the largest unit.
pub fn show_duration(ms: u64) -> String {
    shown(ms, "0s", |count, short, _| format!("{count}{short}"))
}

/// A duration in words, `1 hour 30 minutes`. [`parse_duration`] reads it too.
pub fn duration_in_words(ms: u64) -> String {
    shown(ms, "0 seconds", |count, _, word| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {word}{plural}")
    })
}

fn shown(ms: u64, zero: &str, part: fn(u64, &str, &str) -> String) -> String {
    let mut left = ms;
    let mut parts = vec![];
    for (unit, short, word) in UNITS {
        if left >= unit {
            parts.push(part(left / unit, short, word));
            left %= unit;
        }
    }
    match parts.is_empty() {
        true => zero.to_owned(),
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
            assert_eq!(parse_duration(&duration_in_words(ms)), Ok(ms), "{text}");
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
        for (ms, text, words) in [
            (0, "0s", "0 seconds"),
            (1, "1ms", "1 millisecond"),
            (90 * 86_400_000, "90d", "90 days"),
            (5_400_000, "1h 30m", "1 hour 30 minutes"),
            (1500, "1s 500ms", "1 second 500 milliseconds"),
        ] {
            assert_eq!(show_duration(ms), text);
            assert_eq!(duration_in_words(ms), words);
        }
    }
}
