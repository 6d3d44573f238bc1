//! Reading an instance.

use lockstep_machine::{InstanceId, Metadata, Revision, StateName, Timestamp, Version};
use lockstep_proto::v1;

use crate::client::Client;
use crate::error::Error;
use crate::freshness::{Freshness, Read};
use crate::wire::{Unreadable, metadata, parsed, states};

/// An instance as the cluster holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The definition's version it is pinned to.
    pub version: Version,
    /// The state it is in.
    pub state: StateName,
    /// How many changes it has been through: transitions, timeouts and migrations.
    pub revision: Revision,
    /// When it was created, in cluster time; 0 for a built-in instance.
    pub created_at: Timestamp,
    /// When it last changed; equals `created_at` until it does.
    pub changed_at: Timestamp,
    /// Where it may go from here.
    pub allowed: Vec<StateName>,
    /// What it was created with.
    pub metadata: Metadata,
    /// When its state's timeout is due, if it has one.
    pub deadline: Option<Timestamp>,
}

impl Client {
    /// Reads an instance, and where it may go from its state.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such instance, [`Error::Unavailable`] when no node
    /// could answer in time.
    pub async fn get(
        &self,
        instance: &InstanceId,
        freshness: impl Into<Freshness>,
    ) -> Result<Read<Instance>, Error> {
        let message = v1::GetInstanceRequest {
            id: instance.to_string(),
            freshness: Some(freshness.into().to_message()),
        };
        self.read(message, |answer| {
            let found = answer.instance.ok_or("the answer has no instance")?;
            Read::new(found.try_into()?, answer.read_at)
        })
        .await
    }
}

impl TryFrom<v1::Instance> for Instance {
    type Error = Unreadable;

    fn try_from(wire: v1::Instance) -> Result<Self, Unreadable> {
        Ok(Self {
            id: parsed("instance.id", &wire.id)?,
            version: Version(wire.version),
            state: parsed("instance.state", &wire.state)?,
            revision: Revision(wire.revision),
            created_at: Timestamp(wire.created_at_ms),
            changed_at: Timestamp(wire.changed_at_ms),
            allowed: states("instance.allowed", &wire.allowed)?,
            metadata: metadata("instance.metadata", wire.metadata)?,
            deadline: wire.deadline_ms.map(Timestamp),
        })
    }
}
