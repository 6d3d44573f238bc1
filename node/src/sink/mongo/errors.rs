//! What an error of the driver or the server means for the sink.
//!
//! An error about one document is taken as a rejection of that document, unless it is known to be
//! temporary or about the configuration: the event becomes a dead letter, where an operator sees it,
//! instead of blocking the events after it.

use lockstep_machine::EventCursor;
use mongodb::error::{CommandError, Error, ErrorKind, IndexedWriteError, WriteFailure};
use serde::Deserialize;

use super::super::SinkError;

/// Another document has the same key in a unique index.
const DUPLICATE_KEY: i32 = 11000;
/// Credentials, permissions, or unsuitable collections and indexes. In order: UserNotFound,
/// Unauthorized, AuthenticationFailed, CannotCreateIndex, InvalidNamespace, IndexOptionsConflict,
/// IndexKeySpecsConflict, CommandNotSupportedOnView, AtlasError (which Atlas sends for the first two),
/// DatabaseDifferCase.
const MISCONFIGURED: [i32; 10] = [11, 13, 18, 67, 73, 85, 86, 166, 8000, 13297];
/// Temporary errors: failover, shutdown, the network between servers, locks, a full disk, and errors
/// without a cause. In order: InternalError, HostUnreachable, HostNotFound, UnknownError, LockTimeout,
/// LockBusy, MaxTimeMSExpired, StaleShardVersion, WriteConcernFailed, ShutdownInProgress,
/// OperationFailed, NetworkTimeout, WriteConcernTimeout, WriteConflict, ReadConcernMajorityNotAvailable,
/// PrimarySteppedDown, NetworkInterfaceExceededTimeLimit, ExceededTimeLimit, ConnectionError, SocketException,
/// NotWritablePrimary and its likes, InterruptedAtShutdown and its likes, StaleConfig,
/// NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary, OutOfDiskSpace.
const TEMPORARY: [i32; 29] = [
    1, 6, 7, 8, 24, 46, 50, 63, 64, 91, 96, 89, 100, 112, 134, 189, 202, 262, 384, 9001, 10058,
    10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031,
];
/// Errors about one document that end the whole command: DocumentValidationFailure, BSONObjectTooLarge,
/// KeyTooLong, and updates that would make a document too large.
const ABOUT_A_DOCUMENT: [i32; 5] = [121, 10334, 17280, 17419, 17420];
/// Characters of a server's message that are passed on.
const MESSAGE_CHARS_MAX: usize = 500;

/// Classifies the error of an operation.
pub(super) fn classify(operation: &str, error: &Error) -> SinkError {
    match &*error.kind {
        ErrorKind::Command(error) => classify_command(operation, error),
        ErrorKind::Write(WriteFailure::WriteError(error)) => {
            classify_document(operation, error.code, &error.message, None)
        }
        ErrorKind::Authentication { message, .. }
        | ErrorKind::InvalidTlsConfig { message, .. }
        | ErrorKind::IncompatibleServer { message, .. }
        | ErrorKind::InvalidArgument { message, .. } => {
            SinkError::misconfigured(describe(operation, message))
        }
        ErrorKind::Bson(error) => SinkError::misconfigured(describe(
            operation,
            &format!("a document was not written by Lockstep: {error}"),
        )),
        ErrorKind::ServerSelection { message, .. } => {
            SinkError::unavailable(describe(operation, cause(message)))
        }
        ErrorKind::Io(error) => SinkError::unavailable(describe(operation, &error.to_string())),
        kind => SinkError::unavailable(describe(operation, &kind.to_string())),
    }
}

/// Whether the only error is a duplicate key.
pub(super) fn is_duplicate(error: &Error) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE_KEY
    )
}

fn classify_command(operation: &str, error: &CommandError) -> SinkError {
    let reason = coded(operation, error.code, &error.message);
    if MISCONFIGURED.contains(&error.code) || error.code == DUPLICATE_KEY {
        // A duplicate key ends a whole command only if it prevents an index from being created.
        SinkError::misconfigured(reason)
    } else if ABOUT_A_DOCUMENT.contains(&error.code) {
        SinkError::rejected(None, reason)
    } else {
        SinkError::unavailable(reason)
    }
}

/// Classifies an error about one document, and the event that it is of, if known.
fn classify_document(
    operation: &str,
    code: i32,
    message: &str,
    event: Option<EventCursor>,
) -> SinkError {
    let reason = coded(operation, code, message);
    if MISCONFIGURED.contains(&code) {
        SinkError::misconfigured(reason)
    } else if TEMPORARY.contains(&code) {
        SinkError::unavailable(reason)
    } else {
        SinkError::rejected(event, reason)
    }
}

/// The server's error about one of several documents.
#[derive(Debug, Deserialize)]
pub(super) struct DocumentError {
    /// Its number.
    pub(super) index: usize,
    code: i32,
    #[serde(default, rename = "errmsg")]
    message: String,
}

impl From<&IndexedWriteError> for DocumentError {
    fn from(error: &IndexedWriteError) -> Self {
        Self {
            index: error.index,
            code: error.code,
            message: error.message.clone(),
        }
    }
}

impl DocumentError {
    /// The document is rejected.
    pub(super) fn rejected(&self, operation: &str, event: Option<EventCursor>) -> SinkError {
        SinkError::rejected(event, coded(operation, self.code, &self.message))
    }
}

/// The duplicates, if there are no other errors. Otherwise the first error that is not a rejection, or
/// the first rejection.
pub(super) fn only_duplicates(
    operation: &str,
    errors: Vec<DocumentError>,
    event: impl Fn(usize) -> Option<EventCursor>,
) -> Result<Vec<DocumentError>, SinkError> {
    let is_duplicate = |error: &DocumentError| error.code == DUPLICATE_KEY;
    let (duplicates, others): (Vec<_>, Vec<_>) = errors.into_iter().partition(is_duplicate);
    let errors = others
        .iter()
        .map(|it| classify_document(operation, it.code, &it.message, event(it.index)));
    let rank = |error: &SinkError| matches!(error, SinkError::Rejected { .. });
    match errors.min_by_key(rank) {
        Some(first) => Err(first),
        None => Ok(duplicates),
    }
}

/// The cause in the driver's message that no server can be selected; its full description is too long.
fn cause(message: &str) -> &str {
    let Some((_, cause)) = message.split_once("Error: Kind: ") else {
        return message;
    };
    cause
        .split_once(", labels:")
        .map_or(cause, |(cause, _)| cause)
}

fn coded(operation: &str, code: i32, message: &str) -> String {
    describe(operation, &format!("{message} ({code})"))
}

fn describe(operation: &str, what: &str) -> String {
    let what: String = what.chars().take(MESSAGE_CHARS_MAX).collect();
    format!("{operation}: {what}")
}
