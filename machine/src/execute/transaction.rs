//! The command [`Transaction`]: executes several operations atomically, in one revision.

use std::collections::BTreeMap;

use super::{create, delete, exists, transition};
use crate::command::{Expectation, Operation, Precondition, Transaction};
use crate::limits::Quota;
use crate::outcome::OperationResult;
use crate::rejection::Rejection;
use crate::world::World;

/// Checks all operations, and then executes them. What an operation comes to does not depend on those before it,
/// except for the number of instances: no two change the same instance. (To execute them on a clone would copy
/// every node of the maps that they change.)
pub(crate) fn execute(
    world: &mut World,
    transaction: &Transaction,
) -> Result<Vec<OperationResult>, Rejection> {
    let operations = &transaction.operations;
    if operations.is_empty() {
        return Err(Rejection::EmptyTransaction);
    }
    world.check_quota(Quota::Operations, operations.len() as u64)?;
    refuse_twice(operations)?;

    let failed = |position| {
        move |reason| Rejection::OperationFailed {
            position,
            reason: Box::new(reason),
        }
    };
    let mut instances = world.instances;
    for (position, operation) in (0u32..).zip(operations) {
        let checked = match operation {
            Operation::Create(it) => create::check(world, it, instances).map(|_| instances += 1),
            Operation::Transition(it) => transition::check(world, it).map(drop),
            Operation::Delete(it) => delete::check(world, it).map(|_| instances -= 1),
            Operation::Check(it) => check(world, it),
        };
        checked.map_err(failed(position))?;
    }
    let execute = |(position, operation): (u32, &Operation)| {
        let result = match operation {
            Operation::Create(it) => create::execute(world, it).map(OperationResult::Created),
            Operation::Transition(it) => {
                transition::execute(world, it).map(OperationResult::Transitioned)
            }
            Operation::Delete(it) => delete::execute(world, it).map(OperationResult::Deleted),
            Operation::Check(_) => Ok(OperationResult::Checked),
        };
        result.map_err(failed(position))
    };
    (0u32..).zip(operations).map(execute).collect()
}

/// A precondition may name an instance that the transaction also changes: it sees the state before.
fn refuse_twice(operations: &[Operation]) -> Result<(), Rejection> {
    let mut changed = BTreeMap::new();
    for (second, operation) in (0u32..).zip(operations) {
        if matches!(operation, Operation::Check(_)) {
            continue;
        }
        if let Some(first) = changed.insert(operation.instance(), second) {
            let instance = operation.instance().clone();
            return Err(Rejection::InstanceTwice {
                instance,
                first,
                second,
            });
        }
    }
    Ok(())
}

fn check(world: &World, precondition: &Precondition) -> Result<(), Rejection> {
    let Precondition {
        instance: id,
        expect,
    } = precondition;
    if *expect == Expectation::Missing {
        return match world.instance(id) {
            None => Ok(()),
            Some(there) => Err(exists(id, there)),
        };
    }
    let found = world.find(id)?;
    match expect {
        Expectation::Exists | Expectation::Missing => Ok(()),
        Expectation::InState(state) => found.check(id, Some(state), None),
        Expectation::AtRevision(revision) => found.check(id, None, Some(*revision)),
    }
}
