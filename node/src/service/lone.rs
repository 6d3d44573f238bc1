//! A service without a cluster, for tests of the interfaces: a command is applied at once, to a state in
//! memory.

use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_machine::{Batch, Limits, Origin, Request, SessionId, State, Timestamp};

use super::*;

struct Lone {
    shared: SharedState,
    sequence: AtomicU64,
}

impl Service {
    /// A service over the state that every cluster begins with, under `limits`.
    pub(crate) fn lone(limits: Limits) -> Self {
        let shared = SharedState::default();
        shared.change_for_test(|state| *state = State::new(limits));
        let core = Lone {
            shared,
            sequence: AtomicU64::new(0),
        };
        let member = Member {
            name: "node1".to_owned(),
            grpc_address: "127.0.0.1:4333".to_owned(),
            http_address: "127.0.0.1:3333".to_owned(),
            learner: false,
        };
        let lifecycle = Arc::<Lifecycle>::default();
        lifecycle.enter(Phase::Serving);
        Self::new(core, ClusterTag::default(), 1, member, lifecycle)
    }
}

#[async_trait]
impl Core for Lone {
    async fn submit(
        &self,
        command: Command,
        key: Option<IdempotencyKey>,
        _: Duration,
    ) -> Result<Reply, ServiceError> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        let origin = Origin {
            session: SessionId(1),
            sequence,
            answered_below: sequence,
        };
        let batch = Batch {
            stamp: Timestamp(1_700_000_000_000 + sequence),
            requests: vec![Request {
                origin,
                key,
                command,
            }],
        };
        let mut replies = vec![];
        self.shared
            .change_for_test(|state| replies = state.apply(&batch));
        Ok(replies.remove(0))
    }

    async fn confirm(&self, _: Duration) -> Result<(), ServiceError> {
        Ok(())
    }

    fn standing(&self) -> Standing {
        Standing {
            node_id: 1,
            term: 1,
            role: Role::Leader,
            ..Standing::default()
        }
    }

    fn shared(&self) -> &SharedState {
        &self.shared
    }

    fn now(&self) -> Timestamp {
        self.shared.read().state.now()
    }
}
