//! Errors as gRPC statuses, and the caller's deadline.

use std::time::Duration;

use lockstep_machine::Rejection;
use lockstep_proto::errors::{CODE_KEY, OLDEST_REVISION_KEY, RETRY_AFTER_KEY};
use lockstep_proto::{ErrorCode, Malformed, UnexpectedOutcome};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::api::watchers::WatchRefused;
use crate::service::{Invalid, PictureError, ServiceError, WatchEnded};

/// The response is sent this much before the client's deadline, so that it says whether the request may have
/// been executed; at the deadline, tonic would abort the call without that information.
const HEAD_START_MAX: Duration = Duration::from_millis(20);

/// An error of the catalogue as a status.
pub(super) fn coded(code: ErrorCode, message: impl ToString) -> Status {
    let mut status = Status::new(code.grpc(), message.to_string());
    status
        .metadata_mut()
        .insert(CODE_KEY, MetadataValue::from_static(code.as_str()));
    status
}

/// The service gave no answer.
pub(super) fn unanswered(error: &ServiceError) -> Status {
    hinted(coded(error.code(), error), error.retry_after())
}

/// Adds the hint when to retry.
fn hinted(mut status: Status, retry_after: Option<Duration>) -> Status {
    if let Some(after) = retry_after {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        status
            .metadata_mut()
            .insert(RETRY_AFTER_KEY, MetadataValue::from(ms));
    }
    status
}

/// A request that breaks the rules of its message.
pub(super) fn malformed(error: Malformed) -> Status {
    coded(ErrorCode::InvalidArgument, error)
}

/// A request that breaks a rule of every interface.
pub(super) fn invalid(error: Invalid) -> Status {
    match error {
        Invalid::Cursor => coded(ErrorCode::InvalidCursor, error),
        Invalid::Value { .. } | Invalid::Name { .. } => coded(ErrorCode::InvalidArgument, error),
    }
}

/// A read found nothing.
pub(super) fn absent(rejection: &Rejection) -> Status {
    coded(rejection.into(), rejection)
}

/// A diagram could not be drawn.
pub(super) fn undrawn(error: &PictureError) -> Status {
    coded(error.code(), error)
}

/// The outcome of a write is unknown to this build. It may have been executed.
pub(super) fn unknown_outcome(error: UnexpectedOutcome) -> Status {
    coded(ErrorCode::UnknownOutcome, error)
}

/// A watch did not start.
pub(super) fn unwatched(refused: &WatchRefused) -> Status {
    match refused {
        WatchRefused::Ended(ended) => out_of_range(*ended),
        other => hinted(coded(other.code(), other), other.retry_after()),
    }
}

/// A watch cannot continue.
pub(super) fn out_of_range(ended: WatchEnded) -> Status {
    let mut status = coded(ended.code(), ended);
    status
        .metadata_mut()
        .insert(OLDEST_REVISION_KEY, MetadataValue::from(ended.oldest().0));
    status
}

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
    use lockstep_machine::{GlobalRevision, MachineName};

    #[test]
    fn every_service_error_has_its_status_code_and_hint() {
        let waited = Duration::from_millis(5);
        for (error, code, hint) in [
            (
                ServiceError::Unavailable { waited },
                Code::Unavailable,
                Some("1000"),
            ),
            (
                ServiceError::NotReady {
                    reason: "starting".to_owned(),
                },
                Code::Unavailable,
                Some("1000"),
            ),
            (
                ServiceError::OutcomeUnknown { waited },
                Code::DeadlineExceeded,
                None,
            ),
            (
                ServiceError::Overloaded,
                Code::ResourceExhausted,
                Some("100"),
            ),
            (
                ServiceError::DiskFull,
                Code::ResourceExhausted,
                Some("5000"),
            ),
        ] {
            let status = unanswered(&error);
            assert_eq!(status.code(), code);
            assert_eq!(
                status.metadata().get(CODE_KEY).unwrap(),
                error.code().as_str()
            );
            assert_eq!(
                status
                    .metadata()
                    .get(RETRY_AFTER_KEY)
                    .map(|v| v.to_str().unwrap()),
                hint
            );
        }
    }

    fn text(status: &Status, key: &str) -> Option<String> {
        let value = status.metadata().get(key)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_watch_that_cannot_go_on_says_from_where_it_could() {
        let (asked, reached, oldest) = (GlobalRevision(3), GlobalRevision(3), GlobalRevision(90));
        for (ended, stable) in [
            (WatchEnded::Compacted { asked, oldest }, "compacted"),
            (WatchEnded::Lagged { reached, oldest }, "lagged"),
        ] {
            for status in [out_of_range(ended), unwatched(&WatchRefused::Ended(ended))] {
                assert_eq!(status.code(), Code::OutOfRange);
                assert_eq!(text(&status, CODE_KEY).as_deref(), Some(stable));
                assert_eq!(text(&status, OLDEST_REVISION_KEY).as_deref(), Some("90"));
            }
        }
        let full = unwatched(&WatchRefused::TooMany { max: 7 });
        assert_eq!(full.code(), Code::ResourceExhausted);
        assert_eq!(text(&full, RETRY_AFTER_KEY).as_deref(), Some("1000"));
    }

    #[test]
    fn what_a_read_does_not_find_is_not_found_under_the_rejections_code() {
        let machine = MachineName::new("order").unwrap();
        let unknown = Rejection::UnknownMachine { machine };
        for status in [
            absent(&unknown),
            undrawn(&PictureError::Absent(Box::new(unknown.clone()))),
        ] {
            assert_eq!(status.code(), Code::NotFound);
            assert_eq!(text(&status, CODE_KEY).as_deref(), Some("unknown_machine"));
        }
    }

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
