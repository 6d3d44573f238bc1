//! Commands as they travel and rest: to and from the peer protocol. Nothing is decided here: what
//! a command may ask is the state machine's business, what a name may be is the names' own.

use std::sync::Arc;

use lockstep_machine::{
    Command, Create, Delete, DeleteDefinition, EventName, Expectation, Expiration, InstanceId,
    Limits, MachineName, Metadata, Migrate, Operation, Precondition, Revision, StateName,
    Timestamp, Transaction, Transition, Trigger, Version,
};

use crate::batch::parsed;
use crate::{Malformed, raft};

impl From<&Command> for raft::request::Command {
    fn from(command: &Command) -> Self {
        match command {
            Command::Transition(it) => Self::Transition(it.into()),
            Command::Define(it) => Self::Define((&**it).into()),
            Command::DeleteDefinition(it) => Self::DeleteDefinition(raft::DeleteDefinition {
                machine: it.machine.to_string(),
                version: it.version.map(|version| version.0),
            }),
            Command::Create(it) => Self::Create(it.into()),
            Command::Delete(it) => Self::Delete(it.into()),
            Command::Migrate(it) => Self::Migrate(it.into()),
            Command::Transaction(it) => Self::Transaction(raft::Transaction {
                operations: it.operations.iter().map(Into::into).collect(),
            }),
            Command::Expire(it) => Self::Expire(raft::Expire {
                expirations: it.iter().map(Into::into).collect(),
            }),
            Command::Configure(it) => Self::Configure((&**it).into()),
            Command::Sink(it) => Self::Sink((&**it).into()),
        }
    }
}

impl TryFrom<raft::request::Command> for Command {
    type Error = Malformed;
    fn try_from(command: raft::request::Command) -> Result<Self, Malformed> {
        use raft::request::Command as Wire;
        Ok(match command {
            Wire::Transition(it) => Command::Transition(it.try_into()?),
            Wire::Define(it) => Command::Define(Arc::new(it.try_into()?)),
            Wire::DeleteDefinition(it) => Command::DeleteDefinition(DeleteDefinition {
                machine: parsed("delete_definition.machine", MachineName::new(it.machine))?,
                version: it.version.map(Version),
            }),
            Wire::Create(it) => Command::Create(it.try_into()?),
            Wire::Delete(it) => Command::Delete(it.try_into()?),
            Wire::Migrate(it) => Command::Migrate(it.try_into()?),
            Wire::Transaction(it) => Command::Transaction(Transaction {
                operations: all(it.operations)?,
            }),
            Wire::Expire(it) => Command::Expire(all(it.expirations)?),
            Wire::Configure(it) => Command::Configure(Box::new(it.try_into()?)),
            Wire::Sink(it) => Command::Sink(Box::new(it.try_into()?)),
        })
    }
}

/// Converts each, up to the first that breaks the contract.
fn all<F, T: TryFrom<F, Error = Malformed>>(list: Vec<F>) -> Result<Vec<T>, Malformed> {
    list.into_iter().map(TryInto::try_into).collect()
}

/// The parts of an id, as they travel.
fn parts(id: &InstanceId) -> (String, String) {
    (id.machine.to_string(), id.name().to_owned())
}

/// An id from its parts; the fields are named by what they are in.
fn id(
    fields: (&'static str, &'static str),
    machine: String,
    instance: String,
) -> Result<InstanceId, Malformed> {
    // Either part is checked with a good other one, so that the fault is told of the right field.
    parsed(fields.0, InstanceId::new(&machine, "x"))?;
    parsed(fields.1, InstanceId::new(machine, instance))
}

pub(crate) fn entries(metadata: &Metadata) -> Vec<raft::MetadataEntry> {
    let entry = |(key, value): (&str, &str)| raft::MetadataEntry {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    metadata.iter().map(entry).collect()
}

pub(crate) fn metadata(
    field: &'static str,
    entries: Vec<raft::MetadataEntry>,
) -> Result<Metadata, Malformed> {
    let entries = entries.into_iter().map(|it| (it.key, it.value));
    Metadata::new(entries).map_err(|invalid| Malformed::new(field, invalid))
}

pub(crate) fn state(
    field: &'static str,
    name: Option<String>,
) -> Result<Option<StateName>, Malformed> {
    name.map(|name| parsed(field, StateName::new(name)))
        .transpose()
}

impl From<&Transition> for raft::Transition {
    fn from(transition: &Transition) -> Self {
        let (machine, instance) = parts(&transition.instance);
        Self {
            machine,
            instance,
            trigger: Some(match &transition.trigger {
                Trigger::To(state) => raft::transition::Trigger::To(state.to_string()),
                Trigger::Event(event) => raft::transition::Trigger::Event(event.to_string()),
            }),
            expect_state: transition.expect_state.as_ref().map(ToString::to_string),
            expect_revision: transition.expect_revision.map(|revision| revision.0),
            metadata: entries(&transition.metadata),
        }
    }
}

impl TryFrom<raft::Transition> for Transition {
    type Error = Malformed;
    fn try_from(it: raft::Transition) -> Result<Self, Malformed> {
        use raft::transition::Trigger as Wire;
        let instance = id(
            ("transition.machine", "transition.instance"),
            it.machine,
            it.instance,
        )?;
        let trigger = match it.trigger {
            Some(Wire::To(to)) => Trigger::To(parsed("transition.to", StateName::new(to))?),
            Some(Wire::Event(event)) => {
                Trigger::Event(parsed("transition.event", EventName::new(event))?)
            }
            None => {
                let reason = "one of `to` and `event` is required";
                return Err(Malformed::new("transition.trigger", reason));
            }
        };
        Ok(Self {
            instance,
            trigger,
            expect_state: state("transition.expect_state", it.expect_state)?,
            expect_revision: it.expect_revision.map(Revision),
            metadata: metadata("transition.metadata", it.metadata)?,
        })
    }
}

impl From<&Create> for raft::Create {
    fn from(create: &Create) -> Self {
        let (machine, instance) = parts(&create.instance);
        Self {
            machine,
            instance,
            version: create.version.map(|version| version.0),
            metadata: entries(&create.metadata),
        }
    }
}

impl TryFrom<raft::Create> for Create {
    type Error = Malformed;
    fn try_from(it: raft::Create) -> Result<Self, Malformed> {
        Ok(Self {
            instance: id(
                ("create.machine", "create.instance"),
                it.machine,
                it.instance,
            )?,
            version: it.version.map(Version),
            metadata: metadata("create.metadata", it.metadata)?,
        })
    }
}

impl From<&Delete> for raft::Delete {
    fn from(delete: &Delete) -> Self {
        let (machine, instance) = parts(&delete.instance);
        Self {
            machine,
            instance,
            expect_state: delete.expect_state.as_ref().map(ToString::to_string),
            expect_revision: delete.expect_revision.map(|revision| revision.0),
            metadata: entries(&delete.metadata),
        }
    }
}

impl TryFrom<raft::Delete> for Delete {
    type Error = Malformed;
    fn try_from(it: raft::Delete) -> Result<Self, Malformed> {
        Ok(Self {
            instance: id(
                ("delete.machine", "delete.instance"),
                it.machine,
                it.instance,
            )?,
            expect_state: state("delete.expect_state", it.expect_state)?,
            expect_revision: it.expect_revision.map(Revision),
            metadata: metadata("delete.metadata", it.metadata)?,
        })
    }
}

impl From<&Migrate> for raft::Migrate {
    fn from(migrate: &Migrate) -> Self {
        let (machine, instance) = parts(&migrate.instance);
        let mapping = |(from, to): (&StateName, &StateName)| raft::migrate::Mapping {
            from: from.to_string(),
            to: to.to_string(),
        };
        Self {
            machine,
            instance,
            version: migrate.version.map(|version| version.0),
            states: migrate.states.iter().map(mapping).collect(),
            expect_state: migrate.expect_state.as_ref().map(ToString::to_string),
            expect_revision: migrate.expect_revision.map(|revision| revision.0),
            metadata: entries(&migrate.metadata),
        }
    }
}

impl TryFrom<raft::Migrate> for Migrate {
    type Error = Malformed;
    fn try_from(it: raft::Migrate) -> Result<Self, Malformed> {
        let name = |name: String| parsed("migrate.states", StateName::new(name));
        let mapping = |it: raft::migrate::Mapping| Ok((name(it.from)?, name(it.to)?));
        let count = it.states.len();
        let states = it.states.into_iter().map(mapping);
        let states: std::collections::BTreeMap<_, _> = states.collect::<Result<_, Malformed>>()?;
        if states.len() != count {
            return Err(Malformed::new("migrate.states", "a state is mapped twice"));
        }
        Ok(Self {
            instance: id(
                ("migrate.machine", "migrate.instance"),
                it.machine,
                it.instance,
            )?,
            version: it.version.map(Version),
            states,
            expect_state: state("migrate.expect_state", it.expect_state)?,
            expect_revision: it.expect_revision.map(Revision),
            metadata: metadata("migrate.metadata", it.metadata)?,
        })
    }
}

impl From<&Operation> for raft::Operation {
    fn from(operation: &Operation) -> Self {
        use raft::operation::Operation as Wire;
        let operation = match operation {
            Operation::Create(it) => Wire::Create(it.into()),
            Operation::Transition(it) => Wire::Transition(it.into()),
            Operation::Delete(it) => Wire::Delete(it.into()),
            Operation::Check(it) => Wire::Check(it.into()),
        };
        Self {
            operation: Some(operation),
        }
    }
}

impl TryFrom<raft::Operation> for Operation {
    type Error = Malformed;
    fn try_from(it: raft::Operation) -> Result<Self, Malformed> {
        use raft::operation::Operation as Wire;
        match it.operation {
            Some(Wire::Create(it)) => it.try_into().map(Operation::Create),
            Some(Wire::Transition(it)) => it.try_into().map(Operation::Transition),
            Some(Wire::Delete(it)) => it.try_into().map(Operation::Delete),
            Some(Wire::Check(it)) => it.try_into().map(Operation::Check),
            None => {
                let reason = "one is missing, or of a kind this build does not know";
                Err(Malformed::new("transaction.operations", reason))
            }
        }
    }
}

impl From<&Precondition> for raft::Precondition {
    fn from(precondition: &Precondition) -> Self {
        use raft::precondition::{Exists, Expect as Wire, Missing};
        let (machine, instance) = parts(&precondition.instance);
        let expect = Some(match &precondition.expect {
            Expectation::Exists => Wire::Exists(Exists {}),
            Expectation::Missing => Wire::Missing(Missing {}),
            Expectation::InState(state) => Wire::InState(state.to_string()),
            Expectation::AtRevision(revision) => Wire::AtRevision(revision.0),
        });
        Self {
            machine,
            instance,
            expect,
        }
    }
}

impl TryFrom<raft::Precondition> for Precondition {
    type Error = Malformed;
    fn try_from(it: raft::Precondition) -> Result<Self, Malformed> {
        use raft::precondition::Expect as Wire;
        let expect = match it.expect {
            Some(Wire::Exists(_)) => Expectation::Exists,
            Some(Wire::Missing(_)) => Expectation::Missing,
            Some(Wire::InState(name)) => {
                Expectation::InState(parsed("check.in_state", StateName::new(name))?)
            }
            Some(Wire::AtRevision(revision)) => Expectation::AtRevision(Revision(revision)),
            None => return Err(Malformed::new("check.expect", "it is required")),
        };
        let instance = id(("check.machine", "check.instance"), it.machine, it.instance)?;
        Ok(Self { instance, expect })
    }
}

impl From<&Expiration> for raft::Expiration {
    fn from(expiration: &Expiration) -> Self {
        let (machine, instance) = parts(&expiration.instance);
        Self {
            machine,
            instance,
            revision: expiration.revision.0,
            deadline_ms: expiration.deadline.0,
        }
    }
}

impl TryFrom<raft::Expiration> for Expiration {
    type Error = Malformed;
    fn try_from(it: raft::Expiration) -> Result<Self, Malformed> {
        Ok(Self {
            instance: id(
                ("expire.machine", "expire.instance"),
                it.machine,
                it.instance,
            )?,
            revision: Revision(it.revision),
            deadline: Timestamp(it.deadline_ms),
        })
    }
}

/// Every limit once, for both directions.
macro_rules! limits {
    ($($name:ident),* $(,)?) => {
        impl From<&Limits> for raft::Limits {
            fn from(limits: &Limits) -> Self {
                let Limits { $($name),* } = *limits;
                Self { $($name: Some($name)),* }
            }
        }

        impl TryFrom<raft::Limits> for Limits {
            type Error = Malformed;
            fn try_from(it: raft::Limits) -> Result<Self, Malformed> {
                let missing = |field| move || Malformed::new(field, "it is required");
                Ok(Self {
                    $($name: it.$name.ok_or_else(missing(concat!("configure.", stringify!($name))))?),*
                })
            }
        }
    };
}

limits!(
    keys_max,
    key_retention_ms,
    sessions_max,
    key_bytes_max,
    definitions_max,
    versions_max,
    states_max,
    transitions_max,
    document_bytes_max,
    instances_max,
    metadata_entries_max,
    metadata_bytes_max,
    history_entries_max,
    history_bytes_max,
    operations_max,
    events_max,
    event_bytes_max,
    sinks_max,
    dead_letters_max,
);

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
