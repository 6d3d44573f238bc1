//! A caller's deadline, and statuses in metrics.

use std::time::Duration;

use tonic::Code;

/// The response is sent this much before the client's deadline, so that it says whether the request may have
/// been executed; at the deadline, tonic would abort the call without that information.
const HEAD_START_MAX: Duration = Duration::from_millis(20);

/// The time for a call from the header `grpc-timeout`, which is at most 8 digits and a unit.
/// A header that does not parse counts as none.
pub(super) fn deadline(asked: Option<&str>, max: Duration) -> Duration {
    let Some(asked) = asked.and_then(parse_timeout) else {
        return max;
    };
    let head_start = (asked / 10).min(HEAD_START_MAX);
    (asked - head_start).min(max)
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// A status code as metrics show it.
pub(super) fn code_label(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_ask_for_less_time_and_not_for_more() {
        let max = Duration::from_secs(5);
        for (asked, expected) in [
            (None, max),
            (Some("1S"), Duration::from_millis(980)),
            (Some("100m"), Duration::from_millis(90)),
            (Some("0n"), Duration::ZERO),
            (Some("99999999H"), max),
            (Some("1"), max),
            (Some("S"), max),
            (Some(""), max),
            (Some("+1S"), max),
            (Some("123456789m"), max),
            (Some("1é"), max),
        ] {
            assert_eq!(deadline(asked, max), expected, "{asked:?}");
        }
    }
}
