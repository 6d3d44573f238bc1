//! The tables that remember requests, put together from their records.

use super::filling::{Filling, OUT_OF_ORDER};
use super::restore::{Fault, ensure};
use crate::request::{IdempotencyKey, SessionId};
use crate::requests::{FirstUse, Session, StoredReply};

impl Filling {
    pub(super) fn key(&mut self, key: IdempotencyKey, first: FirstUse) -> Result<(), Fault> {
        ensure(self.seen.sessions == 0, OUT_OF_ORDER)?;
        ensure(self.keys.get(&key).is_none(), "the key is stored twice")?;
        ensure(
            first.stored_at <= self.header.clock,
            "the key's time is later than cluster time",
        )?;
        let last = self
            .keys
            .order()
            .last()
            .and_then(|last| self.keys.get(last));
        ensure(
            last.is_none_or(|last| last.stored_at <= first.stored_at),
            OUT_OF_ORDER,
        )?;
        self.seen.keys += 1;
        self.keys.store(key, first, &self.header.limits);
        let kept = self.keys.len() as u64 == self.seen.keys;
        ensure(kept, "there are more keys than the limits")
    }

    pub(super) fn session(
        &mut self,
        id: SessionId,
        session: Session,
        replies: u64,
    ) -> Result<(), Fault> {
        let last = self.sessions.get_max();
        ensure(last.is_none_or(|(last, _)| *last < id), OUT_OF_ORDER)?;
        ensure(
            session.last_used <= self.header.session_uses,
            "the session's time is later than cluster time",
        )?;
        ensure(
            self.last_uses.insert(session.last_used),
            "two sessions have the same last use",
        )?;
        self.seen.sessions += 1;
        let max = self.header.limits.sessions_max.max(1);
        ensure(
            self.seen.sessions <= max,
            "there are more sessions than the limit",
        )?;
        self.sessions.insert(id, session);
        self.open = (replies > 0).then_some((id, replies));
        Ok(())
    }

    pub(super) fn reply(
        &mut self,
        id: SessionId,
        sequence: u64,
        reply: StoredReply,
    ) -> Result<(), Fault> {
        let Some((open, left)) = self.open.filter(|(open, _)| *open == id) else {
            return Err("the reply does not belong to the session before it".into());
        };
        let Some(session) = self.sessions.get_mut(&open) else {
            return Err("the reply has no session".into());
        };
        ensure(
            sequence >= session.answered_below,
            "the reply should be forgotten",
        )?;
        let last = session.replies.get_max();
        ensure(last.is_none_or(|(last, _)| *last < sequence), OUT_OF_ORDER)?;
        session.replies.insert(sequence, reply);
        self.open = (left > 1).then_some((open, left - 1));
        Ok(())
    }
}
