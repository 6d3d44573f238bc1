//! Several operations that happen together or not at all.

use std::fmt::Display;

use lockstep_machine::{
    Create, Expectation, IdempotencyKey, InstanceId, Operation, OperationResult, Precondition,
};
use lockstep_proto::v1;

use crate::client::Client;
use crate::error::Error;
use crate::writes::{CreateCall, DeleteCall, TransitionCall, Written};

/// Operations that happen together, in one revision, or not at all. Each instance may be changed by
/// one of them only. They are numbered from 0, in the order in which they were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    operations: Vec<Operation>,
    /// The first operation that is not valid, and why.
    fault: Option<String>,
    key: Option<IdempotencyKey>,
}

impl From<lockstep_machine::Transaction> for Transaction {
    fn from(it: lockstep_machine::Transaction) -> Self {
        Self {
            operations: it.operations,
            ..Self::default()
        }
    }
}

impl Transaction {
    /// Without an operation yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Create an instance; its name must be given.
    pub fn create(mut self, call: CreateCall) -> Self {
        match Create::try_from(call.command) {
            Ok(create) => self.with(call.key, Operation::Create(create)),
            Err(fault) => {
                self.fault_of_next(fault);
                self
            }
        }
    }

    /// Move an instance along one transition.
    pub fn transition(self, call: TransitionCall) -> Self {
        self.with(call.key, Operation::Transition(call.command))
    }

    /// Delete an instance.
    pub fn delete(self, call: DeleteCall) -> Self {
        self.with(call.key, Operation::Delete(call.command))
    }

    /// Change nothing, but reject the transaction unless this holds before it.
    pub fn check(self, instance: &InstanceId, expect: Expectation) -> Self {
        let instance = instance.clone();
        self.operation(Operation::Check(Precondition { instance, expect }))
    }

    /// One more operation.
    pub fn operation(self, operation: Operation) -> Self {
        self.with(None, operation)
    }

    /// The same key returns the first outcome again, also to another client. The operations have
    /// no keys of their own.
    pub fn idempotency_key(mut self, key: IdempotencyKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether it has no operation: the cluster rejects such a transaction.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn with(mut self, key: Option<IdempotencyKey>, operation: Operation) -> Self {
        if key.is_some() {
            self.fault_of_next("it has an idempotency key; set one key for the whole transaction");
        }
        self.operations.push(operation);
        self
    }

    fn fault_of_next(&mut self, fault: impl Display) {
        let number = self.operations.len();
        let fault = || format!("operation {number}: {fault}");
        self.fault.get_or_insert_with(fault);
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
    /// [`Error::Rejected`] when one of the operations is rejected, with its number and the reason;
    /// [`Error::Invalid`] when one of them has a key of its own, or creates an instance without a
    /// name; and those of every write.
    pub async fn transact(
        &self,
        transaction: Transaction,
    ) -> Result<Written<Vec<OperationResult>>, Error> {
        let Transaction {
            operations,
            fault,
            key,
        } = transaction;
        if let Some(fault) = fault {
            return Err(Error::Invalid(fault));
        }
        let transaction = lockstep_machine::Transaction { operations };
        self.write(key, |key| {
            v1::TransactRequest::from((transaction, Some(key.clone())))
        })
        .await
    }
}
