//! Reading instances.

use lockstep_machine::{
    Event, InstanceId, InstanceView as Instance, MachineName, Revision, StateName,
};
use lockstep_proto::{Malformed, v1};
use serde::Serialize;

use crate::client::{Client, required};
use crate::error::Error;
use crate::freshness::{Freshness, Read};
use crate::pages::{Pages, pages};
use crate::setters::setters;

/// The last changes of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct History {
    /// The instance.
    #[serde(rename = "id")]
    pub instance: InstanceId,
    /// The revision it is at.
    pub instance_revision: Revision,
    /// The oldest of its revisions whose change is remembered; none if no change is.
    pub oldest_revision: Option<Revision>,
    /// Its changes, oldest first, without a gap.
    pub events: Vec<Event>,
}

/// Which instances to list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListCall(v1::ListInstancesRequest);

impl ListCall {
    /// Those of a machine.
    pub fn of(machine: &MachineName) -> Self {
        Self(v1::ListInstancesRequest {
            machine: machine.to_string(),
            ..Default::default()
        })
    }

    /// Only those with this entry in their metadata.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), value.into());
        self.0.label = Some(v1::Label { key, value });
        self
    }

    /// The call for the page that follows this one, and is not older. None after the last page.
    pub fn following(mut self, page: &Read<InstancePage>) -> Option<Self> {
        self.0.cursor = Some(page.found.next_cursor.clone()?);
        let freshness = self.0.freshness.get_or_insert_default();
        freshness.min_revision = freshness.min_revision.max(Some(page.revision.0));
        Some(self)
    }
}

setters! {
    [ListCall].0 {
        /// Only those in this state.
        state: StateName => Some(state.to_string()),
        /// Only those whose name starts with this.
        prefix: impl Into<String> => prefix.into(),
        /// The most instances on a page, 1 to 1000; 100 without it.
        limit: u32 => Some(limit),
        /// Start where an earlier page ended: its [`next_cursor`](InstancePage::next_cursor). The
        /// machine, state, prefix and label must be the same.
        cursor: impl Into<String> => Some(cursor.into()),
        /// How fresh the answer must be; linearizable without it.
        freshness: impl Into<Freshness> => Some(freshness.into().into()),
    }
}

/// A page of a list, in order of id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstancePage {
    /// The instances.
    pub instances: Vec<Instance>,
    /// Where the next page starts; none on the last. A page may be short, or empty, and still have
    /// a next one.
    pub next_cursor: Option<String>,
    /// The number of instances of the machine, in the requested state if there is one.
    pub total: u64,
}

impl Client {
    /// An instance, and the states it may go to.
    pub async fn get(
        &self,
        instance: &InstanceId,
        freshness: impl Into<Freshness>,
    ) -> Result<Read<Instance>, Error> {
        let request = v1::GetInstanceRequest {
            id: instance.to_string(),
            freshness: Some(freshness.into().into()),
        };
        self.read(request, |answer| {
            let found = required("instance", answer.instance)?;
            Ok((found.try_into()?, answer.read_at))
        })
        .await
    }

    /// The last changes of an instance.
    pub async fn history(
        &self,
        instance: &InstanceId,
        freshness: impl Into<Freshness>,
    ) -> Result<Read<History>, Error> {
        let request = v1::GetHistoryRequest {
            id: instance.to_string(),
            freshness: Some(freshness.into().into()),
        };
        self.read(request, |answer| {
            let events = answer.events.into_iter().map(TryInto::try_into);
            let history = History {
                instance: answer
                    .id
                    .parse()
                    .map_err(|fault| Malformed::new("id", fault))?,
                instance_revision: Revision(answer.instance_revision),
                oldest_revision: answer.oldest_revision.map(Revision),
                events: events.collect::<Result<_, _>>()?,
            };
            Ok((history, answer.read_at))
        })
        .await
    }

    /// A page of a machine's instances.
    ///
    /// # Errors
    /// Those of every read, and [`Error::Invalid`] when the limit or the cursor is not valid.
    pub async fn instances(&self, call: &ListCall) -> Result<Read<InstancePage>, Error> {
        self.read(call.0.clone(), |answer| {
            let instances = answer.instances.into_iter().map(TryInto::try_into);
            let page = InstancePage {
                instances: instances.collect::<Result<_, _>>()?,
                next_cursor: answer.next_cursor,
                total: answer.total,
            };
            Ok((page, answer.read_at))
        })
        .await
    }

    /// All instances that the call asks for, in order of id, page after page as they are taken.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use futures::StreamExt;
    /// use lockstep_client::ListCall;
    ///
    /// let mut orders = client.all_instances(ListCall::of(&"order".parse()?).label("by", "ada"));
    /// while let Some(order) = orders.next().await {
    ///     println!("{}", order?.id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn all_instances(&self, call: ListCall) -> Pages<Instance> {
        pages(self, call, async |client, call: ListCall| {
            let page = client.instances(&call).await?;
            let next = call.following(&page);
            Ok((page.found.instances, next))
        })
    }
}
