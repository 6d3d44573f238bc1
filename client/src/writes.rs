//! Writes: a command of the state machine, with its idempotency key.

use lockstep_machine::{
    Created, Definition, DefinitionDeleted, Delete, DeleteDefinition, Deleted, EventCursor,
    EventName, GlobalRevision, IdempotencyKey, InstanceId, MachineName, Metadata, Migrate,
    Migrated, Revision, StateName, Transition, Transitioned, Trigger, Version,
};
use lockstep_proto::v1::define_request::Document;
use lockstep_proto::v1::{self, Defined};

use crate::client::Client;
use crate::error::Error;
use crate::setters::setters;

/// A write: a command, and the caller's key for it.
///
/// Repeating a request with the same key returns the first outcome, even to another client. Without a key,
/// the client generates one, so that its own retries execute the command once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call<C> {
    pub(crate) command: C,
    pub(crate) dry_run: bool,
    pub(crate) key: Option<IdempotencyKey>,
}

/// A definition to store.
pub type DefineCall = Call<Document>;
/// A machine to delete, or one version of it.
pub type DeleteMachineCall = Call<DeleteDefinition>;
/// An instance to create.
pub type CreateCall = Call<v1::CreateInstanceRequest>;
/// A transition to make.
pub type TransitionCall = Call<Transition>;
/// An instance to delete.
pub type DeleteCall = Call<Delete>;
/// An instance to pin to another version of its machine.
pub type MigrateCall = Call<Migrate>;

impl<C> Call<C> {
    /// The caller's key for this write.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }
}

impl<C> From<C> for Call<C> {
    fn from(command: C) -> Self {
        Self {
            command,
            dry_run: false,
            key: None,
        }
    }
}

setters! {
    [TransitionCall, DeleteCall, MigrateCall].command {
        /// Reject unless the instance is in this state.
        expect_state: StateName => Some(expect_state),
        /// Reject unless the instance is at this revision.
        expect_revision: Revision => Some(expect_revision),
        /// Who and why: stored in the event, and in the history of an instance that stays.
        metadata: Metadata => metadata,
    }
    [CreateCall].command {
        /// Pin it to this version; the newest without it.
        version: Version => Some(version.0),
        /// Stored with the instance; lists can filter by an entry.
        metadata: Metadata => metadata.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    }
    [MigrateCall].command {
        /// To this version; the newest without it.
        version: Version => Some(version),
    }
    [DeleteMachineCall].command {
        /// Only this version.
        version: Version => Some(version),
    }
}

impl DefineCall {
    /// From a document in JSON.
    pub fn json(document: impl Into<String>) -> Self {
        Document::Json(document.into()).into()
    }

    /// From a document in YAML.
    pub fn yaml(document: impl Into<String>) -> Self {
        Document::Yaml(document.into()).into()
    }

    /// From a parsed definition.
    pub fn definition(definition: &Definition) -> Self {
        Self::json(serde_json::to_string(definition).expect("every definition has a JSON form"))
    }

    /// Validate only: the response is what storing it would return. No key is sent.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

impl DeleteMachineCall {
    /// All versions of a machine.
    pub fn new(machine: &MachineName) -> Self {
        DeleteDefinition {
            machine: machine.clone(),
            version: None,
        }
        .into()
    }
}

impl CreateCall {
    /// An instance with this id.
    pub fn new(instance: &InstanceId) -> Self {
        Self::with_id(instance.to_string())
    }

    /// An instance of this machine with a generated name: 26 characters that sort by time, or, with a caller's
    /// key, a name derived from the key.
    pub fn of(machine: &MachineName) -> Self {
        Self::with_id(machine.to_string())
    }

    fn with_id(id: String) -> Self {
        let request = v1::CreateInstanceRequest {
            id,
            ..Default::default()
        };
        request.into()
    }

    /// The request under a key.
    pub(crate) fn keyed(
        (request, key): (v1::CreateInstanceRequest, Option<IdempotencyKey>),
    ) -> v1::CreateInstanceRequest {
        v1::CreateInstanceRequest {
            idempotency_key: key.map(|key| key.to_string()),
            ..request
        }
    }
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

    /// By a state or an event.
    pub fn by(instance: &InstanceId, trigger: Trigger) -> Self {
        Transition::new(instance.clone(), trigger).into()
    }
}

impl DeleteCall {
    /// Whatever state it is in.
    pub fn new(instance: &InstanceId) -> Self {
        Delete {
            instance: instance.clone(),
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
        }
        .into()
    }
}

impl MigrateCall {
    /// To the machine's newest version.
    pub fn new(instance: &InstanceId) -> Self {
        Migrate {
            instance: instance.clone(),
            version: None,
            states: Default::default(),
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
        }
        .into()
    }

    /// An instance in the state `from` of its version goes to the state `to` of the other one. A
    /// state that is not mapped keeps its name.
    pub fn map_state(mut self, from: &StateName, to: &StateName) -> Self {
        self.command.states.insert(from.clone(), to.clone());
        self
    }

    /// Change nothing: the response is what the migration would return. No key is sent.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }
}

/// The answer to a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// The result.
    pub made: T,
    /// Whether this is the stored outcome of an earlier request with the same key; also after the
    /// client's own retry of a request that had been executed.
    pub replayed: bool,
    /// The cluster's revision right after it: a read with this as its
    /// [`min_revision`](crate::Freshness::min_revision) sees it, on any node.
    pub revision: GlobalRevision,
}

impl<T> Written<T> {
    /// The cursor after which a watch sees what happens next.
    pub fn cursor(&self) -> EventCursor {
        EventCursor::after(self.revision)
    }
}

/// A key that no other client generates.
pub(crate) fn random_key() -> Result<IdempotencyKey, Error> {
    Ok(IdempotencyKey::new(format!(
        "{:032x}",
        rand::random::<u128>()
    ))?)
}

impl Client {
    /// Stores a definition: the machine's first version, or its next one. One that is equal to the
    /// newest version changes nothing.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::{DefineCall, Error};
    ///
    /// let door = "{ name: door, initial: shut, states: { shut: {}, open: {} },
    ///     transitions: [{ from: shut, to: open }, { from: open, to: shut }] }";
    /// match client.define(DefineCall::yaml(door)).await {
    ///     Ok(written) => println!("version {} of {}", written.made.version, written.made.machine),
    ///     Err(Error::Rejected(rejected)) => {
    ///         for fault in &rejected.faults {
    ///             eprintln!("{fault}");
    ///         }
    ///     }
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rejected`] with every fault of the definition, or when a limit is reached;
    /// [`Error::Invalid`] when the document is not JSON or YAML; and those of every write.
    pub async fn define(&self, call: DefineCall) -> Result<Written<Defined>, Error> {
        let dry_run = call.dry_run;
        self.write(call, |(document, key)| v1::DefineRequest {
            document: Some(document),
            dry_run,
            idempotency_key: key.map(|key| key.to_string()),
        })
        .await
    }

    /// Deletes a machine, or one version of it, that no instance uses. Version numbers are never
    /// reused.
    pub async fn delete_machine(
        &self,
        call: DeleteMachineCall,
    ) -> Result<Written<DefinitionDeleted>, Error> {
        self.write(call, v1::DeleteMachineRequest::from).await
    }

    /// Creates an instance in its machine's initial state.
    pub async fn create(&self, call: CreateCall) -> Result<Written<Created>, Error> {
        self.write(call, CreateCall::keyed).await
    }

    /// Moves an instance along one transition.
    pub async fn transition(&self, call: TransitionCall) -> Result<Written<Transitioned>, Error> {
        self.write(call, v1::TransitionRequest::from).await
    }

    /// Deletes an instance, with its history.
    pub async fn delete(&self, call: DeleteCall) -> Result<Written<Deleted>, Error> {
        self.write(call, v1::DeleteInstanceRequest::from).await
    }

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
    /// [`Error::Rejected`] when its state does not exist in that version, with the states that do;
    /// and those of every write.
    pub async fn migrate(&self, call: MigrateCall) -> Result<Written<Migrated>, Error> {
        let dry_run = call.dry_run;
        self.write(call, |keyed| v1::MigrateInstanceRequest {
            dry_run,
            ..keyed.into()
        })
        .await
    }
}
