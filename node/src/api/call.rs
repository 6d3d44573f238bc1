//! One request to the service, whichever interface took it in.

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{Command, IdempotencyKey, OperationResult, Outcome, Reply};
use lockstep_proto::{ErrorCode, v1};
use lockstep_raft::Deadline;
use openraft_rt_tokio::TokioRuntime;

use super::Edge;
use super::problem::Problem;
use crate::service::{Freshness, Role, ServiceError, View};
use crate::sink::Hop;
use crate::telemetry::{Report, build};

/// A request: when it must be answered, and who sent it.
pub(super) struct Call {
    pub(super) edge: Arc<Edge>,
    /// Whether it comes from a caller or from another node.
    pub(super) hop: Hop,
    deadline: Deadline<TokioRuntime>,
}

impl Call {
    /// A caller's request, to be answered within `timeout`.
    pub(super) fn within(edge: &Arc<Edge>, timeout: Duration) -> Self {
        Self {
            edge: edge.clone(),
            hop: Hop::First,
            deadline: Deadline::after(timeout),
        }
    }

    pub(super) fn left(&self) -> Duration {
        self.deadline.left()
    }

    pub(super) async fn execute(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
    ) -> Result<Reply, ServiceError> {
        let service = &self.edge.service;
        let reply = service.execute(command, key, self.left()).await?;
        count_transitions(&self.edge.report, &reply);
        Ok(reply)
    }

    /// Executes a command, and answers in the form of the interface.
    pub(super) async fn write<A: TryFrom<Reply>>(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
    ) -> Result<A, Problem>
    where
        Problem: From<A::Error>,
    {
        Ok(self.execute(command, key).await?.try_into()?)
    }

    /// Answers what a command would come to now.
    pub(super) async fn dry_run<A: TryFrom<Reply>>(&self, command: &Command) -> Result<A, Problem>
    where
        Problem: From<A::Error>,
    {
        let reply = self.edge.service.dry_run(command, self.left()).await?;
        Ok(reply.try_into()?)
    }

    pub(super) async fn view(&self, freshness: Freshness) -> Result<View, Problem> {
        Ok(self.edge.service.view(freshness, self.left()).await?)
    }

    /// Every machine, with how many instances it has.
    pub(super) async fn machines(
        &self,
        freshness: Freshness,
    ) -> Result<v1::ListMachinesResponse, Problem> {
        let view = self.view(freshness).await?;
        let machines = view.state.machines().map(|(name, version, definition)| {
            let totals = view.state.totals(name).unwrap_or_default();
            v1::MachineSummary::of(name, version, definition, &totals)
        });
        Ok(v1::ListMachinesResponse {
            machines: machines.collect(),
            read_at: Some(read_at(&view)),
        })
    }

    /// The cluster as this node sees it, with the hash of the state if wanted. A hash belongs to the log
    /// index it was taken at, which then is the answer's `applied_index`.
    pub(super) async fn status(&self, with_hash: bool) -> Result<v1::StatusResponse, Problem> {
        let service = &self.edge.service;
        let hash = match with_hash {
            true => Some(self.state_hash().await?),
            false => None,
        };
        let status = service.status();
        let standing = status.standing;
        let (applied_index, state_hash) = match hash {
            Some((index, hash)) => (index, Some(hash)),
            None => (standing.applied_index, None),
        };
        let role = match standing.role {
            Role::Leader => v1::Role::Leader,
            Role::Follower => v1::Role::Follower,
            Role::Candidate => v1::Role::Candidate,
            Role::Learner => v1::Role::Learner,
        };
        let uptime = self.edge.started.elapsed();
        Ok(v1::StatusResponse {
            cluster_id: status.cluster_id,
            node: Some(status.node.into()),
            version: build::version().to_owned(),
            build_date: build::build_date().to_owned(),
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            role: role.into(),
            term: standing.term,
            leader_id: standing.leader.map(|(id, _)| id),
            leader_contact_ms: standing.leader_contact.map(|it| it.as_millis() as u64),
            members: standing.members.into_iter().map(Into::into).collect(),
            log_first_index: standing.log_first_index,
            log_last_index: standing.log_last_index,
            committed_index: standing.committed_index,
            applied_index,
            snapshot_index: standing.snapshot_index,
            state_hash,
            feature_level: status.feature_level.get(),
            feature_level_waits_for: status.feature_level_waits_for,
        })
    }

    async fn state_hash(&self) -> Result<(u64, String), Problem> {
        let timeout = self.left();
        let hashed = tokio::time::timeout(timeout, self.edge.service.state_hash()).await;
        hashed.map_err(|_| {
            let detail = format!("the state was not hashed within {} ms", timeout.as_millis());
            Problem::new(ErrorCode::StateHashTimeout, detail).retry_after(Duration::from_secs(1))
        })
    }
}

pub(super) fn read_at(view: &View) -> v1::ReadAt {
    v1::ReadAt {
        applied_index: view.applied_index,
        revision: view.state.revision().0,
    }
}

/// Counts the transitions that this node executed for its clients.
fn count_transitions(report: &Report, reply: &Reply) {
    if reply.replayed {
        return;
    }
    let made = match &reply.outcome {
        Outcome::Transitioned(_) => 1,
        Outcome::Committed(results) => {
            let moved = |it: &&OperationResult| matches!(it, OperationResult::Transitioned(_));
            results.iter().filter(moved).count() as u64
        }
        _ => return,
    };
    report.transitions.add(made);
}
