//! Interprets answers of the receiver. Pure: no I/O.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::sink::SinkError;

/// Characters of an error's body that are quoted.
const QUOTED_CHARS_MAX: usize = 200;

/// Classifies a status other than 2xx. Only a status that clearly concerns the message itself rejects it; for
/// all others, the sink retries until an operator fixes the cause.
pub(super) fn classify(status: StatusCode, said: &str, retry_after: Option<Duration>) -> SinkError {
    let reason = match said {
        "" => format!("it answered {status}"),
        said => format!("it answered {status}: {said}"),
    };
    match status.as_u16() {
        400 | 409 | 413 | 415 | 422 => SinkError::rejected(None, reason),
        408 | 425 | 429 | 500..=599 => SinkError::Unavailable {
            reason,
            retry_after,
            server_error: status.is_server_error(),
        },
        300..=399 => SinkError::misconfigured(format!(
            "it answered {status}: redirects are not followed; configure the final address"
        )),
        _ => SinkError::misconfigured(reason),
    }
}

/// The pause that the receiver requests: a number of seconds or a date (RFC 9110, 10.2.3), at most `max`.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime, max: Duration) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let wait = if is_number {
        // A number that overflows is more than `max`.
        text.parse().map_or(max, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(max))
}

/// The beginning of a body, as one line of text.
pub(super) fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut quoted = String::new();
    for c in text.trim().chars().take(QUOTED_CHARS_MAX) {
        if c.is_control() {
            quoted.extend(c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_class() {
        for (statuses, kind, server_error) in [
            (&[400, 409, 413, 415, 422][..], "rejected", false),
            (&[408, 425, 429], "unavailable", false),
            (&[500, 502, 503, 504, 507, 599], "unavailable", true),
            (
                &[301, 307, 304, 401, 403, 404, 405, 410, 402, 418, 451],
                "misconfigured",
                false,
            ),
        ] {
            for status in statuses {
                let found = classify(StatusCode::from_u16(*status).unwrap(), "", None);
                let found = (found.kind(), found.is_server_error());
                assert_eq!(found, (kind, server_error), "{status}");
            }
        }
    }

    #[test]
    fn retry_after_is_a_number_or_a_date_and_bounded() {
        let (now, max) = (SystemTime::UNIX_EPOCH, Duration::from_secs(60));
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now, max)
        };
        let seconds = |it| Some(Duration::from_secs(it));
        assert_eq!(retry_after(&HeaderMap::new(), now, max), None);
        assert_eq!(read("7"), seconds(7));
        assert_eq!(read("0"), seconds(0));
        assert_eq!(read("3600"), seconds(60));
        assert_eq!(read("99999999999999999999999"), seconds(60));
        assert_eq!(read("Thu, 01 Jan 1970 00:00:30 GMT"), seconds(30));
        assert_eq!(read("Thu, 01 Jan 1970 01:00:00 GMT"), seconds(60));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
        let later = now + Duration::from_secs(3600);
        let mut past = HeaderMap::new();
        past.insert(
            RETRY_AFTER,
            "Thu, 01 Jan 1970 00:00:30 GMT".parse().unwrap(),
        );
        assert_eq!(retry_after(&past, later, max), seconds(0));
    }

    #[test]
    fn a_body_is_quoted_in_one_line_and_cut() {
        assert_eq!(quote(b" no\nroom\x1b[2J "), "no\\nroom\\u{1b}[2J");
        assert_eq!(quote("\u{e4}".repeat(300).as_bytes()).chars().count(), 200);
        assert_eq!(quote(b"\xff"), "\u{fffd}");
        assert_eq!(quote(b""), "");
    }
}
