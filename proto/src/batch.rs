//! Batches and outcomes as they travel and rest: requests to and from the peer protocol.

use bytes::Bytes;
use lockstep_machine::{Batch, Outcome, Request};

use crate::{Malformed, raft};

/// Encodes a batch for the log.
pub fn encode_batch(batch: &Batch) -> Bytes {
    let _ = batch;
    unimplemented!()
}

/// Decodes a batch from the log.
pub fn decode_batch(bytes: &[u8]) -> Result<Batch, Malformed> {
    let _ = bytes;
    unimplemented!()
}

/// Encodes an outcome for a forwarded reply.
pub fn encode_outcome(outcome: &Outcome) -> Bytes {
    let _ = outcome;
    unimplemented!()
}

/// Decodes an outcome of a forwarded reply.
pub fn decode_outcome(bytes: &[u8]) -> Result<Outcome, Malformed> {
    let _ = bytes;
    unimplemented!()
}

impl From<&Request> for raft::Request {
    fn from(request: &Request) -> Self {
        let _ = request;
        unimplemented!()
    }
}

impl TryFrom<raft::Request> for Request {
    type Error = Malformed;
    fn try_from(request: raft::Request) -> Result<Self, Malformed> {
        let _ = request;
        unimplemented!()
    }
}
