//! Client of Lockstep, the replicated finite-state-machine service.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use lockstep_client::{Client, Consistency, TransitionCall};
//!
//! let client = Client::builder().endpoints(["127.0.0.1:4333", "127.0.0.1:4334"]).build()?;
//! let instance = "triad/default".parse()?;
//! let moved = client.transition(TransitionCall::to(&instance, "second".parse()?)).await?;
//! println!("{} is now in {}", instance, moved.made.to);
//! println!("{:?}", client.get(&instance, Consistency::Linearizable).await?.instance.allowed);
//! # Ok(())
//! # }
//! ```
//!
//! What it promises:
//!
//! - **One deadline** for each call, however many nodes it takes; the nodes are told.
//! - **Failing over**: any node answers any request, so a call moves on from a node that does not
//!   answer and stays with one that does.
//! - **Safe retries**: every transition carries an idempotency key, the caller's or a random one.
//!   Sending it again after an unknown outcome never executes it twice.
//! - **Honest errors**: [`Error::Unavailable`] only when nothing was executed; otherwise
//!   [`Error::OutcomeUnknown`], with the key to ask again.
//!
//! Everything runs inside a tokio runtime with IO and time enabled.

mod address;
mod answer;
mod call;
mod client;
pub mod consul;
mod endpoints;
mod error;
mod survey;
mod types;

pub use address::{Address, InvalidAddress};
pub use client::{Builder, Client, TIMEOUT_DEFAULT, TIMEOUT_MAX};
pub use error::{DiscoveryError, Error, Rejected, Tried};
pub use types::{
    Consistency, Instance, Leader, Member, NodeStatus, Read, Role, Transition, TransitionCall,
};

pub use lockstep_machine::{
    EventName, IdempotencyKey, InstanceId, InvalidName, Revision, StateName, Timestamp,
    Transitioned, Trigger, Version,
};
