//! Raft's types in protobuf, as stored and sent to peers.
//!
//! openraft's own types are never stored or sent, so that upgrading openraft does not change a format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use lockstep_machine::{CodecError, Timestamp};
use lockstep_proto::{Malformed, raft as pb};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, LogId as RaftLogId};
use openraft_rt_tokio::TokioRuntime;

use super::types::{
    Entry, LogId, Member, Membership, NodeId, Payload, SnapshotMeta, StoredMembership, Types, Vote,
};
use crate::store::{Slot, Storage, StoreError};

type C = Types<TokioRuntime>;

/// The value of a field that must be there.
pub(crate) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed::new(field, "it is missing"))
}

pub(crate) fn log_id_out(id: &LogId) -> pb::LogId {
    pb::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(crate) fn log_id_in(id: pb::LogId) -> LogId {
    RaftLogId::new_term_index(id.term, id.index)
}

pub(crate) fn vote_out(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn vote_in(vote: Option<pb::Vote>) -> Result<Vote, Malformed> {
    let vote = required(vote, "vote")?;
    Ok(if vote.committed {
        Vote::new_committed(vote.term, vote.node_id)
    } else {
        Vote::new(vote.term, vote.node_id)
    })
}

/// A member with its id.
pub fn member_out(id: NodeId, member: &Member) -> pb::Member {
    pb::Member {
        node_id: id,
        name: member.name.clone(),
        grpc_address: member.grpc_address.clone(),
        http_address: member.http_address.clone(),
        learner: member.learner,
    }
}

/// A member with its id.
pub fn member_in(member: pb::Member) -> (NodeId, Member) {
    let id = member.node_id;
    let member = Member {
        name: member.name,
        grpc_address: member.grpc_address,
        http_address: member.http_address,
        learner: member.learner,
    };
    (id, member)
}

fn membership_out(membership: &Membership) -> pb::Membership {
    pb::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|voters| pb::VoterSet {
                node_ids: voters.iter().copied().collect(),
            })
            .collect(),
        members: membership
            .nodes()
            .map(|(id, member)| member_out(*id, member))
            .collect(),
    }
}

fn membership_in(membership: pb::Membership) -> Result<Membership, Malformed> {
    let configs: Vec<BTreeSet<u64>> = membership
        .configs
        .into_iter()
        .map(|set| set.node_ids.into_iter().collect())
        .collect();
    let members: BTreeMap<u64, Member> = membership.members.into_iter().map(member_in).collect();
    if configs.is_empty() && members.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, members).map_err(|e| Malformed::new("membership", e))
}

pub(crate) fn entry_out(entry: &Entry) -> pb::Entry {
    use pb::entry::Payload as Out;
    let payload = match &entry.payload {
        EntryPayload::Blank => Out::Blank(pb::Blank {}),
        EntryPayload::Normal(Payload(bytes)) => Out::Batch(bytes.clone()),
        EntryPayload::Membership(membership) => Out::Membership(membership_out(membership)),
    };
    pb::Entry {
        log_id: Some(log_id_out(&entry.log_id)),
        payload: Some(payload),
    }
}

pub(crate) fn entry_in(entry: pb::Entry) -> Result<Entry, Malformed> {
    use pb::entry::Payload as In;
    let log_id = log_id_in(required(entry.log_id, "entry.log_id")?);
    let payload = match required(entry.payload, "entry.payload")? {
        In::Blank(_) => EntryPayload::Blank,
        In::Batch(bytes) => EntryPayload::Normal(Payload(bytes)),
        In::Membership(membership) => EntryPayload::Membership(membership_in(membership)?),
    };
    Ok(Entry { log_id, payload })
}

/// How many bytes an entry takes on the wire, about.
pub(crate) fn entry_size(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(Payload(bytes)) => bytes.len() + 32,
        EntryPayload::Blank => 32,
        EntryPayload::Membership(_) => 1024,
    }
}

pub(crate) fn append_out(request: &AppendEntriesRequest<C>) -> pb::AppendRequest {
    pb::AppendRequest {
        vote: Some(vote_out(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id_out),
        entries: request.entries.iter().map(entry_out).collect(),
        leader_commit: request.leader_commit.as_ref().map(log_id_out),
        clock_ms: 0,
    }
}

pub(crate) fn append_in(request: pb::AppendRequest) -> Result<AppendEntriesRequest<C>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: vote_in(request.vote)?,
        prev_log_id: request.prev_log_id.map(log_id_in),
        entries: request
            .entries
            .into_iter()
            .map(entry_in)
            .collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.map(log_id_in),
    })
}

pub(crate) fn append_reply_out(
    reply: &AppendEntriesResponse<C>,
    clock: Timestamp,
) -> pb::AppendResponse {
    use pb::append_response::{Conflict, Result as Out, Success};
    let result = match reply {
        AppendEntriesResponse::Success => Out::Success(Success { matched: None }),
        AppendEntriesResponse::PartialSuccess(Some(id)) => Out::Partial(log_id_out(id)),
        // Nothing matched: the same as a stream's success at no position.
        AppendEntriesResponse::PartialSuccess(None) | AppendEntriesResponse::Conflict => {
            Out::Conflict(Conflict { at: None })
        }
        AppendEntriesResponse::HigherVote(vote) => Out::HigherVote(vote_out(vote)),
    };
    pb::AppendResponse {
        result: Some(result),
        clock_ms: clock.0,
        unfit: 0,
    }
}

pub(crate) fn append_reply_in(
    reply: pb::AppendResponse,
) -> Result<AppendEntriesResponse<C>, Malformed> {
    use pb::append_response::Result as In;
    Ok(match required(reply.result, "append.result")? {
        In::Success(_) => AppendEntriesResponse::Success,
        In::Partial(id) => AppendEntriesResponse::PartialSuccess(Some(log_id_in(id))),
        In::Conflict(_) => AppendEntriesResponse::Conflict,
        In::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_in(Some(vote))?),
    })
}

pub(crate) fn stream_reply_out(reply: &StreamAppendResult<C>) -> pb::AppendResponse {
    use pb::append_response::{Conflict, Result as Out, Success};
    let result = match reply {
        Ok(matched) => Out::Success(Success {
            matched: matched.as_ref().map(log_id_out),
        }),
        Err(StreamAppendError::Conflict(at)) => Out::Conflict(Conflict {
            at: Some(log_id_out(at)),
        }),
        Err(StreamAppendError::HigherVote(vote)) => Out::HigherVote(vote_out(vote)),
    };
    pb::AppendResponse {
        result: Some(result),
        clock_ms: 0,
        unfit: 0,
    }
}

pub(crate) fn stream_reply_in(
    reply: pb::AppendResponse,
) -> Result<StreamAppendResult<C>, Malformed> {
    use pb::append_response::Result as In;
    Ok(match required(reply.result, "append.result")? {
        In::Success(success) => Ok(success.matched.map(log_id_in)),
        In::Partial(id) => Ok(Some(log_id_in(id))),
        In::Conflict(conflict) => {
            let at = required(conflict.at, "append.conflict.at")?;
            Err(StreamAppendError::Conflict(log_id_in(at)))
        }
        In::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_in(Some(vote))?)),
    })
}

pub(crate) fn vote_request_out(request: &VoteRequest<C>) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(vote_out(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_out),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_request_in(request: pb::VoteRequest) -> Result<VoteRequest<C>, Malformed> {
    let mut out = VoteRequest::new(vote_in(request.vote)?, request.last_log_id.map(log_id_in));
    out.leadership_transfer = request.leadership_transfer;
    Ok(out)
}

pub(crate) fn vote_reply_out(reply: &VoteResponse<C>, clock: Timestamp) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote_out(&reply.vote)),
        granted: reply.vote_granted,
        last_log_id: reply.last_log_id.as_ref().map(log_id_out),
        clock_ms: clock.0,
        unfit: 0,
    }
}

pub(crate) fn vote_reply_in(reply: pb::VoteResponse) -> Result<VoteResponse<C>, Malformed> {
    Ok(VoteResponse::new(
        vote_in(reply.vote)?,
        reply.last_log_id.map(log_id_in),
        reply.granted,
    ))
}

pub(crate) fn transfer_out(request: &TransferLeaderRequest<C>) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        from: Some(vote_out(request.from_leader())),
        to: *request.to_node_id(),
        last_log_id: request.last_log_id().map(log_id_out),
    }
}

pub(crate) fn transfer_in(
    request: pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<C>, Malformed> {
    Ok(TransferLeaderRequest::new(
        vote_in(request.from)?,
        request.to,
        request.last_log_id.map(log_id_in),
    ))
}

pub(crate) fn transfer_reply_out(reply: &TransferLeaderResponse<C>) -> pb::TransferLeaderResponse {
    use pb::transfer_leader_response::{Accepted, LogNotFlushed, Result as Out, VoteChanged};
    let result = match reply {
        Ok(()) => Out::Accepted(Accepted {}),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            Out::VoteChanged(VoteChanged {
                expected: Some(vote_out(expected)),
                actual: Some(vote_out(actual)),
            })
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            Out::LogNotFlushed(LogNotFlushed {
                expected: expected.as_ref().map(log_id_out),
                actual: actual.as_ref().map(log_id_out),
            })
        }
    };
    pb::TransferLeaderResponse {
        result: Some(result),
    }
}

pub(crate) fn transfer_reply_in(
    reply: pb::TransferLeaderResponse,
) -> Result<TransferLeaderResponse<C>, Malformed> {
    use pb::transfer_leader_response::Result as In;
    Ok(match required(reply.result, "transfer.result")? {
        In::Accepted(_) => Ok(()),
        In::VoteChanged(changed) => Err(TransferLeaderError::VoteChanged {
            expected: vote_in(changed.expected)?,
            actual: vote_in(changed.actual)?,
        }),
        In::LogNotFlushed(log) => Err(TransferLeaderError::LogNotFlushed {
            expected: log.expected.map(log_id_in),
            actual: log.actual.map(log_id_in),
        }),
    })
}

fn stored_membership_out(stored: &StoredMembership) -> pb::StoredMembership {
    pb::StoredMembership {
        log_id: stored.log_id().as_ref().map(log_id_out),
        membership: Some(membership_out(stored.membership())),
    }
}

pub(crate) fn snapshot_meta_out(meta: &SnapshotMeta) -> pb::SnapshotMeta {
    pb::SnapshotMeta {
        last_log_id: meta.last_log_id.as_ref().map(log_id_out),
        last_membership: Some(stored_membership_out(&meta.last_membership)),
    }
}

pub(crate) fn snapshot_meta_in(meta: pb::SnapshotMeta) -> Result<SnapshotMeta, Malformed> {
    let stored = required(meta.last_membership, "snapshot.last_membership")?;
    let membership = membership_in(stored.membership.unwrap_or_default())?;
    Ok(SnapshotMeta {
        last_log_id: meta.last_log_id.map(log_id_in),
        last_membership: StoredMembership::new(stored.log_id.map(log_id_in), membership),
    })
}

/// A form on disk: one format byte, then a protobuf message, into which a value is converted.
///
/// A message may gain optional fields within a format: older builds skip them. Any other change is a
/// new format.
pub(crate) struct Stored<T, M> {
    what: &'static str,
    out: fn(&T) -> M,
    read: fn(M) -> Result<T, Malformed>,
}

/// The format of every stored message.
const FORMAT: u8 = 1;

/// The vote.
pub(crate) const VOTE: Stored<Vote, pb::Vote> = Stored {
    what: "the vote",
    out: vote_out,
    read: |vote| vote_in(Some(vote)),
};
/// The last log id purged.
pub(crate) const PURGED: Stored<LogId, pb::LogId> = Stored {
    what: "the purge point",
    out: log_id_out,
    read: |id| Ok(log_id_in(id)),
};
/// The last log id known to be committed.
pub(crate) const COMMITTED: Stored<LogId, pb::LogId> = Stored {
    what: "the committed position",
    ..PURGED
};
/// What a snapshot covers.
pub(crate) const SNAPSHOT_META: Stored<SnapshotMeta, pb::SnapshotMeta> = Stored {
    what: "the snapshot's metadata",
    out: snapshot_meta_out,
    read: snapshot_meta_in,
};
/// A log entry.
pub(crate) const ENTRY: Stored<Entry, pb::Entry> = Stored {
    what: "log entry",
    out: entry_out,
    read: entry_in,
};

impl<T, M: prost::Message + Default> Stored<T, M> {
    pub(crate) fn encode(&self, value: &T) -> Bytes {
        let message = (self.out)(value);
        let mut bytes = BytesMut::with_capacity(1 + message.encoded_len());
        bytes.put_u8(FORMAT);
        let encoded = message.encode(&mut bytes);
        encoded.expect("the buffer grows as needed");
        bytes.freeze()
    }

    /// The value of a slot, if it has one.
    pub(crate) fn load(&self, storage: &impl Storage, slot: Slot) -> io::Result<Option<T>> {
        let saved = storage.load(slot)?;
        saved.map(|bytes| self.decode(bytes)).transpose()
    }

    pub(crate) fn decode(&self, bytes: Bytes) -> io::Result<T> {
        self.decode_at(&"", bytes)
    }

    fn decode_at(&self, place: &dyn Display, mut bytes: Bytes) -> io::Result<T> {
        let format = bytes.try_get_u8().unwrap_or_default();
        if format != FORMAT {
            let what = format!("{} {place}", self.what);
            return Err(StoreError::format(what.trim_end(), format.into(), FORMAT).into());
        }
        let damaged =
            |error: &dyn Display| StoreError::damaged(self.what, place.to_string(), error);
        let message = M::decode(bytes).map_err(|error| damaged(&error))?;
        Ok((self.read)(message).map_err(|error| damaged(&error))?)
    }
}

/// A log entry that cannot be what was written.
pub(crate) fn damaged_entry(index: u64, reason: impl ToString) -> io::Error {
    StoreError::damaged(ENTRY.what, index.to_string(), reason).into()
}

/// A log entry whose payload the state machine cannot read.
pub(crate) fn unreadable_payload(index: u64, error: CodecError) -> io::Error {
    StoreError::unreadable(ENTRY.what, index.to_string(), error).into()
}

/// Decodes one log entry from the disk and checks that its index is `index`.
pub(crate) fn decode_entry(bytes: Bytes, index: u64) -> io::Result<Entry> {
    let entry = ENTRY.decode_at(&index, bytes)?;
    if entry.log_id.index != index {
        let reason = format!("it contains log entry {} instead", entry.log_id.index);
        return Err(damaged_entry(index, reason));
    }
    Ok(entry)
}

#[cfg(test)]
pub(crate) mod golden_tests;
