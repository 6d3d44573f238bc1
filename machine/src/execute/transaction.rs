//! The command [`Transaction`]: executes several operations atomically, in one revision.

use std::collections::BTreeMap;

use super::{create, delete, exists, transition};
use crate::command::{Expectation, Operation, Precondition, Transaction};
use crate::limits::Quota;
use crate::outcome::OperationResult;
use crate::rejection::Rejection;
use crate::world::World;

/// Executes the operations on a clone, which shares all unchanged data, and keeps the clone on success.
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

    let mut after = world.clone();
    let mut results = Vec::with_capacity(operations.len());
    for (position, operation) in (0u32..).zip(operations) {
        let result = match operation {
            Operation::Create(it) => create::execute(&mut after, it).map(OperationResult::Created),
            Operation::Transition(it) => {
                transition::execute(&mut after, it).map(OperationResult::Transitioned)
            }
            Operation::Delete(it) => delete::execute(&mut after, it).map(OperationResult::Deleted),
            Operation::Check(it) => check(world, it).map(|()| OperationResult::Checked),
        };
        let failed = |reason| Rejection::OperationFailed {
            position,
            reason: Box::new(reason),
        };
        results.push(result.map_err(failed)?);
    }
    *world = after;
    Ok(results)
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
