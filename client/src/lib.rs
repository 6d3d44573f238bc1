//! The client library of Lockstep, the replicated finite-state-machine service.
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
//! // Every change of orders from here on.
//! let call = WatchCall::of(&defined.made.machine.parse()?).after(defined.cursor());
//! let mut watch = client.watch(call).await?;
//!
//! let order = "order/42".parse()?;
//! client.create(CreateCall::new(&order)).await?;
//! let paid = client.transition(TransitionCall::event(&order, "pay".parse()?)).await?;
//! println!("{order} is {} now", paid.made.to);
//!
//! // When its node is lost, the watch continues on another one.
//! while let Some(watched) = watch.next().await {
//!     if let Watched::Event(event) = watched? {
//!         println!("{:?} {}: {:?} -> {:?}", event.instance(), event.kind.name(), event.from, event.to);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How a call runs
//!
//! A call has one deadline, the client's timeout, however many nodes it tries. It starts with the node that
//! answered last, and moves on to the next if it does not answer; unless it is the only node left, an attempt gets
//! at most half of the remaining time. After a full round without an answer it pauses, repeats
//! [discovery](Discover) if there is any, and starts over. The remaining time is sent with each attempt
//! (`grpc-timeout`), so that nodes stop working on a request whose caller has given up. Any node answers any
//! request; nodes forward to the leader themselves.
//!
//! Requests are commands of the state machine ([`Call`]), and outcomes and events are its types. Read-only
//! data, such as a status or a rejection, is the protobuf message as it was sent.
//!
//! # What it guarantees
//!
//! - **Safe retries**: every write carries an idempotency key, the caller's or a random one.
//!   Sending it again after an unknown outcome never executes it twice.
//! - **Precise errors**: [`Error::Unavailable`] only when nothing was executed; otherwise
//!   [`Error::OutcomeUnknown`], with the key to repeat it with.
//! - **Watches without gaps**: each event once and in order, even when nodes are lost; or an error that says
//!   from which revision a watch can start.
//!
//! It does not guarantee fresh reads where the caller asks for [`Consistency::Stale`], nor that a
//! list over several [`Pages`] is one snapshot.
//!
//! # Calls
//!
//! | | |
//! |---|---|
//! | machines | [`define`](Client::define), [`machines`](Client::machines), [`machine`](Client::machine), [`draw`](Client::draw), [`delete_machine`](Client::delete_machine) |
//! | instances | [`create`](Client::create), [`get`](Client::get), [`instances`](Client::instances), [`all_instances`](Client::all_instances), [`history`](Client::history), [`transition`](Client::transition), [`delete`](Client::delete), [`migrate`](Client::migrate) |
//! | several at once | [`transact`](Client::transact), [`transition_stream`](Client::transition_stream) |
//! | changes | [`watch`](Client::watch) |
//! | sinks | [`sinks`](Client::sinks), [`sink`](Client::sink), [`check_sink`](Client::check_sink), [`reseed_sink`](Client::reseed_sink), [`dead_letters`](Client::dead_letters), [`all_dead_letters`](Client::all_dead_letters), [`replay_dead_letters`](Client::replay_dead_letters), [`discard_dead_letters`](Client::discard_dead_letters) |
//! | the cluster | [`status`](Client::status), [`statuses`](Client::statuses), [`leader`](Client::leader), [`view`](Client::view), [`prefer_leader`](Client::prefer_leader), [`settings`](Client::settings), [`update_settings`](Client::update_settings), [`backup`](Client::backup) |
//!
//! # Errors
//!
//! A read fails with [`Error::Rejected`] when what it names does not exist, and with [`Error::Unavailable`] when
//! no node could answer in time.
//!
//! A write fails with [`Error::Rejected`] when the state machine rejects it, with [`Error::Unavailable`] when
//! nothing was executed, with [`Error::OutcomeUnknown`] when it may have been executed, and with
//! [`Error::Invalid`] when the request is not valid. Changes to sinks carry no key, because repeating them is safe.
//!
//! Everything runs inside a tokio runtime with IO and time enabled.

mod address;
mod answer;
mod builder;
mod call;
mod client;
mod cluster;
mod dead_letters;
mod discover;
mod endpoints;
mod error;
mod freshness;
mod instances;
mod machines;
mod pages;
mod service;
mod setters;
mod settings;
mod sinks;
mod stream;
mod transaction;
mod transitions;
mod watch;
mod writes;

pub use address::{Address, InvalidAddress};
pub use builder::{Builder, TIMEOUT_DEFAULT, TIMEOUT_MAX};
pub use client::Client;
pub use cluster::{Backup, Leader};
pub use dead_letters::{DeadLetterPage, DeadLetters, DeadLettersCall};
pub use discover::{Discover, DiscoveryError};
pub use error::{Error, Rejected, Tried};
pub use freshness::{Freshness, Read};
pub use instances::{History, InstancePage, ListCall};
pub use machines::{DrawCall, Machine, Picture};
pub use pages::Pages;
pub use settings::UpdateSettingsCall;
pub use sinks::CHECK_TIMEOUT_DEFAULT;
pub use transaction::Transaction;
pub use transitions::TransitionStream;
pub use watch::{Watch, WatchCall, Watched};
pub use writes::{
    Call, CreateCall, DefineCall, DeleteCall, DeleteMachineCall, MigrateCall, TransitionCall,
    Written,
};

pub use lockstep_machine::{
    BackupHeader, Cause, Created, DeadLetter, Definition, DefinitionDeleted, Deleted, Event,
    EventCursor, EventKind, EventName, Expectation, GlobalRevision, IdempotencyKey, InstanceId,
    InstanceView as Instance, InvalidMetadata, InvalidName, MachineName, Metadata, Migrated,
    Operation, OperationResult, Revision, StateName, Timestamp, Transitioned, Trigger, Version,
};
pub use lockstep_proto::v1::change_members_request::Change as MemberChange;
pub use lockstep_proto::v1::{
    AddMember, ChangeMembersResponse as QuorumChange, CheckSinkResponse as SinkCheck, CheckStep,
    Consistency, Defined, Fault, ListSinksResponse as SinkList, MachineSummary, Member,
    MemberReport, PictureFormat, Role, SeedProgress, Settings, SinkPhase, SinkStatus, StateTimeout,
    StatusResponse as NodeStatus, VersionSummary,
};
