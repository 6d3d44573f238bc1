//! Times as people and programs read them.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::{Offset, TimeZone};
use lockstep_client::Timestamp;
use lockstep_machine::show_duration;

/// RFC 3339 where this program runs; a dash for none.
pub(super) fn local(at: Timestamp) -> String {
    in_zone(at, TimeZone::system())
}

fn in_zone(at: Timestamp, zone: TimeZone) -> String {
    if at.0 == 0 {
        return "-".to_owned();
    }
    let time = i64::try_from(at.0)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match time.map(|time| (time, zone.to_offset(time))) {
        Some((time, offset)) if offset != Offset::UTC => {
            format!("{:.3}", time.display_with_offset(offset))
        }
        // So is the last day of the calendar, which has no local time everywhere.
        _ => at.rfc3339().unwrap_or_else(|| format!("{} ms", at.0)),
    }
}

/// How long ago something was, in one or two units; a dash for no time.
pub(super) fn age(at: Timestamp) -> String {
    age_at(at, now_ms())
}

fn age_at(at: Timestamp, now_ms: u64) -> String {
    if at.0 == 0 {
        return "-".to_owned();
    }
    // The cluster's clock may be ahead of this one's.
    span(now_ms.saturating_sub(at.0))
}

/// The time left until then; `due` once it is past.
pub(super) fn until(at: Timestamp) -> String {
    match at.0.saturating_sub(now_ms()) {
        0 => "due".to_owned(),
        left => format!("in {}", span(left)),
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A length of time in its largest unit, and the next one where there are fewer than ten of the largest.
fn span(ms: u64) -> String {
    let unit = match ms / 1000 {
        ..600 => 1000,
        600..36_000 => 60_000,
        36_000..864_000 => 3_600_000,
        _ => 86_400_000,
    };
    show_duration(ms / unit * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last millisecond of the year 9999.
    const MS_MAX: u64 = 253_402_300_799_999;

    fn shown(ms: u64, zone: TimeZone) -> String {
        in_zone(Timestamp(ms), zone)
    }

    #[test]
    fn any_time_can_be_printed() {
        assert_eq!(shown(0, TimeZone::UTC), "-");
        assert_eq!(
            shown(1_700_000_000_123, TimeZone::UTC),
            "2023-11-14T22:13:20.123Z"
        );
        assert_eq!(shown(MS_MAX, TimeZone::UTC), "9999-12-31T23:59:59.999Z");
        assert_eq!(shown(MS_MAX + 1, TimeZone::UTC), "253402300800000 ms");
        assert_eq!(shown(u64::MAX, TimeZone::UTC), "18446744073709551615 ms");
        assert_eq!(
            (Timestamp(0).rfc3339(), Timestamp(u64::MAX).rfc3339()),
            (None, None)
        );
    }

    #[test]
    fn a_time_is_shown_in_the_zone_of_the_reader() {
        let zone = TimeZone::fixed(Offset::constant(-3));
        assert_eq!(
            shown(1_700_000_000_000, zone),
            "2023-11-14T19:13:20.000-03:00"
        );
    }

    #[test]
    fn an_age_has_one_or_two_units() {
        let ago = |seconds: u64| age_at(Timestamp(1), seconds * 1000 + 1);
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m 1s"),
            (659, "10m"),
            (3660, "1h 1m"),
            (3600, "1h"),
            (36_000, "10h"),
            (90_000, "1d 1h"),
            (900_000, "10d"),
        ] {
            assert_eq!(ago(seconds), text);
        }
        assert_eq!(age_at(Timestamp(5000), 4000), "0s", "a clock ahead");
        assert_eq!(age_at(Timestamp(0), 4000), "-");
    }
}
