//! Deleting an instance.

use lockstep_machine::{Deleted, IdempotencyKey, InstanceId, Metadata, Revision, StateName};
use lockstep_proto::v1;

use crate::client::Client;
use crate::error::Error;
use crate::wire::{entries, outcome};
use crate::written::Written;

/// An instance to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteCall {
    instance: InstanceId,
    expect_state: Option<StateName>,
    expect_revision: Option<Revision>,
    metadata: Metadata,
    pub(crate) key: Option<IdempotencyKey>,
}

impl DeleteCall {
    /// Whatever state it is in.
    pub fn new(instance: &InstanceId) -> Self {
        Self {
            instance: instance.clone(),
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
            key: None,
        }
    }

    /// Refuse unless the instance is in this state.
    pub fn expect_state(mut self, state: StateName) -> Self {
        self.expect_state = Some(state);
        self
    }

    /// Refuse unless the instance is at this revision.
    pub fn expect_revision(mut self, revision: Revision) -> Self {
        self.expect_revision = Some(revision);
        self
    }

    /// Who and why: kept in the event.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The same key gets the first outcome again, also from another client.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    pub(crate) fn into_message(self, key: Option<&IdempotencyKey>) -> v1::DeleteInstanceRequest {
        v1::DeleteInstanceRequest {
            id: self.instance.to_string(),
            expect_state: self.expect_state.map(|state| state.to_string()),
            expect_revision: self.expect_revision.map(|revision| revision.0),
            idempotency_key: key.map(ToString::to_string),
            metadata: entries(&self.metadata),
        }
    }
}

impl Client {
    /// Deletes an instance, with its history.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is none, or it is not as expected; and those of every write.
    pub async fn delete(&self, call: DeleteCall) -> Result<Written<Deleted>, Error> {
        let key = call.key.clone();
        self.write(key, |key| call.into_message(Some(key)), outcome::deleted)
            .await
    }
}
