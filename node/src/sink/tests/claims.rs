//! Claims.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_machine::{Command, IdempotencyKey, Reply, Timestamp};
use lockstep_raft::consensus::SharedState;

use super::harness::Harness;
use crate::service::{Core, Member, Role, Service, ServiceError, Standing};
use crate::sink::Phase;

/// A node that another one has succeeded as leader, which confirms its reads.
#[derive(Default)]
struct Deposed(SharedState);

#[async_trait]
impl Core for Deposed {
    async fn submit(
        &self,
        _: Command,
        _: Option<IdempotencyKey>,
        waited: Duration,
    ) -> Result<Reply, ServiceError> {
        Err(ServiceError::Unavailable { waited })
    }

    async fn confirm(&self, _: Duration) -> Result<(), ServiceError> {
        Ok(())
    }

    fn standing(&self) -> Standing {
        Standing {
            node_id: 1,
            term: 2,
            role: Role::Follower,
            ..Standing::default()
        }
    }

    fn shared(&self) -> &SharedState {
        &self.0
    }

    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
}

#[tokio::test]
async fn a_confirmation_by_the_next_leader_is_none() {
    let mut harness = Harness::new();
    let (cluster, member) = (Arc::default(), Member::default());
    harness.service = Arc::new(Service::new(
        Deposed::default(),
        cluster,
        1,
        member,
        Arc::default(),
    ));
    harness.lead(1);
    harness
        .until_status("it is not noticed", |status| {
            let reason = status.reason.as_deref().unwrap_or_default();
            reason.contains("no longer leads")
        })
        .await;
    assert_eq!(harness.destination.lock().term, 0, "it was claimed");
}

#[tokio::test]
async fn only_the_leader_writes_and_the_next_one_continues() {
    let mut harness = Harness::new();
    harness.lead(1);
    harness.create_all("a", 5).await;
    harness.caught_up().await;
    harness.lead.send_replace(None);
    harness
        .until_status("still running", |status| status.phase() == Phase::Elsewhere)
        .await;
    let before = harness.written();
    harness.create_all("b", 5).await;
    assert_eq!(harness.written(), before);
    harness.lead(3);
    harness.caught_up().await;
    assert_eq!(harness.written(), harness.events());
    let state = harness.destination.lock();
    assert_eq!(
        (state.repeated, state.backfills.len(), state.term),
        (0, 1, 3)
    );
}

#[tokio::test]
async fn a_later_term_fences_the_sink() {
    let mut harness = Harness::new();
    harness.destination.lock().term = 9;
    harness.lead(8);
    harness.create("a").await;
    harness
        .until_status("writes", |status| status.reason.is_some())
        .await;
    assert_eq!(harness.written(), []);
    assert!(harness.status().reason.unwrap().contains("term 9"));
}
