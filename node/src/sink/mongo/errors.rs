//! What an error of the driver or the server means for the sink.
//!
//! An error about one document is taken as a rejection of that document, unless it is known to be
//! temporary or about the configuration: the event becomes a dead letter, where an operator sees it,
//! instead of blocking the events after it.

use lockstep_machine::EventCursor;
use mongodb::error::{CommandError, Error, ErrorKind, WriteError, WriteFailure};
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

pub(super) fn classify(operation: &str, error: &Error) -> SinkError {
    let misconfigured = |what: &str| SinkError::misconfigured(describe(operation, what));
    let unavailable = |what: &str| SinkError::unavailable(describe(operation, what));
    match &*error.kind {
        ErrorKind::Command(CommandError { code, message, .. }) => {
            let reason = coded(operation, *code, message);
            // A duplicate key ends a whole command only if it prevents an index from being created.
            if MISCONFIGURED.contains(code) || *code == DUPLICATE_KEY {
                SinkError::misconfigured(reason)
            } else if ABOUT_A_DOCUMENT.contains(code) {
                SinkError::rejected(None, reason)
            } else {
                SinkError::unavailable(reason)
            }
        }
        ErrorKind::Write(WriteFailure::WriteError(WriteError { code, message, .. })) => {
            let error = DocumentError {
                index: 0,
                code: *code,
                message: message.clone(),
            };
            error.classify(operation, None)
        }
        ErrorKind::Authentication { message, .. }
        | ErrorKind::InvalidTlsConfig { message, .. }
        | ErrorKind::IncompatibleServer { message, .. }
        | ErrorKind::InvalidArgument { message, .. } => misconfigured(message),
        ErrorKind::Bson(error) => {
            misconfigured(&format!("a document was not written by Lockstep: {error}"))
        }
        ErrorKind::ServerSelection { message, .. } => unavailable(cause(message)),
        ErrorKind::Io(error) => unavailable(&error.to_string()),
        kind => unavailable(&kind.to_string()),
    }
}

/// Whether the only error is a duplicate key.
pub(super) fn is_duplicate(error: &Error) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE_KEY
    )
}

/// The server's error about one of several documents.
#[derive(Debug, Deserialize)]
pub(super) struct DocumentError {
    pub(super) index: usize,
    code: i32,
    #[serde(default, rename = "errmsg")]
    message: String,
}

impl DocumentError {
    pub(super) fn is_duplicate(&self) -> bool {
        self.code == DUPLICATE_KEY
    }

    /// What the error means; `event` is the one that the document is about, if known.
    pub(super) fn classify(&self, operation: &str, event: Option<EventCursor>) -> SinkError {
        let reason = coded(operation, self.code, &self.message);
        if MISCONFIGURED.contains(&self.code) {
            SinkError::misconfigured(reason)
        } else if TEMPORARY.contains(&self.code) {
            SinkError::unavailable(reason)
        } else {
            SinkError::rejected(event, reason)
        }
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
