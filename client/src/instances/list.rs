//! Listing instances, a page at a time.

use lockstep_machine::{MachineName, StateName};
use lockstep_proto::v1;

use super::get::Instance;
use super::pages::Instances;
use crate::client::Client;
use crate::error::Error;
use crate::freshness::{Freshness, Read};

/// Which instances to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListCall {
    machine: MachineName,
    state: Option<StateName>,
    prefix: String,
    label: Option<(String, String)>,
    limit: Option<u32>,
    cursor: Option<String>,
    freshness: Freshness,
}

impl ListCall {
    /// Those of a machine.
    pub fn of(machine: &MachineName) -> Self {
        Self {
            machine: machine.clone(),
            state: None,
            prefix: String::new(),
            label: None,
            limit: None,
            cursor: None,
            freshness: Freshness::default(),
        }
    }

    /// Only those in this state.
    pub fn state(mut self, state: StateName) -> Self {
        self.state = Some(state);
        self
    }

    /// Only those whose name starts like this.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Only those with this entry in their metadata.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.label = Some((key.into(), value.into()));
        self
    }

    /// Instances on a page at most, 1 to 1000; 100 without it.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Begin where an earlier page ended: its [`next_cursor`](InstancePage::next_cursor). The
    /// machine, state, prefix and label must be the same.
    pub fn cursor(mut self, cursor: impl Into<String>) -> Self {
        self.cursor = Some(cursor.into());
        self
    }

    /// Not older than this; linearizable without it.
    pub fn freshness(mut self, freshness: impl Into<Freshness>) -> Self {
        self.freshness = freshness.into();
        self
    }

    /// The call for the page that follows one with this answer, which shows nothing older. None
    /// after the last page.
    pub fn following(mut self, page: &Read<InstancePage>) -> Option<Self> {
        self.cursor = Some(page.found.next_cursor.clone()?);
        self.freshness = self.freshness.not_before(page.revision);
        Some(self)
    }

    fn to_message(&self) -> v1::ListInstancesRequest {
        let label = |(key, value): &(String, String)| v1::Label {
            key: key.clone(),
            value: value.clone(),
        };
        v1::ListInstancesRequest {
            machine: self.machine.to_string(),
            state: self.state.as_ref().map(ToString::to_string),
            prefix: self.prefix.clone(),
            label: self.label.as_ref().map(label),
            limit: self.limit,
            cursor: self.cursor.clone(),
            freshness: Some(self.freshness.to_message()),
        }
    }
}

/// A page of a list, in order of id.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InstancePage {
    /// The instances.
    pub instances: Vec<Instance>,
    /// Where the next page starts; none on the last. A page may be short, or empty, and still have
    /// a next one.
    pub next_cursor: Option<String>,
    /// How many instances the machine has, in the state asked for if there is one.
    pub total: u64,
}

impl Client {
    /// A page of a machine's instances.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such machine, [`Error::Invalid`] when the limit or the
    /// cursor is none, [`Error::Unavailable`] when no node could answer in time.
    pub async fn instances(&self, call: &ListCall) -> Result<Read<InstancePage>, Error> {
        self.read(call.to_message(), |answer| {
            let instances = answer.instances.into_iter().map(Instance::try_from);
            let page = InstancePage {
                instances: instances.collect::<Result<_, _>>()?,
                next_cursor: answer.next_cursor,
                total: answer.total,
            };
            Read::new(page, answer.read_at)
        })
        .await
    }

    /// All instances that the call asks for, page after page as they are taken.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::ListCall;
    ///
    /// let mut orders = client.all_instances(ListCall::of(&"order".parse()?).label("by", "ada"));
    /// while let Some(order) = orders.next().await {
    ///     println!("{}", order?.id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn all_instances(&self, call: ListCall) -> Instances {
        Instances::new(self.clone(), call)
    }
}
