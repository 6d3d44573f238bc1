//! What an error of the driver or the server means.
//!
//! An error about one document that is not known to pass or to be about us is about the document: it
//! is put aside, where an operator sees it, instead of holding up all that comes after it.

use lockstep_machine::EventCursor;
use mongodb::error::{CommandError, Error, ErrorKind, IndexedWriteError, WriteError, WriteFailure};
use serde::Deserialize;

use super::super::SinkError;

/// Another document has that key in a unique index.
const DUPLICATE_KEY: i32 = 11000;
/// Credentials, rights, or collections and indexes that are not what we need. In order: UserNotFound,
/// Unauthorized, AuthenticationFailed, CannotCreateIndex, InvalidNamespace, IndexOptionsConflict,
/// IndexKeySpecsConflict, CommandNotSupportedOnView, AtlasError (which stands for both first ones
/// there), DatabaseDifferCase.
const MISCONFIGURED: [i32; 10] = [11, 13, 18, 67, 73, 85, 86, 166, 8000, 13297];
/// What passes: fail-over, shut-down, the network between servers, locks, a full disk, and errors that
/// say nothing. In order: InternalError, HostUnreachable, HostNotFound, UnknownError, LockTimeout,
/// LockBusy, MaxTimeMSExpired, StaleShardVersion, WriteConcernFailed, ShutdownInProgress,
/// OperationFailed, NetworkTimeout, WriteConcernTimeout, WriteConflict, ReadConcernMajorityNotAvailable,
/// PrimarySteppedDown, NetworkInterfaceExceededTimeLimit, ExceededTimeLimit, ConnectionError, SocketException,
/// NotWritablePrimary and its likes, InterruptedAtShutdown and its likes, StaleConfig,
/// NotPrimaryNoSecondaryOk, NotPrimaryOrSecondary, OutOfDiskSpace.
const PASSING: [i32; 29] = [
    1, 6, 7, 8, 24, 46, 50, 63, 64, 91, 96, 89, 100, 112, 134, 189, 202, 262, 384, 9001, 10058,
    10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031,
];
/// What is about a document although it ends the whole command: DocumentValidationFailure,
/// BSONObjectTooLarge, KeyTooLong, and documents that an update would make too large.
const ABOUT_A_DOCUMENT: [i32; 5] = [121, 10334, 17280, 17419, 17420];
/// How much of what a server says is passed on, in characters.
const SAID_MAX: usize = 500;

/// The far side is not able now.
pub(super) fn unavailable(reason: impl Into<String>) -> SinkError {
    SinkError::Unavailable {
        reason: reason.into(),
        retry_after: None,
    }
}

/// The far side will not have us.
pub(super) fn misconfigured(reason: impl Into<String>) -> SinkError {
    let reason = reason.into();
    SinkError::Misconfigured { reason }
}

/// What an error means that came of doing something.
pub(super) fn of(doing: &str, error: &Error) -> SinkError {
    match &*error.kind {
        ErrorKind::Command(error) => of_command(doing, error),
        ErrorKind::Write(WriteFailure::WriteError(error)) => {
            WriteFault::from(error).means(doing, None)
        }
        ErrorKind::Authentication { message, .. }
        | ErrorKind::InvalidTlsConfig { message, .. }
        | ErrorKind::IncompatibleServer { message, .. }
        | ErrorKind::InvalidArgument { message, .. } => misconfigured(said(doing, message)),
        ErrorKind::Bson(error) => misconfigured(said(
            doing,
            &format!("what is there was not written by us: {error}"),
        )),
        ErrorKind::ServerSelection { message, .. } => unavailable(said(doing, cause(message))),
        ErrorKind::Io(error) => unavailable(said(doing, &error.to_string())),
        kind => unavailable(said(doing, &kind.to_string())),
    }
}

/// Whether that is all that is wrong.
pub(super) fn is_duplicate(error: &Error) -> bool {
    matches!(
        &*error.kind,
        ErrorKind::Write(WriteFailure::WriteError(error)) if error.code == DUPLICATE_KEY
    )
}

fn of_command(doing: &str, error: &CommandError) -> SinkError {
    let reason = said(doing, &format!("{} ({})", error.message, error.code));
    if MISCONFIGURED.contains(&error.code) || error.code == DUPLICATE_KEY {
        // A duplicate key ends a whole command only if it keeps an index from being made.
        misconfigured(reason)
    } else if ABOUT_A_DOCUMENT.contains(&error.code) {
        let event = None;
        SinkError::Refused { event, reason }
    } else {
        unavailable(reason)
    }
}

/// What is wrong with one of several documents.
#[derive(Debug, Deserialize)]
pub(super) struct WriteFault {
    /// Which.
    pub(super) index: usize,
    code: i32,
    #[serde(default, rename = "errmsg")]
    message: String,
}

impl From<&IndexedWriteError> for WriteFault {
    fn from(error: &IndexedWriteError) -> Self {
        Self {
            index: error.index,
            code: error.code,
            message: error.message.clone(),
        }
    }
}

impl From<&WriteError> for WriteFault {
    fn from(error: &WriteError) -> Self {
        Self {
            index: 0,
            code: error.code,
            message: error.message.clone(),
        }
    }
}

impl WriteFault {
    /// The document is refused.
    pub(super) fn refused(&self, doing: &str, event: Option<EventCursor>) -> SinkError {
        let reason = said(doing, &format!("{} ({})", self.message, self.code));
        SinkError::Refused { event, reason }
    }

    fn means(&self, doing: &str, event: Option<EventCursor>) -> SinkError {
        match self.refused(doing, event) {
            SinkError::Refused { reason, .. } if MISCONFIGURED.contains(&self.code) => {
                misconfigured(reason)
            }
            SinkError::Refused { reason, .. } if PASSING.contains(&self.code) => {
                unavailable(reason)
            }
            refused => refused,
        }
    }
}

/// The duplicates, if nothing else is wrong. What else is wrong is told otherwise: first what holds up
/// everything, then the first document that is refused.
pub(super) fn only_duplicates(
    doing: &str,
    faults: Vec<WriteFault>,
    event: impl Fn(usize) -> Option<EventCursor>,
) -> Result<Vec<WriteFault>, SinkError> {
    let is_duplicate = |fault: &WriteFault| fault.code == DUPLICATE_KEY;
    let (duplicates, others): (Vec<_>, Vec<_>) = faults.into_iter().partition(is_duplicate);
    let mut errors = others
        .iter()
        .map(|fault| fault.means(doing, event(fault.index)));
    let Some(first) = errors.next() else {
        return Ok(duplicates);
    };
    let worse = |error: &SinkError| !matches!(error, SinkError::Refused { .. });
    Err(std::iter::once(first.clone())
        .chain(errors)
        .find(worse)
        .unwrap_or(first))
}

/// What the driver knows of why no server can be selected: its whole picture of them is too long.
fn cause(message: &str) -> &str {
    let Some((_, cause)) = message.split_once("Error: Kind: ") else {
        return message;
    };
    cause
        .split_once(", labels:")
        .map_or(cause, |(cause, _)| cause)
}

fn said(doing: &str, what: &str) -> String {
    let what: String = what.chars().take(SAID_MAX).collect();
    format!("{doing}: {what}")
}
