//! How a command travels: from the node that accepts it through the log to every node's state.
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
//! A leader cannot trust the bodies that other nodes forward, and need not understand them:
//! [`RequestBody::validate`] checks the form, the format, the kind of command and the size, and
//! refuses what this build would have to stop at. Names and other details are checked when the body
//! is applied. A body that fails there is rejected as
//! [`MalformedRequest`](crate::Rejection::MalformedRequest), like any other request that cannot be
//! executed. A body from a newer build is another matter: to skip it would make the states differ,
//! so applying fails as a whole and changes nothing, and the node must stop.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use minicbor::decode::Decoder;
use minicbor::{Decode, Encode};

use crate::codec::{self, CodecError, Format};
use crate::command::{Command, Trigger};
use crate::ids::{InvalidName, Timestamp};

/// The form of a [`RequestBody`].
pub const REQUEST_FORMAT: Format = Format::new("request", 1);
/// The form of an [`EncodedBatch`].
pub const BATCH_FORMAT: Format = Format::new("log entry", 1);
/// The most bytes that an encoded [`RequestBody`] may have: half of what peers accept in a message.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A run of a node process, as the source of a numbered sequence of requests.
///
/// Drawn at random when a node starts: a restarted node is a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SessionId(#[n(0)] pub u64);

/// Where a request entered the cluster: the request id of RIFL (Lee et al., SOSP 2015).
///
/// The state keeps one outcome per request that is still outstanding, not one per request of the
/// last minutes: everything below `answered_below` is forgotten.
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

/// What a request asks for, apart from where it entered the cluster.
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
    /// The bytes that travel.
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
        let malformed = |error| CodecError::malformed(WHAT, error);
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
        // A kind of value further inside that this build does not know would stop every node of it.
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

    /// Decodes a body; the command's bytes stay at hand.
    pub(crate) fn decode(bytes: &[u8]) -> Result<DecodedBody<'_>, CodecError> {
        let bytes = REQUEST_FORMAT.open(bytes)?;
        let mut decoder = Decoder::new(bytes);
        let malformed = |error| CodecError::malformed(WHAT, error);
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

/// A request as it travels: the header, which nodes read, and the body, which they carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRequest {
    /// Where it entered the cluster.
    pub origin: Origin,
    /// The bytes of a [`RequestBody`].
    pub body: Bytes,
}

/// Writes the payload of one log entry: requests under one leader's stamp.
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

    /// Adds a request behind the others: its body is copied as it is.
    pub fn push(&mut self, origin: Origin, body: &[u8]) {
        codec::encode_to(&BatchItem { origin, body }, &mut self.0);
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Always false: there is at least the stamp.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The log entry's payload.
    pub fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

/// Reads what [`EncodedBatch`] wrote: an iterator over origins and bodies, oldest first.
#[derive(Debug)]
pub struct BatchReader<'b> {
    stamp: Timestamp,
    decoder: Decoder<'b>,
}

impl<'b> BatchReader<'b> {
    /// Reads the format and the stamp.
    ///
    /// # Errors
    ///
    /// As [`CodecError`] says.
    pub fn new(bytes: &'b [u8]) -> Result<Self, CodecError> {
        let mut decoder = Decoder::new(BATCH_FORMAT.open(bytes)?);
        let stamp = codec::decode_next(BATCH_FORMAT.what, &mut decoder)?;
        Ok(Self { stamp, decoder })
    }

    /// The proposing leader's clock.
    pub fn stamp(&self) -> Timestamp {
        self.stamp
    }
}

impl<'b> Iterator for BatchReader<'b> {
    type Item = Result<(Origin, &'b [u8]), CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.decoder.position() >= self.decoder.input().len() {
            return None;
        }
        let item = codec::decode_next(BATCH_FORMAT.what, &mut self.decoder);
        if item.is_err() {
            // What follows cannot be told apart any more.
            self.decoder.set_position(self.decoder.input().len());
        }
        Some(item.map(|BatchItem { origin, body }| (origin, body)))
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
        let reader = BatchReader::new(payload)?;
        let stamp = reader.stamp();
        let decode = |item: Result<(Origin, &'b [u8]), _>| {
            let (origin, body) = item?;
            match RequestBody::decode(body) {
                Ok(decoded) => Ok((origin, Some(decoded))),
                Err(CodecError::Malformed { .. }) => Ok((origin, None)),
                Err(newer) => Err(newer),
            }
        };
        let requests = reader.map(decode).collect::<Result<_, _>>()?;
        Ok(Self { stamp, requests })
    }

    /// The requests, oldest first; without a body where it is malformed.
    pub fn requests(&self) -> impl ExactSizeIterator<Item = (Origin, Option<&RequestBody>)> {
        self.requests
            .iter()
            .map(|(origin, decoded)| (*origin, decoded.as_ref().map(|it| &it.body)))
    }
}

/// A request in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where it entered the cluster.
    pub origin: Origin,
    /// The caller's own key, if it gave one.
    pub key: Option<IdempotencyKey>,
    /// What to do.
    pub command: Command,
}

impl Request {
    /// The request as it travels.
    pub fn encode(&self) -> EncodedRequest {
        let body = RequestBody {
            command: self.command.clone(),
            key: self.key.clone(),
        };
        EncodedRequest {
            origin: self.origin,
            body: body.encode(),
        }
    }
}

/// One log entry's worth of requests, under one leader's stamp, in memory.
///
/// The requests are applied in order, each with its own outcome: one that is rejected changes
/// nothing for the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The proposing leader's clock. [`State::apply`](crate::State::apply) never lets time go back.
    pub stamp: Timestamp,
    /// The requests, oldest first.
    pub requests: Vec<Request>,
}

impl Batch {
    /// The log entry's payload.
    pub fn encode(&self) -> Bytes {
        let mut batch = EncodedBatch::new(self.stamp);
        for request in &self.requests {
            let EncodedRequest { origin, body } = request.encode();
            batch.push(origin, &body);
        }
        batch.into_bytes()
    }

    /// Reads the payload of a log entry whose requests are all well formed.
    ///
    /// # Errors
    ///
    /// As [`CodecError`] says, for the first request that cannot be decoded.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let reader = BatchReader::new(bytes)?;
        let stamp = reader.stamp();
        let request = |item: Result<(Origin, &[u8]), CodecError>| {
            let (origin, body) = item?;
            let RequestBody { command, key } = RequestBody::decode(body)?.body;
            Ok(Request {
                origin,
                key,
                command,
            })
        };
        let requests = reader.map(request).collect::<Result<_, _>>()?;
        Ok(Self { stamp, requests })
    }
}

/// A caller's own name for a request: the same key gets the first outcome again.
///
/// 1 to 128 printable ASCII characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The longest key accepted, in bytes.
    pub const LEN_MAX: usize = 128;

    /// Parses a key.
    pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidName> {
        let value = value.as_ref();
        let reason = if value.is_empty() {
            "it is empty"
        } else if value.len() > Self::LEN_MAX {
            "it is longer than 128 bytes"
        } else if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            "only printable ASCII characters are allowed"
        } else {
            return Ok(Self(value.into()));
        };
        Err(InvalidName {
            kind: "idempotency key",
            value: value.chars().take(80).collect(),
            reason,
        })
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::codec::checked_text!(IdempotencyKey);
