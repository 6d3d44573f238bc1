//! Requests and batches: the form in which a command travels from the accepting node through the log to the
//! state of every node.
//!
//! The accepting node encodes command and key once, as a [`RequestBody`], and gives the request an
//! [`Origin`]: its session and sequence number. From there on the body is opaque bytes. Forwarding
//! to the leader, proposing, logging and replicating copy these bytes, and each node decodes them
//! once, in [`DecodedBatch::decode`].
//!
//! ```text
//! body    format byte | [command, key]
//! batch   format byte | stamp | [origin, body] [origin, body] ...      one log entry
//! ```
//!
//! A leader does not trust the bodies that other nodes forward, but need not decode them fully:
//! [`RequestBody::validate`] checks the structure, the format, the kind of command and the size, and
//! rejects any body that would stop a node of this build when applied. Names and other details are checked
//! when the body is applied; a body that fails there is rejected as
//! [`MalformedRequest`](crate::Rejection::MalformedRequest), like any other request that cannot be
//! executed. A body from a newer build is different: skipping it would make the states diverge, so
//! applying the entry fails as a whole, changes nothing, and the node must stop.

use bytes::Bytes;
use minicbor::decode::Decoder;
use minicbor::{Decode, Encode};

use crate::codec::{self, CodecError, Format};
use crate::command::{Command, Trigger};
use crate::ids::{IdempotencyKey, Timestamp};

/// The form of a [`RequestBody`].
pub const REQUEST_FORMAT: Format = Format::new("request", 1);
/// The form of an [`EncodedBatch`].
pub const BATCH_FORMAT: Format = Format::new("log entry", 1);
/// Maximum size of an encoded [`RequestBody`]: half of the largest message that peers accept.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The source of one numbered sequence of requests: normally one run of a node process.
///
/// Random, chosen when a node starts, so a restarted node has a new session; and again if the cluster has
/// forgotten the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SessionId(#[n(0)] pub u64);

/// Where a request entered the cluster: the request id of RIFL (Lee et al., SOSP 2015).
///
/// The state keeps outcomes only of outstanding requests: those below `answered_below` are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Origin {
    /// The session of the accepting node.
    #[n(0)]
    pub session: SessionId,
    /// The request's number in that session; the first is 1.
    #[n(1)]
    pub sequence: u64,
    /// All requests of the session below this number are answered and will not be sent again.
    #[n(2)]
    pub answered_below: u64,
}

/// A request without its origin: the command and the caller's key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RequestBody {
    /// What to do.
    #[n(0)]
    pub command: Command,
    /// The caller's own key, if it gave one.
    #[n(1)]
    pub key: Option<IdempotencyKey>,
}

/// A body, decoded, with the bytes of its command, which its fingerprint is taken over.
pub(crate) struct DecodedBody<'b> {
    pub(crate) body: RequestBody,
    pub(crate) command_bytes: &'b [u8],
}

const WHAT: &str = REQUEST_FORMAT.what;

impl RequestBody {
    /// The encoded bytes.
    pub fn encode(&self) -> Bytes {
        REQUEST_FORMAT.encode(self).into()
    }

    /// Checks a body that another node encoded: that it is well formed, of a format and a kind of
    /// command that this build knows, and not too large. Builds no command, except for the rare
    /// ones that nest other kinds of values.
    ///
    /// # Errors
    ///
    /// As [`CodecError`] says. A body that passes never stops a node of this build; applying it may
    /// still reject it as malformed.
    pub fn validate(bytes: &[u8]) -> Result<(), CodecError> {
        if bytes.len() > REQUEST_BYTES_MAX {
            let reason = format!(
                "{} bytes are more than {REQUEST_BYTES_MAX}, the maximum",
                bytes.len()
            );
            return Err(CodecError::malformed(WHAT, reason));
        }
        let malformed = |error| CodecError::from_decoding(WHAT, &error);
        let mut decoder = Decoder::new(REQUEST_FORMAT.open(bytes)?);
        let mut ahead = decoder.clone();
        let fields = ahead.array().map_err(malformed)?;
        let parts = ahead.array().map_err(malformed)?;
        if fields == Some(0) || parts == Some(0) {
            return Err(CodecError::malformed(WHAT, "it has no command"));
        }
        let kind = ahead.u32().map_err(malformed)?;
        if kind >= Command::KINDS {
            let reason = format!("command kind {kind}");
            return Err(CodecError::UnknownVariant { what: WHAT, reason });
        }
        decoder.skip().map_err(malformed)?;
        codec::finish(WHAT, &decoder)?;
        // A nested variant that this build does not know would stop every node of this build.
        match kind {
            Command::TRANSITION => {
                ahead.array().map_err(malformed)?;
                ahead.skip().map_err(malformed)?;
                codec::decode_next::<Trigger>(WHAT, &mut ahead).map(drop)
            }
            kind if Command::NESTED_KINDS.contains(&kind) => match Self::decode(bytes) {
                Err(newer) if newer.is_from_newer_build() => Err(newer),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Decodes a body, and keeps the bytes of its command.
    pub(crate) fn decode(bytes: &[u8]) -> Result<DecodedBody<'_>, CodecError> {
        let bytes = REQUEST_FORMAT.open(bytes)?;
        let mut decoder = Decoder::new(bytes);
        let malformed = |error| CodecError::from_decoding(WHAT, &error);
        let Some(fields @ 1..) = decoder.array().map_err(malformed)? else {
            return Err(CodecError::malformed(WHAT, "it has no command"));
        };
        let start = decoder.position();
        let command = codec::decode_next(WHAT, &mut decoder)?;
        let command_bytes = &bytes[start..decoder.position()];
        let key = match fields {
            1 => None,
            _ => codec::decode_next(WHAT, &mut decoder)?,
        };
        for _ in 2..fields {
            decoder.skip().map_err(malformed)?;
        }
        codec::finish(WHAT, &decoder)?;
        Ok(DecodedBody {
            body: RequestBody { command, key },
            command_bytes,
        })
    }
}

/// An encoded request: a header, which nodes decode, and an opaque body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRequest {
    /// Where it entered the cluster.
    pub origin: Origin,
    /// The bytes of a [`RequestBody`].
    pub body: Bytes,
}

/// Writes the payload of a log entry: requests with one timestamp of the leader.
#[derive(Debug, Clone)]
pub struct EncodedBatch(Vec<u8>);

#[derive(Encode, Decode)]
struct BatchItem<'b> {
    #[n(0)]
    origin: Origin,
    #[cbor(n(1), with = "minicbor::bytes")]
    body: &'b [u8],
}

impl EncodedBatch {
    /// Starts a batch under the leader's clock.
    pub fn new(stamp: Timestamp) -> Self {
        Self(BATCH_FORMAT.encode(&stamp))
    }

    /// Appends a request; its body is copied unchanged.
    pub fn push(&mut self, origin: Origin, body: &[u8]) {
        codec::encode_to(&BatchItem { origin, body }, &mut self.0);
    }

    /// The log entry's payload.
    pub fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

/// A log entry's payload, each body decoded once: what [`State::apply_decoded`](crate::State::apply_decoded)
/// executes.
pub struct DecodedBatch<'b> {
    pub(crate) stamp: Timestamp,
    /// None where a body is malformed.
    pub(crate) requests: Vec<(Origin, Option<DecodedBody<'b>>)>,
}

impl<'b> DecodedBatch<'b> {
    /// Decodes a payload and every body in it. A malformed body is kept as such: applying it
    /// rejects that request alone.
    ///
    /// # Errors
    ///
    /// The payload is damaged, or a newer build wrote it or one of its bodies: this build cannot
    /// apply it, and the node must stop.
    pub fn decode(payload: &'b [u8]) -> Result<Self, CodecError> {
        let mut decoder = Decoder::new(BATCH_FORMAT.open(payload)?);
        let stamp = codec::decode_next(BATCH_FORMAT.what, &mut decoder)?;
        let mut requests = vec![];
        while decoder.position() < decoder.input().len() {
            let BatchItem { origin, body } = codec::decode_next(BATCH_FORMAT.what, &mut decoder)?;
            let body = match RequestBody::decode(body) {
                Ok(decoded) => Some(decoded),
                Err(CodecError::Malformed { .. }) => None,
                Err(newer) => return Err(newer),
            };
            requests.push((origin, body));
        }
        Ok(Self { stamp, requests })
    }

    /// The clock of the leader that proposed it.
    pub fn stamp(&self) -> Timestamp {
        self.stamp
    }

    /// The requests, oldest first; without a body where it is malformed.
    pub fn requests(&self) -> impl ExactSizeIterator<Item = (Origin, Option<&RequestBody>)> {
        self.requests
            .iter()
            .map(|(origin, decoded)| (*origin, decoded.as_ref().map(|it| &it.body)))
    }
}
