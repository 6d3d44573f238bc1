//! Pinning an instance to another version of its machine.

use std::collections::HashMap;

use lockstep_machine::{
    IdempotencyKey, InstanceId, Metadata, Migrated, Revision, StateName, Version,
};
use lockstep_proto::v1;

use crate::client::Client;
use crate::error::Error;
use crate::wire::{entries, outcome};
use crate::written::Written;

/// A migration to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrateCall {
    instance: InstanceId,
    version: Option<Version>,
    states: HashMap<String, String>,
    expect_state: Option<StateName>,
    expect_revision: Option<Revision>,
    metadata: Metadata,
    dry_run: bool,
    key: Option<IdempotencyKey>,
}

impl MigrateCall {
    /// To the machine's newest version.
    pub fn new(instance: &InstanceId) -> Self {
        Self {
            instance: instance.clone(),
            version: None,
            states: HashMap::new(),
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
            dry_run: false,
            key: None,
        }
    }

    /// To this version.
    pub fn version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// An instance in the state `from` of its version goes to the state `to` of the other. A state
    /// that is not mapped keeps its name.
    pub fn map_state(mut self, from: &StateName, to: &StateName) -> Self {
        self.states.insert(from.to_string(), to.to_string());
        self
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

    /// Change nothing: the answer is what it would come to. The key is then not sent.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// The same key gets the first outcome again, also from another client.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    fn into_message(self, key: Option<&IdempotencyKey>) -> v1::MigrateInstanceRequest {
        v1::MigrateInstanceRequest {
            id: self.instance.to_string(),
            version: self.version.map(|version| version.0),
            states: self.states,
            expect_state: self.expect_state.map(|state| state.to_string()),
            expect_revision: self.expect_revision.map(|revision| revision.0),
            metadata: entries(&self.metadata),
            dry_run: self.dry_run,
            idempotency_key: key.map(ToString::to_string),
        }
    }
}

impl Client {
    /// Pins an instance to another version of its machine.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::MigrateCall;
    ///
    /// let call = MigrateCall::new(&"order/42".parse()?)
    ///     .map_state(&"packed".parse()?, &"shipped".parse()?);
    /// let would = client.migrate(call.clone().dry_run()).await?;
    /// println!("it would be in {} then", would.made.to);
    /// client.migrate(call).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rejected`] when its state has no counterpart there, with those there are; and those
    /// of every write.
    pub async fn migrate(&self, call: MigrateCall) -> Result<Written<Migrated>, Error> {
        if call.dry_run {
            return self
                .try_out(call.into_message(None), outcome::migrated)
                .await;
        }
        let key = call.key.clone();
        self.write(key, |key| call.into_message(Some(key)), outcome::migrated)
            .await
    }
}
