//! Moving an instance.

use lockstep_machine::{
    EventName, IdempotencyKey, InstanceId, Metadata, Revision, StateName, Transitioned, Trigger,
};
use lockstep_proto::v1;

use crate::client::Client;
use crate::error::Error;
use crate::wire::{entries, outcome};
use crate::written::Written;

/// A transition to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitionCall {
    instance: InstanceId,
    trigger: Trigger,
    expect_state: Option<StateName>,
    expect_revision: Option<Revision>,
    metadata: Metadata,
    pub(crate) key: Option<IdempotencyKey>,
}

impl TransitionCall {
    /// To a state.
    pub fn to(instance: &InstanceId, state: StateName) -> Self {
        Self::by(instance, Trigger::To(state))
    }

    /// By an event.
    pub fn event(instance: &InstanceId, event: EventName) -> Self {
        Self::by(instance, Trigger::Event(event))
    }

    /// By whatever names the transition.
    pub fn by(instance: &InstanceId, trigger: Trigger) -> Self {
        Self {
            instance: instance.clone(),
            trigger,
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

    /// Who and why: kept in the instance's history and in the event.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The same key gets the first outcome again, also from another client. Without one, the
    /// client draws a key of its own, so that its own retries execute once.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    pub(crate) fn into_message(self, key: Option<&IdempotencyKey>) -> v1::TransitionRequest {
        use v1::transition_request::Trigger as Wire;
        v1::TransitionRequest {
            id: self.instance.to_string(),
            trigger: Some(match self.trigger {
                Trigger::To(state) => Wire::To(state.to_string()),
                Trigger::Event(event) => Wire::Event(event.to_string()),
            }),
            expect_state: self.expect_state.map(|state| state.to_string()),
            expect_revision: self.expect_revision.map(|revision| revision.0),
            idempotency_key: key.map(ToString::to_string),
            metadata: entries(&self.metadata),
        }
    }
}

impl Client {
    /// Moves an instance along one transition, at most once however often it is sent.
    ///
    /// # Errors
    /// [`Error::Rejected`] when the machine refuses, [`Error::Unavailable`] when nothing was
    /// executed, [`Error::OutcomeUnknown`] when it may have been.
    pub async fn transition(&self, call: TransitionCall) -> Result<Written<Transitioned>, Error> {
        let key = call.key.clone();
        self.write(
            key,
            |key| call.into_message(Some(key)),
            outcome::transitioned,
        )
        .await
    }
}
