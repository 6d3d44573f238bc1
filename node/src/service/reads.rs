//! Reads: consistency levels and views of the state.

use std::time::{Duration, Instant};

use lockstep_machine::{GlobalRevision, State};

use super::{Service, ServiceError, View};

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began.
    #[default]
    Linearizable,
    /// What this node has applied.
    Stale,
}

/// How fresh a read must be, and its minimum revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    pub consistency: Consistency,
    /// The lowest acceptable revision of the cluster. Pass the revision of a write's answer to read
    /// your own writes on any node.
    pub min_revision: Option<GlobalRevision>,
}

impl Service {
    /// The state, as fresh as requested. Stale reads are refused while the node re-applies its log.
    pub async fn view(
        &self,
        freshness: Freshness,
        deadline: Duration,
    ) -> Result<View, ServiceError> {
        self.check_trust()?;
        match freshness.consistency {
            Consistency::Linearizable => self.core.confirm(deadline).await?,
            Consistency::Stale if self.lifecycle.is_starting() => {
                return Err(ServiceError::not_ready(&self.lifecycle));
            }
            Consistency::Stale => {}
        }
        if let Some(asked) = freshness.min_revision {
            self.reached(asked, asked, freshness.consistency, deadline)
                .await?;
        }
        let applied = self.core.shared().read();
        Ok(View {
            state: applied.state.clone(),
            applied_index: applied.index(),
        })
    }

    /// Reads the applied state. `look` blocks the task that applies entries, so it must be short.
    pub fn peek<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.core.shared().read().state)
    }

    /// Follows the last log index applied here.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.core.shared().changes()
    }

    /// Waits until this node has applied every write acknowledged before the call; on a leader, this
    /// also confirms that it still is the leader.
    pub async fn confirm(&self, deadline: Duration) -> Result<(), ServiceError> {
        self.check_trust()?;
        self.core.confirm(deadline).await
    }

    /// Checks that this node has applied revision `needed`, for a request that names `asked`. If not, the
    /// leader's read point distinguishes a node that lags from a revision that does not exist.
    pub(super) async fn reached(
        &self,
        needed: GlobalRevision,
        asked: GlobalRevision,
        consistency: Consistency,
        deadline: Duration,
    ) -> Result<(), ServiceError> {
        let revision = || self.core.shared().read().state.revision();
        if revision() >= needed {
            return Ok(());
        }
        let began = Instant::now();
        // A linearizable read has already confirmed the read point.
        if consistency == Consistency::Stale && self.core.confirm(deadline).await.is_err() {
            let (reached, waited) = (revision(), began.elapsed());
            return Err(ServiceError::Behind {
                asked,
                reached,
                waited,
            });
        }
        let reached = revision();
        if reached >= needed {
            Ok(())
        } else {
            Err(ServiceError::RevisionAhead { asked, reached })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_revision_that_does_not_exist_yet_is_refused_at_once() {
        let service = Service::lone(lockstep_machine::Limits::default());
        for consistency in [Consistency::Linearizable, Consistency::Stale] {
            let at = |revision| Freshness {
                consistency,
                min_revision: Some(GlobalRevision(revision)),
            };
            // An hour: the answer must not wait.
            let timeout = Duration::from_secs(3600);
            assert!(service.view(at(0), timeout).await.is_ok());
            let refused = service.view(at(1), timeout).await.err();
            let (asked, reached) = (GlobalRevision(1), GlobalRevision(0));
            let expected = ServiceError::RevisionAhead { asked, reached };
            assert_eq!(refused, Some(expected));
        }
    }
}
