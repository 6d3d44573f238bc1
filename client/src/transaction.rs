//! Several operations that happen together or not at all.

use lockstep_machine::{Expectation, IdempotencyKey, InstanceId, OperationResult};
use lockstep_proto::v1;
use lockstep_proto::v1::operation::Operation as Wire;
use lockstep_proto::v1::precondition::Expect;

use crate::client::Client;
use crate::error::Error;
use crate::instances::{CreateCall, DeleteCall, TransitionCall};
use crate::wire::outcome;
use crate::written::Written;

/// Operations that happen together, in one revision, or not at all. Each instance may be changed by
/// one of them only. They are numbered from 0, in the order in which they were added.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transaction {
    operations: Vec<Wire>,
    /// The first operation that came with a key of its own.
    keyed: Option<usize>,
    key: Option<IdempotencyKey>,
}

impl Transaction {
    /// Without an operation yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Create an instance.
    pub fn create(self, call: CreateCall) -> Self {
        let has_key = call.key.is_some();
        self.with(Wire::Create(call.into_message(None)), has_key)
    }

    /// Move an instance along one transition.
    pub fn transition(self, call: TransitionCall) -> Self {
        let has_key = call.key.is_some();
        self.with(Wire::Transition(call.into_message(None)), has_key)
    }

    /// Delete an instance.
    pub fn delete(self, call: DeleteCall) -> Self {
        let has_key = call.key.is_some();
        self.with(Wire::Delete(call.into_message(None)), has_key)
    }

    /// Change nothing, but refuse all unless this holds before the transaction.
    pub fn check(self, instance: &InstanceId, expect: Expectation) -> Self {
        let check = v1::Precondition {
            id: instance.to_string(),
            expect: to_expect(expect),
        };
        self.with(Wire::Check(check), false)
    }

    /// The same key gets the first outcome again, also from another client. The operations have
    /// none of their own.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether it has no operation: the cluster refuses one that has none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn with(mut self, operation: Wire, has_key: bool) -> Self {
        if has_key {
            self.keyed = self.keyed.or(Some(self.operations.len()));
        }
        self.operations.push(operation);
        self
    }
}

fn to_expect(expect: Expectation) -> Option<Expect> {
    match expect {
        Expectation::Exists => Some(Expect::Exists(true)),
        Expectation::Missing => Some(Expect::Exists(false)),
        Expectation::InState(state) => Some(Expect::State(state.to_string())),
        Expectation::AtRevision(revision) => Some(Expect::Revision(revision.0)),
        _ => None,
    }
}

impl Client {
    /// Does several things, all or none, in one revision.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::{CreateCall, Error, Expectation, Transaction, TransitionCall};
    ///
    /// let transaction = Transaction::new()
    ///     .check(&"customer/ada".parse()?, Expectation::InState("active".parse()?))
    ///     .transition(TransitionCall::event(&"order/42".parse()?, "pay".parse()?))
    ///     .create(CreateCall::new(&"shipment/42".parse()?));
    /// match client.transact(transaction).await {
    ///     Ok(written) => println!("all {} of it happened", written.made.len()),
    ///     Err(Error::Rejected(rejected)) => {
    ///         println!("none of it: {rejected} (operation {:?})", rejected.operation);
    ///     }
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rejected`] when one of the operations is refused, with its number and the reason;
    /// [`Error::Invalid`] when one of them has a key of its own; and those of every write.
    pub async fn transact(
        &self,
        transaction: Transaction,
    ) -> Result<Written<Vec<OperationResult>>, Error> {
        let Transaction {
            operations,
            keyed,
            key,
        } = transaction;
        if let Some(number) = keyed {
            return Err(Error::Invalid(format!(
                "operation {number} has an idempotency key of its own: a transaction has one for all"
            )));
        }
        let operations = operations.into_iter().map(|operation| v1::Operation {
            operation: Some(operation),
        });
        let operations = operations.collect();
        let message = |key: &IdempotencyKey| v1::TransactRequest {
            operations,
            idempotency_key: Some(key.to_string()),
        };
        self.write(key, message, outcome::committed).await
    }
}
