//! A cluster, a system that its sink writes into, and what is compared between the two.

pub mod matrix;
mod mongo;
mod postgres;
mod stage;
mod traffic;
mod webhook;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;

pub use mongo::Documents;
pub use postgres::Database;
pub use stage::Stage;
pub use traffic::Traffic;
pub use webhook::Webhook;

/// A system that a sink writes into, as the tests treat it.
///
/// The cluster reaches it over a [`Cable`](crate::cable::Cable).
#[allow(async_fn_in_trait)] // The tests call it from their own thread.
pub trait Destination {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// The settings of a sink named `far` that reaches it at `through`.
    fn settings(&self, through: SocketAddr) -> Vec<(&'static str, String)>;

    /// Kills it as a power failure of its machine would.
    async fn kill9(&mut self) -> Result<()>;

    /// Starts it again.
    async fn start(&mut self) -> Result<()>;

    /// Stops it from answering, with its connections left open.
    async fn pause(&mut self) -> Result<()>;

    /// Lets it go on.
    async fn resume(&mut self) -> Result<()>;

    /// Keeps all that it holds, for [`restore`](Self::restore).
    async fn save(&mut self) -> Result<()>;

    /// Puts back what was saved.
    async fn restore(&mut self) -> Result<()>;

    /// Rejects from now on whatever is about this instance (`machine/name`).
    async fn reject(&mut self, instance: &str) -> Result<()>;

    /// Rejects nothing any more.
    async fn accept(&mut self) -> Result<()>;

    /// Rejects the sink's credentials.
    async fn lock_out(&mut self) -> Result<()>;

    /// Accepts them again.
    async fn let_in(&mut self) -> Result<()>;

    /// Leaves it without room for more.
    async fn fill(&mut self) -> Result<()>;

    /// Gives it room again.
    async fn make_room(&mut self) -> Result<()>;

    /// All its events, in order of cursor. Fails if there is a duplicate, or if events of an instance arrived out
    /// of order.
    async fn history(&mut self) -> Result<Vec<Written>>;

    /// The revision after which its history is complete. Events up to it may be missing.
    fn complete_behind(&self) -> u64 {
        0
    }

    /// The current states that it holds.
    async fn states(&mut self) -> Result<States>;
}

/// By instance (`machine/name`): its state, and its revision.
pub type States = BTreeMap<String, (String, u64)>;

/// An event, as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The cluster's revision, and the place in it.
    pub place: (u64, u32),
    /// `created`, `transitioned`, ...
    pub kind: String,
    /// The machine.
    pub machine: String,
    /// The instance's name; none for an event of a definition.
    pub instance: Option<String>,
    /// The state it left.
    pub from: Option<String>,
    /// The state it entered.
    pub to: Option<String>,
    /// The instance's revision.
    pub instance_revision: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The metadata of the request.
    pub metadata: BTreeMap<String, String>,
}
