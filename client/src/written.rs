//! What holds for the answer to every write.

use lockstep_machine::{EventCursor, GlobalRevision, IdempotencyKey};

use crate::error::Error;

/// The answer to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written<T> {
    /// What happened.
    pub made: T,
    /// Whether this is the stored outcome of an earlier request with the same key; also after the
    /// client's own retry of a request that had been executed.
    pub replayed: bool,
    /// The cluster's revision right after it: a read with this as its
    /// [`min_revision`](crate::Freshness::min_revision) sees it, on any node.
    pub revision: GlobalRevision,
}

impl<T> Written<T> {
    /// Where a watch sees what happens after it.
    pub fn place(&self) -> EventCursor {
        EventCursor::after(self.revision)
    }
}

/// A key that nobody else draws.
pub(crate) fn random_key() -> Result<IdempotencyKey, Error> {
    Ok(IdempotencyKey::new(format!(
        "{:032x}",
        rand::random::<u128>()
    ))?)
}
