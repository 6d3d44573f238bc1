//! Several operations that happen together or not at all.

use lockstep_machine::{
    Expectation, IdempotencyKey, InstanceId, Operation, OperationResult, Precondition,
};
use lockstep_proto::v1;
use lockstep_proto::v1::operation::Operation as Wire;

use crate::client::Client;
use crate::error::Error;
use crate::writes::{Call, CreateCall, DeleteCall, TransitionCall, Written};

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
        self.with(call, |it| Wire::Create((it, None).into()))
    }

    /// Move an instance along one transition.
    pub fn transition(self, call: TransitionCall) -> Self {
        self.with(call, |it| Wire::Transition((it, None).into()))
    }

    /// Delete an instance.
    pub fn delete(self, call: DeleteCall) -> Self {
        self.with(call, |it| Wire::Delete((it, None).into()))
    }

    /// Change nothing, but reject the transaction unless this holds before it.
    pub fn check(self, instance: &InstanceId, expect: Expectation) -> Self {
        let instance = instance.clone();
        self.with(Precondition { instance, expect }.into(), |it| {
            Wire::Check(it.into())
        })
    }

    /// One more operation.
    pub fn operation(self, operation: Operation) -> Self {
        match operation {
            Operation::Create(it) => self.create(it.into()),
            Operation::Transition(it) => self.transition(it.into()),
            Operation::Delete(it) => self.delete(it.into()),
            Operation::Check(it) => self.check(&it.instance, it.expect),
        }
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

    /// Whether it has no operation: the cluster refuses such a transaction.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn with<C>(mut self, call: Call<C>, operation: impl FnOnce(C) -> Wire) -> Self {
        if call.key.is_some() {
            self.keyed = self.keyed.or(Some(self.operations.len()));
        }
        self.operations.push(operation(call.command));
        self
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
        self.write(key, |key: &IdempotencyKey| v1::TransactRequest {
            operations,
            idempotency_key: Some(key.to_string()),
        })
        .await
    }
}
