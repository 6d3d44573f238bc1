//! Client of Lockstep, the replicated finite-state-machine service.
//!
//! From a definition to its events:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use lockstep_client::{Client, CreateCall, DefineCall, TransitionCall, WatchCall, Watched};
//!
//! let client = Client::builder().endpoints(["127.0.0.1:4333", "127.0.0.1:4334"]).build()?;
//!
//! let defined = client.define(DefineCall::yaml("
//!     name: order
//!     initial: placed
//!     states:
//!       placed: { timeout: { after: 15m, to: expired } }
//!       paid: { final: true }
//!       expired: { final: true }
//!     transitions: [ { from: placed, to: paid, event: pay } ]
//! ")).await?;
//!
//! // Everything that happens to orders from here on.
//! let call = WatchCall::of(&defined.made.machine).after(defined.place());
//! let mut watch = client.watch(call).await?;
//!
//! let order = "order/42".parse()?;
//! client.create(CreateCall::new(&order)).await?;
//! let paid = client.transition(TransitionCall::event(&order, "pay".parse()?)).await?;
//! println!("{order} is {} now", paid.made.to);
//!
//! // The watch goes on by itself on another node when the one it follows is lost.
//! while let Some(watched) = watch.next().await {
//!     if let Watched::Event(event) = watched? {
//!         println!("{:?} {}: {:?} -> {:?}", event.instance(), event.kind.name(), event.from, event.to);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What it promises:
//!
//! - **One deadline** for each call, however many nodes it takes; the nodes are told.
//! - **Failing over**: any node answers any request, so a call moves on from a node that does not
//!   answer and stays with one that does.
//! - **Safe retries**: every write carries an idempotency key, the caller's or a random one.
//!   Sending it again after an unknown outcome never executes it twice.
//! - **Honest errors**: [`Error::Unavailable`] only when nothing was executed; otherwise
//!   [`Error::OutcomeUnknown`], with the key to ask again.
//! - **Watches without gaps**: each event once and in order, across lost nodes; or an error that
//!   says from where on it is possible again.
//!
//! What can be asked, one builder for each call with optional parts:
//!
//! | | |
//! |---|---|
//! | machines | [`define`](Client::define), [`machines`](Client::machines), [`machine`](Client::machine), [`draw`](Client::draw), [`delete_machine`](Client::delete_machine) |
//! | instances | [`create`](Client::create), [`get`](Client::get), [`instances`](Client::instances), [`all_instances`](Client::all_instances), [`history`](Client::history), [`transition`](Client::transition), [`delete`](Client::delete), [`migrate`](Client::migrate) |
//! | several at once | [`transact`](Client::transact) |
//! | what changes | [`watch`](Client::watch) |
//! | sinks | [`sinks`](Client::sinks), [`check_sink`](Client::check_sink), [`reseed_sink`](Client::reseed_sink), [`dead_letters`](Client::dead_letters), [`all_dead_letters`](Client::all_dead_letters), [`replay_dead_letters`](Client::replay_dead_letters), [`discard_dead_letters`](Client::discard_dead_letters) |
//! | the cluster | [`status`](Client::status), [`statuses`](Client::statuses), [`leader`](Client::leader), [`view`](Client::view), [`prefer_leader`](Client::prefer_leader) |
//!
//! What an operator wants of a sink carries no key, for wanting it twice does no harm: there it is
//! [`Error::Unanswered`] when it may have been done.
//!
//! # Errors of every write
//!
//! [`Error::Rejected`] when the state machine refuses, [`Error::Unavailable`] when nothing was
//! executed, [`Error::OutcomeUnknown`] when it may have been, [`Error::Invalid`] when the request
//! breaks the rules.
//!
//! Everything runs inside a tokio runtime with IO and time enabled.

mod address;
mod answer;
mod builder;
mod call;
mod client;
mod cluster;
mod discover;
mod endpoints;
mod error;
mod fault;
mod freshness;
mod instances;
mod machines;
mod sinks;
mod transaction;
mod watch;
mod wire;
mod written;

pub use address::{Address, InvalidAddress};
pub use builder::{Builder, TIMEOUT_DEFAULT, TIMEOUT_MAX};
pub use client::Client;
pub use cluster::{Leader, Member, NodeStatus, Role};
pub use discover::{Discover, DiscoveryError};
pub use error::{Error, Rejected, Tried};
pub use fault::Fault;
pub use freshness::{Consistency, Freshness, Read};
pub use instances::{
    CreateCall, DeleteCall, History, Instance, InstancePage, Instances, ListCall, MigrateCall,
    TransitionCall,
};
pub use machines::{
    DefineCall, Defined, DeleteMachineCall, DrawCall, Machine, MachineSummary, Picture,
    PictureFormat, VersionSummary,
};
pub use sinks::{
    CHECK_PATIENCE_DEFAULT, CheckStep, DeadLetter, DeadLetterPage, DeadLetters, DeadLettersCall,
    Letters, SinkCheck, SinkList, SinkPhase, SinkStatus,
};
pub use transaction::Transaction;
pub use watch::{PATIENCE_DEFAULT, Watch, WatchCall, Watched};
pub use written::Written;

pub use lockstep_machine::{
    Cause, Created, Definition, DefinitionDeleted, Deleted, Event, EventCursor, EventKind,
    EventName, Expectation, GlobalRevision, IdempotencyKey, InstanceId, InvalidMetadata,
    InvalidName, MachineName, Metadata, Migrated, OperationResult, Revision, StateName, Timestamp,
    Transitioned, Trigger, Version,
};
