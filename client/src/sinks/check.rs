//! A round trip through the far side of a sink.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::v1;
use tokio::time::Instant;

use crate::answer::{Verdict, judge};
use crate::builder::TIMEOUT_MAX;
use crate::call::{self, Attempt, Effect};
use crate::client::Client;
use crate::endpoints::Slot;
use crate::error::Error;
use crate::wire::Unreadable;
use crate::wire::unary::Unary;

/// How long a check may take, unless the caller says otherwise: as long as any node lets it.
pub const CHECK_PATIENCE_DEFAULT: Duration = Duration::from_secs(60);

/// A round trip through the far side of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkCheck {
    /// In order; nothing follows a step that failed.
    pub steps: Vec<CheckStep>,
    /// The node that went through the far side.
    pub node: String,
}

impl SinkCheck {
    /// The step that failed; none if all were done.
    pub fn failed(&self) -> Option<&CheckStep> {
        self.steps.iter().find(|step| step.result.is_err())
    }
}

/// One step of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckStep {
    /// What was done, in a few words: `connect`, `insert 3`, `find one`, `drop`.
    pub step: String,
    /// How long it took.
    pub took: Duration,
    /// What was seen, or what went wrong.
    pub result: Result<String, String>,
}

impl TryFrom<v1::CheckStep> for CheckStep {
    type Error = Unreadable;

    fn try_from(wire: v1::CheckStep) -> Result<Self, Unreadable> {
        use v1::check_step::Result as Wire;
        Ok(Self {
            step: wire.step,
            took: Duration::from_micros(wire.took_us),
            result: match wire.result.ok_or("a step does not say what came of it")? {
                Wire::Seen(seen) => Ok(seen),
                Wire::Failed(failed) => Err(failed),
            },
        })
    }
}

impl TryFrom<v1::CheckSinkResponse> for SinkCheck {
    type Error = Unreadable;

    fn try_from(wire: v1::CheckSinkResponse) -> Result<Self, Unreadable> {
        if wire.steps.is_empty() {
            return Err("a check without a step".to_owned());
        }
        let steps = wire.steps.into_iter().map(CheckStep::try_from);
        Ok(Self {
            steps: steps.collect::<Result<_, _>>()?,
            node: wire.node,
        })
    }
}

impl Client {
    /// Goes through the far side of a sink, from the leader, in a place of its own: inserts several,
    /// finds one, drops the place. What the sink does meanwhile is not disturbed.
    ///
    /// `patience` stands in for the client's timeout: a far side may be slow. No node lets it take
    /// longer than [`CHECK_PATIENCE_DEFAULT`].
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::CHECK_PATIENCE_DEFAULT;
    ///
    /// let check = client.check_sink("reports", CHECK_PATIENCE_DEFAULT).await?;
    /// for step in &check.steps {
    ///     println!("{} took {:?}: {:?}", step.step, step.took, step.result);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such sink, [`Error::Unavailable`] when no node could
    /// answer in time. A step that fails is no error: [`SinkCheck::failed`] is that step.
    pub async fn check_sink(&self, sink: &str, patience: Duration) -> Result<SinkCheck, Error> {
        let message = v1::CheckSinkRequest {
            sink: sink.to_owned(),
        };
        let send = async |attempt: Attempt| {
            let request = attempt.request(message.clone());
            let answer = Unary::send(request, attempt.channel).await.map_err(judge)?;
            SinkCheck::try_from(answer.into_inner()).map_err(Verdict::BadAnswer)
        };
        // One attempt has all the time there is: the work is the far side's, and would only begin
        // again on another node. One that is lost is noticed by its connection.
        let patience = patience.min(TIMEOUT_MAX);
        let deadline = Instant::now() + patience;
        let once = async |slot: Arc<Slot>, _| {
            let left = deadline.saturating_duration_since(Instant::now());
            call::attempt(&slot, left, &send).await
        };
        call::run_each(&self.endpoints, patience, Effect::None, once).await
    }
}
