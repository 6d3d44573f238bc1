//! How fresh a read must be, and how fresh its answer is.

use lockstep_machine::{EventCursor, GlobalRevision};
use lockstep_proto::v1;
use lockstep_proto::v1::Consistency;

/// What a read may not be older than.
///
/// Every read takes one, and a [`Consistency`] alone will do:
///
/// ```no_run
/// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
/// use lockstep_client::{Consistency, CreateCall, Freshness};
///
/// let created = client.create(CreateCall::of(&"order".parse()?)).await?;
/// // From any node, without asking the leader, and yet never from before the order was created.
/// let freshness = Freshness::from(Consistency::Stale).min_revision(created.revision);
/// let read = client.get(&created.made.instance, freshness).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness(v1::Freshness);

impl Freshness {
    /// Wait until the node that answers has applied this revision of the cluster.
    pub fn min_revision(mut self, revision: GlobalRevision) -> Self {
        self.0.min_revision = Some(revision.0);
        self
    }
}

impl From<Freshness> for v1::Freshness {
    fn from(it: Freshness) -> Self {
        it.0
    }
}

impl From<Consistency> for Freshness {
    fn from(consistency: Consistency) -> Self {
        let mut freshness = v1::Freshness::default();
        freshness.set_consistency(consistency);
        Self(freshness)
    }
}

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<T> {
    /// What was requested.
    pub found: T,
    /// The last log index applied by the node that answered.
    pub applied_index: u64,
    /// The cluster's revision that the answer shows.
    pub revision: GlobalRevision,
}

impl<T> Read<T> {
    /// The cursor after which a watch continues the answer: nothing is missed or repeated.
    pub fn cursor(&self) -> EventCursor {
        EventCursor::after(self.revision)
    }
}
