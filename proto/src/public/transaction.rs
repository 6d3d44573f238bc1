//! Transactions.

use lockstep_machine::{IdempotencyKey, Operation, OperationResult, Precondition, Transaction};

use super::field::{Field, message};
use crate::{Malformed, v1};

/// The field under which a fault of an operation is reported; its reason names the operation and the
/// field.
const OPERATIONS: &str = "operations";

impl TryFrom<v1::TransactRequest> for (Transaction, Option<IdempotencyKey>) {
    type Error = Malformed;
    fn try_from(request: v1::TransactRequest) -> Result<Self, Malformed> {
        let operation = |(position, operation): (usize, v1::Operation)| {
            Operation::try_from(operation).map_err(|fault| {
                Malformed::new(OPERATIONS, format!("operation {position}: {fault}"))
            })
        };
        let operations = request.operations.into_iter().enumerate().map(operation);
        let transaction = Transaction {
            operations: operations.collect::<Result<_, _>>()?,
        };
        let key = Field::parse("idempotency_key", request.idempotency_key)?;
        Ok((transaction, key))
    }
}

impl From<Operation> for v1::Operation {
    fn from(operation: Operation) -> Self {
        use v1::operation::Operation as Wire;
        let operation = match operation {
            Operation::Create(it) => Wire::Create((it, None).into()),
            Operation::Transition(it) => Wire::Transition((it, None).into()),
            Operation::Delete(it) => Wire::Delete((it, None).into()),
            Operation::Check(it) => Wire::Check(it.into()),
        };
        Self {
            operation: Some(operation),
        }
    }
}

impl TryFrom<v1::Operation> for Operation {
    type Error = Malformed;
    fn try_from(operation: v1::Operation) -> Result<Self, Malformed> {
        use v1::operation::Operation as Wire;
        Ok(match operation.operation {
            Some(Wire::Create(it)) => Operation::Create(keyless(it)?),
            Some(Wire::Transition(it)) => Operation::Transition(keyless(it)?),
            Some(Wire::Delete(it)) => Operation::Delete(keyless(it)?),
            Some(Wire::Check(it)) => Operation::Check(it.try_into()?),
            None => {
                let reason = "one of `create`, `transition`, `delete` and `check` is required";
                return Err(Malformed::new("operation", reason));
            }
        })
    }
}

/// The command of an operation. It has no key: a transaction is repeated as a whole.
fn keyless<T, W>(request: W) -> Result<T, Malformed>
where
    W: TryInto<(T, Option<IdempotencyKey>), Error = Malformed>,
{
    match request.try_into()? {
        (command, None) => Ok(command),
        (_, Some(_)) => {
            let reason = "not allowed in an operation; set it on the transaction";
            Err(Malformed::new("idempotency_key", reason))
        }
    }
}

message!(Precondition as Precondition {
    instance: id,
    expect: expect,
});

impl From<OperationResult> for v1::OperationResult {
    fn from(result: OperationResult) -> Self {
        use v1::operation_result::Result as Wire;
        let result = match result {
            OperationResult::Created(it) => Wire::Created(it.into()),
            OperationResult::Transitioned(it) => Wire::Transitioned(it.into()),
            OperationResult::Deleted(it) => Wire::Deleted(it.into()),
            OperationResult::Checked => Wire::Checked(v1::Checked {}),
        };
        Self {
            result: Some(result),
        }
    }
}

impl TryFrom<v1::OperationResult> for OperationResult {
    type Error = Malformed;
    fn try_from(it: v1::OperationResult) -> Result<Self, Malformed> {
        use v1::operation_result::Result as Wire;
        Ok(match it.result {
            Some(Wire::Created(it)) => OperationResult::Created(it.try_into()?),
            Some(Wire::Transitioned(it)) => OperationResult::Transitioned(it.try_into()?),
            Some(Wire::Deleted(it)) => OperationResult::Deleted(it.try_into()?),
            Some(Wire::Checked(v1::Checked {})) => OperationResult::Checked,
            None => return Err(Malformed::new("result", "it is missing")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{Expectation, Revision, StateName};
    use v1::operation::Operation as Wire;

    fn read(operations: Vec<Wire>) -> Result<Vec<Operation>, Malformed> {
        let operations = operations.into_iter().map(|it| v1::Operation {
            operation: Some(it),
        });
        let request = v1::TransactRequest {
            operations: operations.collect(),
            idempotency_key: Some("once".to_owned()),
        };
        let sent = request.operations.clone();
        let (transaction, key) = <(Transaction, Option<IdempotencyKey>)>::try_from(request)?;
        let again = transaction
            .operations
            .iter()
            .cloned()
            .map(v1::Operation::from);
        assert_eq!(again.collect::<Vec<_>>(), sent);
        assert_eq!(key.unwrap().as_str(), "once");
        Ok(transaction.operations)
    }

    fn check(id: &str, expect: Option<v1::precondition::Expect>) -> Wire {
        Wire::Check(v1::Precondition {
            id: id.to_owned(),
            expect,
        })
    }

    fn create(id: &str) -> v1::CreateInstanceRequest {
        v1::CreateInstanceRequest {
            id: id.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn every_kind_of_operation_is_read_in_order() {
        use v1::precondition::Expect;
        let operations = read(vec![
            Wire::Create(create("order/1")),
            Wire::Transition(v1::TransitionRequest {
                id: "order/2".to_owned(),
                trigger: Some(v1::transition_request::Trigger::To("paid".to_owned())),
                ..Default::default()
            }),
            Wire::Delete(v1::DeleteInstanceRequest {
                id: "order/3".to_owned(),
                ..Default::default()
            }),
            check("stock/4", Some(Expect::Exists(true))),
            check("stock/5", Some(Expect::Exists(false))),
            check("stock/6", Some(Expect::State("free".to_owned()))),
            check("stock/7", Some(Expect::Revision(9))),
        ])
        .unwrap();
        let names: Vec<_> = operations
            .iter()
            .map(|it| it.instance().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "order/1", "order/2", "order/3", "stock/4", "stock/5", "stock/6", "stock/7"
            ]
        );
        let expected: Vec<_> = operations
            .into_iter()
            .filter_map(|it| match it {
                Operation::Check(it) => Some(it.expect),
                _ => None,
            })
            .collect();
        assert_eq!(
            expected,
            [
                Expectation::Exists,
                Expectation::Missing,
                Expectation::InState(StateName::new("free").unwrap()),
                Expectation::AtRevision(Revision(9)),
            ]
        );
    }

    #[test]
    fn a_fault_names_the_operation_and_its_field() {
        let good = || Wire::Create(create("order/1"));
        let keyed = v1::CreateInstanceRequest {
            idempotency_key: Some("own".to_owned()),
            ..create("order/2")
        };
        for (bad, words) in [
            (Wire::Create(create("order")), "operation 1: id: "),
            (Wire::Create(keyed), "operation 1: idempotency_key: "),
            (
                Wire::Transition(v1::TransitionRequest {
                    id: "order/1".to_owned(),
                    ..Default::default()
                }),
                "operation 1: trigger: ",
            ),
            (check("order/1", None), "operation 1: expect: "),
        ] {
            let fault = read(vec![good(), bad]).unwrap_err();
            assert_eq!(fault.field, "operations");
            assert!(fault.reason.starts_with(words), "{fault}");
        }
    }
}
