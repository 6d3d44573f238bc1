//! What happened to an instance.

use lockstep_machine::{Event, InstanceId, Revision};
use lockstep_proto::v1;

use crate::client::Client;
use crate::error::Error;
use crate::freshness::{Freshness, Read};
use crate::wire::{event, parsed};

/// What happened to an instance, as far as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// The instance.
    pub instance: InstanceId,
    /// The revision it is at.
    pub instance_revision: Revision,
    /// The oldest of its revisions whose change is remembered; none if no change is.
    pub oldest_revision: Option<Revision>,
    /// Its changes, oldest first, without a gap.
    pub events: Vec<Event>,
}

impl Client {
    /// What happened to an instance.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such instance, [`Error::Unavailable`] when no node
    /// could answer in time.
    pub async fn history(
        &self,
        instance: &InstanceId,
        freshness: impl Into<Freshness>,
    ) -> Result<Read<History>, Error> {
        let message = v1::GetHistoryRequest {
            id: instance.to_string(),
            freshness: Some(freshness.into().to_message()),
        };
        self.read(message, |answer| {
            let events = answer.events.into_iter().map(event::event);
            let history = History {
                instance: parsed("history.id", &answer.id)?,
                instance_revision: Revision(answer.instance_revision),
                oldest_revision: answer.oldest_revision.map(Revision),
                events: events.collect::<Result<_, _>>()?,
            };
            Read::new(history, answer.read_at)
        })
        .await
    }
}
