//! The instances of a run.

use std::cell::Cell;

use futures::future::ready;
use futures::{StreamExt, stream};
use lockstep_client::{Client, CreateCall, DeleteCall, Error, InstanceId, StateName, Transaction};
use lockstep_load::Stop;
use lockstep_machine::InstanceName;

use crate::failure::Failure;
use crate::progress::Progress;

/// The built-in machine.
const MACHINE: &str = "triad";
/// Its states, in the order in which instances go through them.
const STATES: [&str; 3] = ["first", "second", "third"];
/// The most instances created or deleted in one transaction.
const CHUNK: usize = 100;
/// Transactions at once.
const CONCURRENCY: usize = 8;

/// Instances of the built-in machine with names of their own.
#[derive(Debug)]
pub(super) struct Instances {
    /// What all names start with.
    pub(super) prefix: String,
    pub(super) count: usize,
    /// How many are created or deleted in one transaction.
    chunk: usize,
}

/// The number of the first instance of each transaction that was executed.
pub(super) struct CreatedChunks(Vec<usize>);

/// The number of the state of this name, in the order in which instances go through them.
pub(super) fn number(state: &str) -> Option<u8> {
    let number = STATES.iter().position(|it| *it == state);
    number.map(|it| it as u8)
}

pub(super) fn state(number: u8) -> StateName {
    StateName::new(STATES[usize::from(number)]).expect("the states are names")
}

/// The number of the next state.
pub(super) fn after(number: u8) -> u8 {
    (number + 1) % STATES.len() as u8
}

impl Instances {
    /// Instances that no other run has, in a cluster that takes so many operations in a transaction.
    pub(super) fn new(prefix: &str, count: usize, operations_max: usize) -> Result<Self, Failure> {
        let instances = Self {
            prefix: format!("{prefix}-{:08x}-", rand::random::<u32>()),
            count,
            chunk: operations_max.clamp(1, CHUNK),
        };
        let longest = instances.name(count);
        InstanceName::new(longest).map_err(|fault| Failure::usage(format!("--prefix: {fault}")))?;
        Ok(instances)
    }

    fn name(&self, number: usize) -> String {
        format!("{}{number:08}", self.prefix)
    }

    /// The instance of this number.
    pub(super) fn id(&self, number: usize) -> InstanceId {
        InstanceId::new(MACHINE, self.name(number)).expect("the longest name is valid")
    }

    /// Creates them, unless it is stopped meanwhile. When that fails, none is left.
    pub(super) async fn create(
        &self,
        client: &Client,
        stop: &Stop,
    ) -> Result<CreatedChunks, Failure> {
        let chunks = (0..self.count).step_by(self.chunk).collect();
        let create = |it: Transaction, id: &InstanceId| it.create(CreateCall::new(id));
        let (created, error) = self.each(client, chunks, "created", stop, create).await;
        match error {
            None => Ok(created),
            Some(error) => {
                self.delete(client, created).await?;
                Err(Failure::from(error).about("cannot create the instances"))
            }
        }
    }

    /// Deletes them.
    pub(super) async fn delete(
        &self,
        client: &Client,
        created: CreatedChunks,
    ) -> Result<(), Failure> {
        let delete = |it: Transaction, id: &InstanceId| it.delete(DeleteCall::new(id));
        let never = Stop::default();
        let (_, error) = self
            .each(client, created.0, "deleted", &never, delete)
            .await;
        match error {
            None => Ok(()),
            Some(error) => {
                let prefix = &self.prefix;
                let failure = Failure::from(error).about("cannot delete the instances");
                Err(failure.hint(format!(
                    "`lockstep instance list {MACHINE} --prefix {prefix}` lists them"
                )))
            }
        }
    }

    /// Executes a transaction for each chunk. Returns those that are done, and the first error.
    async fn each(
        &self,
        client: &Client,
        chunks: Vec<usize>,
        done: &str,
        stop: &Stop,
        add: impl Fn(Transaction, &InstanceId) -> Transaction,
    ) -> (CreatedChunks, Option<Error>) {
        let progress = Progress::over_count(self.count as u64);
        let failed = Cell::new(false);
        let mut outcomes = stream::iter(chunks)
            .take_while(|_| ready(!failed.get() && !stop.is_set()))
            .map(async |first| {
                let numbers = first..self.count.min(first + self.chunk);
                let ids = numbers.map(|number| self.id(number));
                let transaction = ids.fold(Transaction::new(), |it, id| add(it, &id));
                client.transact(transaction).await.map(|_| first)
            })
            .buffer_unordered(CONCURRENCY);
        let (mut executed, mut error) = (Vec::new(), None);
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(first) => executed.push(first),
                Err(reason) => {
                    failed.set(true);
                    error = error.or(Some(reason));
                }
            }
            let position = executed.len() * self.chunk;
            progress.show(position as u64, || format!("instances {done}"));
        }
        drop(outcomes);
        (CreatedChunks(executed), error)
    }
}
