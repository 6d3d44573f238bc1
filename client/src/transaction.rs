//! Several operations that happen together or not at all.

use lockstep_machine::{Expectation, InstanceId, Operation, OperationResult, Precondition};
use lockstep_proto::v1;
use lockstep_proto::v1::operation::Operation as Wire;

use crate::client::Client;
use crate::error::Error;
use crate::writes::{Call, CreateCall, DeleteCall, TransitionCall, Written};

/// Operations that happen together, in one revision, or not at all. Each instance may be changed by
/// one of them only. They are numbered from 0, in the order in which they were added, and have no
/// keys of their own.
pub type Transaction = Call<Vec<v1::Operation>>;

impl FromIterator<Operation> for Transaction {
    fn from_iter<I: IntoIterator<Item = Operation>>(operations: I) -> Self {
        let operations: Vec<_> = operations.into_iter().map(Into::into).collect();
        operations.into()
    }
}

impl Transaction {
    /// Without an operation yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Create an instance; its name must be given.
    pub fn create(self, call: CreateCall) -> Self {
        self.with(Wire::Create(CreateCall::keyed((call.command, call.key))))
    }

    /// Move an instance along one transition.
    pub fn transition(self, call: TransitionCall) -> Self {
        self.with(Wire::Transition((call.command, call.key).into()))
    }

    /// Delete an instance.
    pub fn delete(self, call: DeleteCall) -> Self {
        self.with(Wire::Delete((call.command, call.key).into()))
    }

    /// Change nothing, but reject the transaction unless this holds before it.
    pub fn check(self, instance: &InstanceId, expect: Expectation) -> Self {
        let instance = instance.clone();
        self.with(Wire::Check(Precondition { instance, expect }.into()))
    }

    fn with(mut self, operation: Wire) -> Self {
        let operation = Some(operation);
        self.command.push(v1::Operation { operation });
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
    /// [`Error::Invalid`] when one of them has a key of its own, or creates an instance without a
    /// name; and those of every write.
    pub async fn transact(
        &self,
        transaction: Transaction,
    ) -> Result<Written<Vec<OperationResult>>, Error> {
        self.write(transaction, |(operations, key)| v1::TransactRequest {
            operations,
            idempotency_key: key.map(|key| key.to_string()),
        })
        .await
    }
}
