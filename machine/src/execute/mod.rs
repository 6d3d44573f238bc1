//! Executes commands, one file per command. Each either changes the world and returns the result, or changes
//! nothing and returns a rejection.
//!
//! The order of the checks is part of the contract: the same request gets the same rejection on every
//! node and in every build.

mod create;
mod define;
mod delete;
mod delete_definition;
mod expire;
mod level;
mod migrate;
mod settings;
mod sink;
mod transaction;
mod transition;

use crate::command::Command;
use crate::ids::{InstanceId, MachineName, Revision, StateName};
use crate::instance::Instance;
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::world::{Found, World};

/// Executes one command; what it changed is one revision.
pub(crate) fn execute(world: &mut World, command: &Command) -> Outcome {
    let outcome = dispatch(world, command).unwrap_or_else(Outcome::Rejected);
    world.seal();
    outcome
}

fn dispatch(world: &mut World, command: &Command) -> Result<Outcome, Rejection> {
    Ok(match command {
        Command::Transition(it) => Outcome::Transitioned(transition::execute(world, it)?),
        Command::Define(it) => Outcome::Defined(define::execute(world, it)?),
        Command::DeleteDefinition(it) => {
            Outcome::DefinitionDeleted(delete_definition::execute(world, it)?)
        }
        Command::Create(it) => Outcome::Created(create::execute(world, it)?),
        Command::Delete(it) => Outcome::Deleted(delete::execute(world, it)?),
        Command::Migrate(it) => Outcome::Migrated(migrate::execute(world, it)?),
        Command::Transaction(it) => Outcome::Committed(transaction::execute(world, it)?),
        Command::Expire(it) => Outcome::Expired(expire::execute(world, it)),
        Command::UpdateSettings(it) => Outcome::SettingsUpdated(settings::execute(world, it)?),
        Command::Sink(it) => Outcome::SinkChanged {
            affected: sink::execute(world, it)?,
        },
        Command::RaiseLevel(it) => Outcome::LevelRaised {
            level: level::execute(world, *it),
        },
    })
}

impl Found<'_> {
    /// Checks the caller's expectations.
    fn check(
        &self,
        id: &InstanceId,
        state: Option<&StateName>,
        revision: Option<Revision>,
    ) -> Result<(), Rejection> {
        let instance = self.instance;
        if let Some(expected) = state.filter(|state| **state != instance.state) {
            return Err(Rejection::StateMismatch {
                instance: id.clone(),
                expected: expected.clone(),
                current: instance.state.clone(),
                revision: instance.revision,
            });
        }
        if let Some(expected) = revision.filter(|revision| *revision != instance.revision) {
            return Err(Rejection::RevisionMismatch {
                instance: id.clone(),
                expected,
                current: instance.state.clone(),
                revision: instance.revision,
            });
        }
        Ok(())
    }
}

fn exists(id: &InstanceId, there: &Instance) -> Rejection {
    Rejection::InstanceExists {
        instance: id.clone(),
        current: there.state.clone(),
        revision: there.revision,
    }
}

/// The built-in machine.
pub(crate) const BUILT_IN_MACHINE: &str = "triad";
/// The built-in instance, which the short interface uses.
pub(crate) const BUILT_IN_INSTANCE: &str = "default";

fn refuse_built_in_machine(name: &MachineName) -> Result<(), Rejection> {
    match name.as_str() {
        BUILT_IN_MACHINE => Err(built_in(name)),
        _ => Ok(()),
    }
}

fn refuse_built_in_instance(id: &InstanceId) -> Result<(), Rejection> {
    match (id.machine.as_str(), id.name()) {
        (BUILT_IN_MACHINE, BUILT_IN_INSTANCE) => Err(built_in(id)),
        _ => Ok(()),
    }
}

fn built_in(name: &impl ToString) -> Rejection {
    let name = name.to_string();
    Rejection::BuiltIn { name }
}

#[cfg(test)]
mod sink_tests;
#[cfg(test)]
mod tests;
