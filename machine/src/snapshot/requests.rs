//! Restores the tables of requests (sessions and idempotency keys) from a snapshot.

use super::filling::{Filling, OUT_OF_ORDER, ensure_last};
use super::restore::{damaged, ensure};
use crate::codec::CodecError;
use crate::ids::IdempotencyKey;
use crate::request::SessionId;
use crate::requests::{FirstUse, Session, StoredReply};

impl Filling {
    pub(super) fn key(&mut self, key: IdempotencyKey, first: FirstUse) -> Result<(), CodecError> {
        let keys = &mut self.keys;
        ensure(!keys.first.contains_key(&key), "the key is stored twice")?;
        let past = first.stored_at <= self.header.clock;
        ensure(past, "the key's time is later than cluster time")?;
        let last = keys.order.last().and_then(|last| keys.first.get(last));
        let in_order = last.is_none_or(|last| last.stored_at <= first.stored_at);
        ensure(in_order, OUT_OF_ORDER)?;
        let before = keys.order.len();
        keys.store(key, first, &self.header.limits);
        let kept = keys.order.len() > before;
        ensure(kept, "there are more keys than the limits")
    }

    pub(super) fn session(
        &mut self,
        id: SessionId,
        session: Session,
        replies: u64,
    ) -> Result<(), CodecError> {
        let sessions = &mut self.sessions.sessions;
        ensure_last(sessions, &id)?;
        let past = session.last_used <= self.header.session_uses;
        ensure(past, "the session's time is later than cluster time")?;
        let alone = self.last_uses.insert(session.last_used);
        ensure(alone, "two sessions have the same last use")?;
        let room = (sessions.len() as u64) < self.header.limits.sessions_max.max(1);
        ensure(room, "there are more sessions than the limit")?;
        sessions.insert(id, session);
        self.open = (replies > 0).then_some((id, replies));
        Ok(())
    }

    pub(super) fn reply(
        &mut self,
        id: SessionId,
        sequence: u64,
        reply: StoredReply,
    ) -> Result<(), CodecError> {
        let Some((open, left)) = self.open.filter(|(open, _)| *open == id) else {
            let reason = "the reply does not belong to the session before it";
            return Err(damaged(reason));
        };
        let Some(session) = self.sessions.sessions.get_mut(&open) else {
            return Err(damaged("the reply has no session"));
        };
        let outstanding = sequence >= session.answered_below;
        ensure(outstanding, "the reply should be forgotten")?;
        ensure_last(&session.replies, &sequence)?;
        session.replies.insert(sequence, reply);
        self.open = (left > 1).then_some((open, left - 1));
        Ok(())
    }
}
