//! What a failed attempt means: whether to try again, when, and whether it may have been executed.

use std::error::Error as _;
use std::time::Duration;

use lockstep_machine::GlobalRevision;
use lockstep_proto::errors::{CODE_KEY, KNOWN_KEY, OLDEST_REVISION_KEY, RETRY_AFTER_KEY, Retry};
use lockstep_proto::{ErrorCode, Malformed, v1};
use tonic::{Code, ConnectError, Status};

use crate::error::Error;

/// No server's hint keeps a caller waiting for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The meaning of a failed attempt.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// A retry, on this or another node, would have the same result.
    Final(Error),
    /// The node's response violates the contract.
    BadAnswer(String),
    /// Another attempt may succeed.
    Retry(Failure),
}

impl From<Malformed> for Verdict {
    fn from(fault: Malformed) -> Self {
        Verdict::BadAnswer(fault.to_string())
    }
}

/// An attempt that may be repeated.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What went wrong, for people.
    pub cause: String,
    /// Whether the request may have been executed anyway.
    pub execution: Execution,
    /// Whether the cluster asked for less load: then going to the next node at once only adds to it.
    pub overloaded: bool,
    /// How long the node asked to wait.
    pub retry_after: Option<Duration>,
    /// Whether to reconnect.
    pub disconnected: bool,
}

/// What is known about a request without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Execution {
    /// It was certainly not executed.
    None,
    /// It may have been.
    Possible,
}

impl Failure {
    /// The request never left.
    pub(crate) fn not_sent(cause: String) -> Self {
        Self {
            cause,
            execution: Execution::None,
            overloaded: false,
            retry_after: None,
            disconnected: true,
        }
    }

    /// The request left, and nothing came back in time.
    pub(crate) fn no_answer(cause: String) -> Self {
        Self {
            execution: Execution::Possible,
            ..Self::not_sent(cause)
        }
    }
}

/// Judges a status: by the catalogue where the node gave a code of it, else by the status that a
/// proxy, the transport or a newer release made.
pub(crate) fn judge(status: Status) -> Verdict {
    let code = metadata(&status, CODE_KEY).and_then(ErrorCode::find);
    let execution = match (code.map(|it| it.entry().retry), status.code()) {
        (Some(Retry::Safe), _) => Execution::None,
        (Some(Retry::WithKey), _) => Execution::Possible,
        // The request is larger than the node takes, or its answer larger than is taken here.
        (_, Code::OutOfRange) if matches!(code, None | Some(ErrorCode::BodyTooLarge)) => {
            return Verdict::Final(Error::Invalid(format!(
                "the request or its answer is too large: {}",
                status.message()
            )));
        }
        (Some(Retry::Pointless), _)
        | (None, Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition) => {
            return decided(&status, code);
        }
        (None, Code::ResourceExhausted | Code::Unimplemented) => Execution::None,
        (None, _) if never_connected(&status) => Execution::None,
        (None, _) => Execution::Possible,
    };
    let retry_after = metadata(&status, RETRY_AFTER_KEY)
        .and_then(|ms| ms.parse().ok())
        .map(|ms| Duration::from_millis(ms).min(RETRY_AFTER_MAX));
    Verdict::Retry(Failure {
        cause: cause(&status),
        execution,
        // With too many watches, only that node is full: another one may have room at once.
        overloaded: status.code() == Code::ResourceExhausted
            && code != Some(ErrorCode::TooManyWatchers),
        retry_after,
        // Statuses made on this side have a source; those that travelled have none.
        disconnected: status.source().is_some(),
    })
}

fn metadata<'a>(status: &'a Status, key: &str) -> Option<&'a str> {
    status.metadata().get(key)?.to_str().ok()
}

/// What would be the same on any node and at any time.
fn decided(status: &Status, code: Option<ErrorCode>) -> Verdict {
    let fallback = match (code, status.code()) {
        (Some(ErrorCode::Compacted | ErrorCode::Lagged), _) => return ended(status, code),
        (_, Code::InvalidArgument) => {
            return Verdict::Final(Error::Invalid(status.message().to_owned()));
        }
        (_, Code::NotFound) => ErrorCode::NotFound.as_str(),
        _ => "failed_precondition",
    };
    let known = metadata(status, KNOWN_KEY).unwrap_or_default().split(',');
    let known = known.filter(|name| !name.is_empty()).map(str::to_owned);
    Verdict::Final(Error::rejected(v1::Rejected {
        code: metadata(status, CODE_KEY).unwrap_or(fallback).to_owned(),
        message: status.message().to_owned(),
        known: known.collect(),
        ..Default::default()
    }))
}

/// A watch that cannot go on.
fn ended(status: &Status, code: Option<ErrorCode>) -> Verdict {
    let oldest = metadata(status, OLDEST_REVISION_KEY).and_then(|oldest| oldest.parse().ok());
    let Some(oldest) = oldest.map(GlobalRevision) else {
        return Verdict::BadAnswer(
            "the watch ended without the trailer oldest-revision".to_owned(),
        );
    };
    let reached = None;
    Verdict::Final(match code == Some(ErrorCode::Lagged) {
        true => Error::Lagged { oldest, reached },
        false => Error::Compacted { oldest },
    })
}

fn never_connected(status: &Status) -> bool {
    sources(status).any(|source| source.is::<ConnectError>())
}

fn sources(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    chain(status.source())
}

fn chain<'a>(
    first: Option<&'a (dyn std::error::Error + 'static)>,
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(first, |&error| error.source())
}

fn cause(status: &Status) -> String {
    if status.code() == Code::Unimplemented {
        // The HTTP port of a node says so, and where the gRPC port is.
        return match status.message() {
            "" => "it does not serve lockstep.v1; use the gRPC port of a node".to_owned(),
            message => format!("it does not serve lockstep.v1: {message}"),
        };
    }
    // The innermost error is the specific one: "Connection refused", not "transport error".
    let innermost = sources(status).last().map(ToString::to_string);
    match innermost {
        Some(innermost) => innermost,
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => status.message().to_owned(),
    }
}

/// The innermost cause of an error, for people.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    chain(Some(error)).last().unwrap_or(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(grpc: Code, code: Option<&'static str>) -> Status {
        let mut status = Status::new(grpc, "said so");
        if let Some(code) = code {
            status
                .metadata_mut()
                .insert(CODE_KEY, code.parse().expect("a code is ASCII"));
        }
        status
    }

    fn execution(grpc: Code, code: Option<&'static str>) -> Execution {
        match judge(status(grpc, code)) {
            Verdict::Retry(failure) => failure.execution,
            other => panic!("{other:?} is not a retry"),
        }
    }

    #[test]
    fn only_a_node_that_says_so_makes_it_certain_that_nothing_was_executed() {
        assert_eq!(
            execution(Code::Unavailable, Some("unavailable")),
            Execution::None
        );
        assert_eq!(
            execution(Code::Unavailable, Some("not_ready")),
            Execution::None
        );
        assert_eq!(
            execution(Code::FailedPrecondition, Some("not_ready")),
            Execution::None
        );
        assert_eq!(execution(Code::ResourceExhausted, None), Execution::None);
        assert_eq!(execution(Code::Unimplemented, None), Execution::None);
        // Made by a proxy or by the transport: the request may have got through.
        assert_eq!(execution(Code::Unavailable, None), Execution::Possible);
        assert_eq!(
            execution(Code::DeadlineExceeded, Some("outcome_unknown")),
            Execution::Possible
        );
        assert_eq!(execution(Code::DeadlineExceeded, None), Execution::Possible);
        assert_eq!(execution(Code::Internal, None), Execution::Possible);
    }

    #[test]
    fn what_no_other_node_would_answer_differently_is_final() {
        assert!(matches!(
            judge(status(Code::InvalidArgument, None)),
            Verdict::Final(Error::Invalid(message)) if message == "said so"
        ));
        assert!(matches!(
            judge(status(Code::NotFound, Some("unknown_instance"))),
            Verdict::Final(Error::Rejected(rejected)) if rejected.code == "unknown_instance"
        ));
    }

    #[test]
    fn an_unknown_sink_comes_with_those_that_are_known() {
        let mut unknown = status(Code::NotFound, Some("unknown_sink"));
        let names = "mail,reports".parse().expect("ASCII");
        unknown.metadata_mut().insert(KNOWN_KEY, names);
        assert!(matches!(
            judge(unknown),
            Verdict::Final(Error::Rejected(rejected)) if rejected.known == ["mail", "reports"]
        ));
    }

    #[test]
    fn a_retry_hint_is_read_and_bounded() {
        let mut hinted = status(Code::ResourceExhausted, Some("overloaded"));
        for (hint, meant) in [
            ("250", Some(Duration::from_millis(250))),
            ("18446744073709551615", Some(RETRY_AFTER_MAX)),
            ("soon", None),
        ] {
            hinted
                .metadata_mut()
                .insert(RETRY_AFTER_KEY, hint.parse().expect("ASCII"));
            let Verdict::Retry(failure) = judge(hinted.clone()) else {
                panic!("not a retry")
            };
            assert!(failure.overloaded);
            assert_eq!(failure.retry_after, meant);
        }
    }

    #[test]
    fn a_node_with_too_many_watches_is_left_for_another_at_once() {
        let full = judge(status(Code::ResourceExhausted, Some("too_many_watchers")));
        assert!(
            matches!(&full, Verdict::Retry(failure) if !failure.overloaded),
            "{full:?}"
        );
    }

    #[test]
    fn out_of_range_errors_are_distinguished_by_code() {
        let kept = |code| {
            let mut status = status(Code::OutOfRange, Some(code));
            status.metadata_mut().insert(OLDEST_REVISION_KEY, 90.into());
            judge(status)
        };
        let oldest = GlobalRevision(90);
        assert!(matches!(
            kept("compacted"),
            Verdict::Final(Error::Compacted { oldest: it }) if it == oldest
        ));
        assert!(matches!(
            kept("lagged"),
            Verdict::Final(Error::Lagged { oldest: it, .. }) if it == oldest
        ));
        let silent = judge(status(Code::OutOfRange, Some("lagged")));
        assert!(matches!(silent, Verdict::BadAnswer(_)), "{silent:?}");
        let ahead = judge(status(Code::OutOfRange, Some("revision_ahead")));
        assert!(
            matches!(&ahead, Verdict::Final(Error::Rejected(it)) if it.code == "revision_ahead"),
            "{ahead:?}"
        );
        // Without a code of ours it is about the size of a message.
        let large = judge(status(Code::OutOfRange, None));
        assert!(
            matches!(large, Verdict::Final(Error::Invalid(_))),
            "{large:?}"
        );
    }
}
