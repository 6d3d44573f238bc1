//! Batches and outcomes as they travel and rest: requests to and from the peer protocol.

use std::fmt::Display;

use bytes::Bytes;
use lockstep_machine::{
    Batch, Command, IdempotencyKey, OUTCOME_FORMAT, Origin, Outcome, Request, SessionId, Timestamp,
};
use prost::Message as _;

use crate::{Malformed, raft};

/// Encodes a batch for the log.
pub fn encode_batch(batch: &Batch) -> Bytes {
    let message = raft::Batch {
        stamp_ms: batch.stamp.0,
        requests: batch.requests.iter().map(raft::Request::from).collect(),
    };
    message.encode_to_vec().into()
}

/// Decodes a batch from the log.
///
/// # Errors
///
/// The first field that breaks the contract; the reason starts with the request's place in the
/// batch, from 0.
pub fn decode_batch(bytes: &[u8]) -> Result<Batch, Malformed> {
    let message = raft::Batch::decode(bytes).map_err(|error| Malformed::new("batch", error))?;
    let request = |(i, request): (usize, raft::Request)| {
        Request::try_from(request).map_err(|Malformed { field, reason }| {
            Malformed::new(field, format!("in request {i}: {reason}"))
        })
    };
    Ok(Batch {
        stamp: Timestamp(message.stamp_ms),
        requests: message
            .requests
            .into_iter()
            .enumerate()
            .map(request)
            .collect::<Result<_, _>>()?,
    })
}

/// Encodes an outcome for a forwarded reply: the state machine's own form.
pub fn encode_outcome(outcome: &Outcome) -> Bytes {
    OUTCOME_FORMAT.encode(outcome).into()
}

/// Decodes an outcome of a forwarded reply.
///
/// # Errors
///
/// `outcome`, if the bytes are not exactly one outcome.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, Malformed> {
    OUTCOME_FORMAT
        .decode(bytes)
        .map_err(|error| Malformed::new("outcome", error))
}

impl From<&Request> for raft::Request {
    fn from(request: &Request) -> Self {
        let Origin {
            session,
            sequence,
            answered_below,
        } = request.origin;
        Self {
            session: session.0,
            sequence,
            answered_below,
            key: request.key.as_ref().map(ToString::to_string),
            command: Some((&request.command).into()),
        }
    }
}

impl TryFrom<raft::Request> for Request {
    type Error = Malformed;
    fn try_from(request: raft::Request) -> Result<Self, Malformed> {
        let origin = Origin {
            session: SessionId(request.session),
            sequence: request.sequence,
            answered_below: request.answered_below,
        };
        let key = request
            .key
            .map(|key| parsed("key", IdempotencyKey::new(key)))
            .transpose()?;
        let Some(command) = request.command else {
            return Err(Malformed::new(
                "command",
                "it is missing, or of a kind this build does not know",
            ));
        };
        let command = Command::try_from(command)?;
        Ok(Self {
            origin,
            key,
            command,
        })
    }
}

/// Names the field that a name, or anything else with rules of its own, stood in.
pub(crate) fn parsed<T, E: Display>(
    field: &'static str,
    read: Result<T, E>,
) -> Result<T, Malformed> {
    read.map_err(|invalid| Malformed::new(field, invalid))
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
