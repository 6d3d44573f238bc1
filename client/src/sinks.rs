//! Sinks, which copy the cluster's events to databases and webhooks.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::v1::{
    CheckSinkResponse as SinkCheck, ListSinksResponse as SinkList, SinkStatus,
};
use lockstep_proto::{ErrorCode, Malformed, v1};
use tokio::time::Instant;

use crate::builder::TIMEOUT_MAX;
use crate::call::{self, Effect};
use crate::client::Client;
use crate::endpoints::Slot;
use crate::error::Error;

/// How long a check may take unless the caller says otherwise: as long as a node allows.
pub const CHECK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

impl Client {
    /// Every sink that is configured, as the leader reports it; any node can be asked.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// for sink in client.sinks().await?.sinks {
    ///     println!("{} is {}, {} events behind", sink.name, sink.phase(), sink.lag_events);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn sinks(&self) -> Result<SinkList, Error> {
        self.ask(Effect::None, v1::ListSinksRequest {}, Ok).await
    }

    /// A sink, and the name of the node that runs it.
    ///
    /// # Errors
    /// [`Error::Rejected`] with `unknown_sink` and the names of those that are configured, and those
    /// of [`sinks`](Self::sinks).
    pub async fn sink(&self, name: &str) -> Result<(SinkStatus, String), Error> {
        let SinkList { mut sinks, node } = self.sinks().await?;
        match sinks.iter().position(|sink| sink.name == name) {
            Some(at) => Ok((sinks.swap_remove(at), node)),
            None => Err(Error::rejected(v1::Rejected {
                code: ErrorCode::UnknownSink.to_string(),
                message: format!("no sink {name:?} is configured on {node}"),
                known: sinks.into_iter().map(|sink| sink.name).collect(),
                ..Default::default()
            })),
        }
    }

    /// Makes a round trip through the destination of a sink, from the leader, in a table or
    /// collection of its own: inserts several, finds one, drops them. The sink is not disturbed.
    ///
    /// `timeout` replaces the client's: a destination may be slow. A node allows
    /// [`CHECK_TIMEOUT_DEFAULT`] at most.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::CHECK_TIMEOUT_DEFAULT;
    ///
    /// let check = client.check_sink("reports", CHECK_TIMEOUT_DEFAULT).await?;
    /// for step in &check.steps {
    ///     println!("{} took {} us: {:?}", step.step, step.took_us, step.outcome());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such sink, [`Error::Unavailable`] when no node could
    /// answer in time. A step that fails is no error:
    /// [`failed`](SinkCheck::failed) returns it.
    pub async fn check_sink(&self, sink: &str, timeout: Duration) -> Result<SinkCheck, Error> {
        let message = v1::CheckSinkRequest {
            sink: sink.to_owned(),
        };
        let checked = |check: SinkCheck| match check.steps.is_empty() {
            true => Err(Malformed::new("steps", "there are none").into()),
            false => Ok(check),
        };
        // One attempt has all the time there is: another node would only start the work again. A
        // lost node is noticed by its connection.
        let timeout = timeout.min(TIMEOUT_MAX);
        let deadline = Instant::now() + timeout;
        let once = async |slot: Arc<Slot>, _| {
            call::attempt(&slot, deadline, message.clone(), checked).await
        };
        call::run(&self.endpoints, timeout, Effect::None, once).await
    }

    /// Starts a backfill: the sink writes the current states of all instances again, as soon as
    /// its destination is available. [`sinks`](Self::sinks) shows the progress.
    pub async fn reseed_sink(&self, sink: &str) -> Result<(), Error> {
        let sink = sink.to_owned();
        let _: v1::SeedRequested = self.change(v1::ReseedSinkRequest { sink }).await?;
        Ok(())
    }
}
