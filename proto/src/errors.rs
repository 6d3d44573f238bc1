//! The catalogue of errors: one row per stable code.
//!
//! Every error has a code, over HTTP as the `code` of a problem document (RFC 9457), over gRPC
//! as the `code` of a rejection or in the trailer [`CODE_KEY`]. Messages may change; codes do not.
//! The table gives each code its HTTP and gRPC status and says whether a retry is safe, so that the
//! interfaces and clients do not decide that separately. The test
//! `the_error_page_is_generated_from_the_catalogue` generates docs/ERRORS.md from it.
//!
//! To add an error, add a row in the section it belongs to. To retire one, keep the row: an older
//! node may still send the code.

use std::fmt;

use lockstep_machine::Rejection;
use tonic::Code;
use tonic::metadata::MetadataValue;

use crate::v1;

/// Trailer with the stable code of a status.
pub const CODE_KEY: &str = "lockstep-code";
/// Trailer with the time to wait before a retry, in milliseconds.
pub const RETRY_AFTER_KEY: &str = "retry-after-ms";
/// Trailer with the oldest revision that a watch may start from.
pub const OLDEST_REVISION_KEY: &str = "oldest-revision";
/// Trailer with the names of the configured sinks, separated by commas.
pub const KNOWN_KEY: &str = "lockstep-known";

/// Whether to send the same request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The answer will be the same: nothing was executed, and nothing would be.
    Pointless,
    /// Nothing was executed; the same request may succeed later, or on another node.
    Safe,
    /// A write may or may not have been executed: repeat it only with its idempotency key.
    WithKey,
}

/// How gRPC reports an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grpc {
    /// gRPC has no such error.
    Never,
    /// With this status.
    Status(Code),
    /// As a rejection in the message of an `OK` answer.
    Rejection,
    /// As a rejection in the answer to a write, and with this status in the answer to a read.
    RejectionOr(Code),
}

/// What happened to a request that failed: one of the page's sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The state machine rejected it.
    Rejected,
    /// The cluster gave no answer.
    Unanswered,
    /// A watch ended, or cannot start.
    WatchEnded,
    /// The membership was not changed.
    Members,
    /// The request breaks a rule of its interface.
    Malformed,
}

/// A row of the catalogue.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The code.
    pub code: ErrorCode,
    /// Its stable name.
    pub name: &'static str,
    /// Its section of the page.
    pub section: Section,
    /// The HTTP status; zero where HTTP has no such error.
    pub http: u16,
    /// How gRPC reports it.
    pub grpc: Grpc,
    /// Whether a retry helps.
    pub retry: Retry,
    /// What happened, in Markdown.
    pub meaning: &'static str,
    /// What to do, in Markdown.
    pub remedy: &'static str,
}

macro_rules! catalogue {
    ($($section:ident: {$(
        $code:ident = $name:literal, $http:literal, $grpc:expr, $retry:ident,
            $meaning:literal, $remedy:literal;
    )+})+) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[doc = $meaning] $code,)+)+
        }

        /// Every error, in the order of the page.
        pub const CATALOGUE: &[Entry] = &[$($(
            Entry {
                code: ErrorCode::$code,
                name: $name,
                section: Section::$section,
                http: $http,
                grpc: $grpc,
                retry: Retry::$retry,
                meaning: $meaning,
                remedy: $remedy,
            },
        )+)+];
    };
}

use Grpc::{Never, Rejection as Rejected, RejectionOr, Status};

catalogue! {
    Rejected: {
        UnknownMachine = "unknown_machine", 404, RejectionOr(Code::NotFound), Pointless,
            "No machine of that name is defined.", "Define it, or correct the name.";
        UnknownInstance = "unknown_instance", 404, RejectionOr(Code::NotFound), Pointless,
            "The machine has no such instance.", "Create it, or correct the id.";
        UnknownVersion = "unknown_version", 404, RejectionOr(Code::NotFound), Pointless,
            "The machine has no such version; `newest_version` is its newest.", "Use a version that exists.";
        UnknownDeadLetter = "unknown_dead_letter", 404, RejectionOr(Code::NotFound), Pointless,
            "The sink has no dead letter for that event; it may have been replayed or discarded.", "List the dead letters.";
        UnknownState = "unknown_state", 422, Rejected, Pointless,
            "The machine has no such state; `known` lists its states.", "Correct the name.";
        UnknownEvent = "unknown_event", 422, Rejected, Pointless,
            "The event triggers no transition from the current state; `events` lists those that do.", "Send one of `events`.";
        IllegalTransition = "illegal_transition", 409, Rejected, Pointless,
            "The definition has no transition between the two states; `allowed` lists the possible targets, `events` the events.", "Choose one of `allowed`, or send one of `events`.";
        StateMismatch = "state_mismatch", 409, Rejected, Pointless,
            "The instance is in `current_state`, not in the expected state.", "Read the instance, then decide again.";
        RevisionMismatch = "revision_mismatch", 409, Rejected, Pointless,
            "The instance is at `current_revision`, not at the expected revision.", "Read the instance, then decide again.";
        IdempotencyKeyReused = "idempotency_key_reused", 422, Rejected, Pointless,
            "The key was used before, for a different request.", "Use a new key for a new request.";
        RequestExpired = "request_expired", 409, Rejected, Pointless,
            "A node sent the request to the leader more than once, and this copy arrived after the request had been answered.", "Nothing. This copy changed nothing.";
        InvalidDefinition = "invalid_definition", 422, Rejected, Pointless,
            "The definition has faults; `faults` lists each with path, code and message.", "Correct them.";
        DefinitionInUse = "definition_in_use", 409, Rejected, Pointless,
            "Instances still use the version.", "Delete or migrate them first.";
        BuiltIn = "built_in", 409, Rejected, Pointless,
            "`triad` and `triad/default` are part of every cluster.", "Use another name.";
        InstanceExists = "instance_exists", 409, Rejected, Pointless,
            "An instance with that id exists.", "Use it, or choose another id.";
        AlreadyAtVersion = "already_at_version", 409, Rejected, Pointless,
            "The instance is already pinned to that version.", "Nothing: no migration is needed.";
        UnmappedState = "unmapped_state", 422, Rejected, Pointless,
            "The new version has no state of that name; `known` lists its states.", "Map the state in `states`.";
        EmptyTransaction = "empty_transaction", 422, Rejected, Pointless,
            "The transaction has no operations.", "Add at least one.";
        InstanceTwice = "instance_twice", 422, Rejected, Pointless,
            "Two operations of the transaction change the same instance.", "Merge them, or use two transactions.";
        OperationFailed = "operation_failed", 409, Rejected, Pointless,
            "Operation number `operation` was rejected, so none was executed; `reason` has its code.", "See the code of `reason`.";
        MalformedRequest = "malformed_request", 422, Rejected, Pointless,
            "The request could not be decoded when it was applied.", "Report it as a bug: clients cannot cause this.";
        UnknownSetting = "unknown_setting", 422, Rejected, Pointless,
            "There is no cluster setting of that name; the message names the nearest, `known` lists all.", "Correct the name.";
        InvalidSetting = "invalid_setting", 422, Rejected, Pointless,
            "The value is out of range; `min` and `max` give the range of the setting.", "Choose a value in that range.";
        SinkFenced = "sink_fenced", 409, Rejected, Pointless,
            "A leader of a later term has claimed the sink.", "Nothing: clients cannot cause this.";
        TooManyDefinitions = "too_many_definitions", 507, Rejected, Pointless,
            "`definitions_max` is reached.", "Delete machines, or raise the setting.";
        TooManyVersions = "too_many_versions", 507, Rejected, Pointless,
            "`versions_max` is reached.", "Delete versions, or raise the setting.";
        TooManyInstances = "too_many_instances", 507, Rejected, Pointless,
            "`instances_max` is reached.", "Delete instances, or raise the setting.";
        TooManySinks = "too_many_sinks", 507, Rejected, Pointless,
            "`sinks_max` is reached.", "Remove sinks that are no longer configured, or raise the setting.";
        TooManyDeadLetters = "too_many_dead_letters", 507, Rejected, Pointless,
            "The sink has `dead_letters_max` dead letters.", "Replay or discard some, or raise the setting.";
        TooManyStates = "too_many_states", 422, Rejected, Pointless,
            "The definition has more than `states_max` states.", "Split the machine, or raise the setting.";
        TooManyTransitions = "too_many_transitions", 422, Rejected, Pointless,
            "The definition has more than `transitions_max` transitions.", "Split the machine, or raise the setting.";
        DefinitionTooLarge = "definition_too_large", 422, Rejected, Pointless,
            "The definition is larger than `document_bytes_max`.", "Shorten it, or raise the setting.";
        TooManyMetadataEntries = "too_many_metadata_entries", 422, Rejected, Pointless,
            "There are more metadata entries than `metadata_entries_max`.", "Send fewer.";
        MetadataTooLarge = "metadata_too_large", 422, Rejected, Pointless,
            "The metadata is larger than `metadata_bytes_max`.", "Shorten it.";
        TooManyOperations = "too_many_operations", 422, Rejected, Pointless,
            "The transaction has more operations than `operations_max`.", "Split it.";
    }
    Unanswered: {
        Unavailable = "unavailable", 503, Status(Code::Unavailable), Safe,
            "No leader was found in time; nothing was executed. A watch on a node that lost its cluster ends, or does not start, with this code.", "Retry, here or on another node.";
        NotReady = "not_ready", 503, Status(Code::Unavailable), Safe,
            "The node is starting or stopping; nothing was executed. A gRPC watch ends with this code when its node stops.", "Use another node.";
        StateDiffers = "state_differs", 503, Status(Code::Unavailable), Safe,
            "The state of the node differs from that of other members, so its answers may be wrong; nothing was executed.", "Use another node. OPERATIONS.md has the operator's procedure.";
        Behind = "behind", 503, Status(Code::Unavailable), Safe,
            "The node did not reach `min_revision` in time.", "Retry, here or on another node.";
        RevisionAhead = "revision_ahead", 409, Status(Code::OutOfRange), Pointless,
            "`min_revision` does not exist yet in the cluster.", "Pass a revision from the answer to a write.";
        Overloaded = "overloaded", 429, Status(Code::ResourceExhausted), Safe,
            "`raft.queue_max` requests are already waiting to be proposed; nothing was executed.", "Retry after the time in `Retry-After` (gRPC: the trailer `retry-after-ms`).";
        DiskFull = "disk_full", 503, Status(Code::ResourceExhausted), Safe,
            "The leader's disk has less than `storage.free_bytes_min` free; nothing was executed. Reads still work.", "Free disk space on the leader, then retry.";
        RequestTooLarge = "request_too_large", 413, Status(Code::OutOfRange), Pointless,
            "As a log entry, the request is larger than 31 MiB, which is the maximum for a message between nodes; nothing was executed.", "Send less.";
        NotSupportedYet = "not_supported_yet", 409, Status(Code::FailedPrecondition), Pointless,
            "The request uses something that not every node supports yet; the message says which feature level it needs, the cluster's level, and why that has not been raised. Nothing was executed.", "Upgrade or start the nodes that the message names, or raise `feature_level_max`; then retry.";
        TooManyRequests = "too_many_requests", 503, Never, Safe,
            "The node already serves `http.concurrency_max` requests; nothing was executed.", "Retry after the time in `Retry-After`.";
        TooManyWatchers = "too_many_watchers", 429, Status(Code::ResourceExhausted), Safe,
            "The node already has `watchers_max` open watches.", "Watch on another node.";
        BackupInProgress = "backup_in_progress", 429, Status(Code::ResourceExhausted), Safe,
            "The node is already sending a backup.", "Retry once that is complete, or ask another node.";
        OutcomeUnknown = "outcome_unknown", 504, Status(Code::DeadlineExceeded), WithKey,
            "The deadline passed; a write may or may not have been executed.", "Repeat with the same idempotency key.";
        UnknownOutcome = "unknown_outcome", 502, Status(Code::Unknown), WithKey,
            "The request was executed, but this node runs an older release and cannot read the outcome.", "Upgrade the node.";
        StateHashTimeout = "state_hash_timeout", 503, Status(Code::DeadlineExceeded), Safe,
            "The state was not hashed in time.", "Retry.";
        SinkCheckTimeout = "sink_check_timeout", 504, Status(Code::DeadlineExceeded), WithKey,
            "Checking the sink's destination took more than a minute.", "Check the destination.";
        Internal = "internal", 500, Status(Code::Internal), WithKey,
            "A task on the node was aborted.", "Retry, and report it as a bug.";
    }
    WatchEnded: {
        CursorOfAnotherCluster = "cursor_of_another_cluster", 409, Status(Code::FailedPrecondition), Pointless,
            "The event id (over gRPC, the `cluster_id`) to continue from belongs to another cluster: this cluster was restored or recovered since, or the request was meant for another one.", "Read the state, then watch from the revision after it.";
        Compacted = "compacted", 410, Status(Code::OutOfRange), Pointless,
            "Some events after the requested position are no longer kept; the oldest revision whose events are all kept is `oldest_revision` (gRPC: the trailer `oldest-revision`).", "Read the state, then watch from the revision after it.";
        Lagged = "lagged", 410, Status(Code::OutOfRange), Pointless,
            "The reader was too slow: events that it has not read are no longer kept; `oldest_revision` is as for `compacted`.", "Read the state, then watch from the revision after it.";
    }
    Members: {
        UnknownMember = "unknown_member", 404, Status(Code::NotFound), Pointless,
            "The cluster has no member of that name or id.", "List the members, then correct it.";
        MemberNameTaken = "member_name_taken", 409, Status(Code::AlreadyExists), Pointless,
            "A member that answers has the name of the new node.", "Give the new node another name, or stop the other one first.";
        LastVoter = "last_voter", 409, Status(Code::FailedPrecondition), Pointless,
            "The member is the only voter.", "Add another voter first.";
        QuorumLost = "quorum_lost", 409, Status(Code::FailedPrecondition), Pointless,
            "After the change, too few of the voters would answer to form a quorum; the message has the numbers.", "Bring members back first. Forced, the cluster accepts no writes until enough voters return.";
        MembershipChangeInProgress = "membership_change_in_progress", 409, Status(Code::Aborted), Safe,
            "Another membership change is not complete, or has just changed the members.", "Retry once it is complete.";
        NodeUnreachable = "node_unreachable", 422, Status(Code::FailedPrecondition), Safe,
            "No node answers at the address of the node to add.", "Start the node, or correct the address.";
        NodeInCluster = "node_in_cluster", 409, Status(Code::FailedPrecondition), Pointless,
            "The node to add belongs to another cluster.", "Start it with an empty data folder.";
        NodeTooOld = "node_too_old", 409, Status(Code::FailedPrecondition), Pointless,
            "The release of the node to add does not support the feature level of the cluster; the message names both.", "Upgrade that node first.";
        NoSuccessor = "no_successor", 409, Status(Code::FailedPrecondition), Safe,
            "No other voter that answers could take over leadership.", "Look at the members, then retry.";
    }
    Malformed: {
        NotFound = "not_found", 404, Never, Pointless,
            "Nothing exists at this path.", "See `/openapi.json`.";
        UnknownSink = "unknown_sink", 404, Status(Code::NotFound), Pointless,
            "No sink of that name is configured; `known` (gRPC: the trailer `lockstep-known`) lists the configured ones.", "Correct the name, or configure the sink on every node.";
        MethodNotAllowed = "method_not_allowed", 405, Never, Pointless,
            "The path does not support the method; `Allow` lists those it supports.", "Use one of them.";
        OriginNotAllowed = "origin_not_allowed", 403, Never, Pointless,
            "A web page of another origin sent a request that changes something, and `http.cors_origins` does not list the origin.", "Add the origin to `http.cors_origins`.";
        InvalidPath = "invalid_path", 400, Never, Pointless,
            "The decoded path is not UTF-8.", "Correct it.";
        InvalidHeader = "invalid_header", 400, Never, Pointless,
            "The `Host` header of an HTTP/1.1 request is missing.", "Send it.";
        UnsupportedTransferEncoding = "unsupported_transfer_encoding", 501, Never, Pointless,
            "The `Transfer-Encoding` is not `chunked`.", "Compress with `Content-Encoding: gzip`.";
        InvalidQuery = "invalid_query", 400, Never, Pointless,
            "The query cannot be decoded.", "Correct it.";
        UnknownParameter = "unknown_parameter", 400, Never, Pointless,
            "A query parameter is unknown; the message suggests the nearest known one.", "Correct it.";
        RepeatedParameter = "repeated_parameter", 400, Never, Pointless,
            "A query parameter appears more than once.", "Send it once.";
        MissingParameter = "missing_parameter", 400, Never, Pointless,
            "A required query parameter is missing.", "Add it.";
        InvalidParameter = "invalid_parameter", 400, Never, Pointless,
            "The value of a query parameter is not valid.", "Correct it.";
        InvalidName = "invalid_name", 400, Never, Pointless,
            "A name breaks the rules for names.", "Use 1 to 64 ASCII letters, digits, `-`, `_` or `.`, starting with a letter or a digit; the message names the first wrong character.";
        InvalidMetadata = "invalid_metadata", 400, Never, Pointless,
            "A metadata entry breaks the rules, or appears twice.", "Correct it.";
        InvalidIdempotencyKey = "invalid_idempotency_key", 400, Never, Pointless,
            "The key is not 1 to 128 printable ASCII characters, or appears twice.", "Correct it.";
        InvalidCursor = "invalid_cursor", 400, Status(Code::InvalidArgument), Pointless,
            "The cursor belongs to another list, or was altered.", "Start the list again.";
        InvalidLastEventId = "invalid_last_event_id", 400, Never, Pointless,
            "`Last-Event-ID` is not an event id, `revision-position-cluster`.", "Send the id of the last event received.";
        InvalidBody = "invalid_body", 400, Never, Pointless,
            "The body is JSON, but not what the route expects; `line` and `column` locate the error.", "Correct it.";
        MalformedJson = "malformed_json", 400, Never, Pointless,
            "The body is not JSON; `line` and `column` locate the error.", "Correct it.";
        MalformedDocument = "malformed_document", 400, Status(Code::InvalidArgument), Pointless,
            "The definition is neither JSON nor YAML; `line` and `column` locate the error.", "Correct it.";
        UnsupportedMediaType = "unsupported_media_type", 415, Never, Pointless,
            "The route does not support this `Content-Type`, `charset` or `Content-Encoding`.", "Send UTF-8 of a supported type, plain or as gzip.";
        BodyTooLarge = "body_too_large", 413, Status(Code::OutOfRange), Pointless,
            "The body is larger than `http.body_bytes_max`, after decompression; a definition may also have `document_bytes_max`. Over gRPC, the message is larger than `grpc.message_bytes_max`.", "Send less.";
        IncompleteBody = "incomplete_body", 400, Never, Safe,
            "The body ended early.", "Send it again.";
        RequestTimeout = "request_timeout", 408, Never, Safe,
            "The body did not arrive in time.", "Send it again.";
        PictureTooLarge = "picture_too_large", 422, Status(Code::FailedPrecondition), Pointless,
            "The machine has too many states or transitions for an SVG diagram.", "Request `dot` or `mermaid`.";
        TooManyNames = "too_many_names", 409, Never, Pointless,
            "`/counter` and `/timer` already hold the maximum number of names.", "Use fewer names.";
        InvalidArgument = "invalid_argument", 0, Status(Code::InvalidArgument), Pointless,
            "A field of a gRPC request is not valid; the message starts with the field. Or the bytes are not a message of the method.", "Correct it.";
    }
}

impl ErrorCode {
    /// Its row in the catalogue.
    pub fn entry(self) -> &'static Entry {
        // The macro writes variants and rows in the same order.
        &CATALOGUE[self as usize]
    }

    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// The code with that name; `None` if a newer release introduced it.
    pub fn find(name: &str) -> Option<Self> {
        let entry = CATALOGUE.iter().find(|entry| entry.name == name)?;
        Some(entry.code)
    }

    /// Its gRPC status, where it is the error of a call: `UNKNOWN` where gRPC has no such error.
    pub fn grpc(self) -> Code {
        match self.entry().grpc {
            Grpc::Status(code) | Grpc::RejectionOr(code) => code,
            Grpc::Rejection => Code::FailedPrecondition,
            Grpc::Never => Code::Unknown,
        }
    }
}

/// The status that a call of its own would have ended with.
impl From<v1::Failure> for tonic::Status {
    fn from(failure: v1::Failure) -> Self {
        let code = ErrorCode::find(&failure.code);
        let mut status = Self::new(code.map_or(Code::Unknown, ErrorCode::grpc), failure.message);
        let trailers = status.metadata_mut();
        if let Some(code) = code {
            trailers.insert(CODE_KEY, MetadataValue::from_static(code.as_str()));
        }
        if let Some(ms) = failure.retry_after_ms {
            trailers.insert(RETRY_AFTER_KEY, ms.into());
        }
        status
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<&str> for ErrorCode {
    fn eq(&self, name: &&str) -> bool {
        self.as_str() == *name
    }
}

impl From<&Rejection> for ErrorCode {
    fn from(rejection: &Rejection) -> Self {
        Self::find(rejection.code()).expect("a test finds a row for the code of every rejection")
    }
}
