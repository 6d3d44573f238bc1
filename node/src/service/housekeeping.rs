//! What the leader proposes by itself: timeouts that are due, and limits that its configuration
//! changes.
//!
//! Every node runs this; only the one that leads proposes. A proposal that comes late, twice or from
//! a leader that no longer is one does no harm: the state machine checks again when it applies.

use std::time::Duration;

use lockstep_machine::{Command, Limits};

use super::Router;
use crate::consensus::Runtime;
use crate::store::Storage;

/// Between two looks: the most that a timeout is late for want of a look.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Timeouts in one proposal at most; the next ones follow at once.
const EXPIRATIONS_MAX: usize = 1024;
/// For one proposal; what was not applied by then is proposed again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs until dropped.
pub async fn keep_house<RT: Runtime, S: Storage>(router: Router<RT, S>, limits: Limits) {
    loop {
        RT::sleep(LOOK_EVERY).await;
        let consensus = router.consensus();
        if consensus
            .leader()
            .is_none_or(|(leader, _)| leader != consensus.node_id())
        {
            continue;
        }
        let wanted = {
            let applied = consensus.state().read();
            let due = applied.state.due(consensus.now(), EXPIRATIONS_MAX);
            if applied.state.limits() != limits {
                Some(Command::Configure(Box::new(limits)))
            } else if due.is_empty() {
                None
            } else {
                Some(Command::Expire(due))
            }
        };
        if let Some(command) = wanted {
            // A failure is seen again at the next look.
            drop(router.submit(command, None, PATIENCE).await);
        }
    }
}
