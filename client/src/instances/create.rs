//! Creating an instance.

use lockstep_machine::{Created, IdempotencyKey, InstanceId, MachineName, Metadata, Version};
use lockstep_proto::v1;

use crate::client::Client;
use crate::error::Error;
use crate::wire::{entries, outcome};
use crate::written::Written;

/// An instance to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateCall {
    /// `machine/name`, or the machine alone.
    id: String,
    version: Option<Version>,
    metadata: Metadata,
    pub(crate) key: Option<IdempotencyKey>,
}

impl CreateCall {
    /// An instance of this id.
    pub fn new(instance: &InstanceId) -> Self {
        Self::with(instance.to_string())
    }

    /// An instance of this machine, for which the cluster makes a name: 26 characters, in order of
    /// time; or, with the caller's own key, one that follows from the key.
    pub fn of(machine: &MachineName) -> Self {
        Self::with(machine.to_string())
    }

    fn with(id: String) -> Self {
        Self {
            id,
            version: None,
            metadata: Metadata::default(),
            key: None,
        }
    }

    /// Pin it to this version; the newest without it.
    pub fn version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// Kept with the instance, where a list can ask for it.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The same key gets the first outcome again, also from another client.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    pub(crate) fn into_message(self, key: Option<&IdempotencyKey>) -> v1::CreateInstanceRequest {
        v1::CreateInstanceRequest {
            id: self.id,
            version: self.version.map(|version| version.0),
            metadata: entries(&self.metadata),
            idempotency_key: key.map(ToString::to_string),
        }
    }
}

impl Client {
    /// Creates an instance in its machine's initial state.
    ///
    /// # Errors
    /// [`Error::Rejected`] when it exists already or its machine does not, and those of every
    /// write.
    pub async fn create(&self, call: CreateCall) -> Result<Written<Created>, Error> {
        let key = call.key.clone();
        self.write(key, |key| call.into_message(Some(key)), outcome::created)
            .await
    }
}
