//! Checks that the nodes of a cluster agree, whether they run as processes or in containers.

use anyhow::{Context, Result, ensure};

use crate::cluster::READY_DEADLINE;
use crate::http::Api;
use crate::wait::wait_for;

/// Waits until these nodes agree on one leader among them; returns its position.
pub async fn one_leader(nodes: &[Api]) -> Result<usize> {
    wait_for(
        "one leader that all running nodes agree on",
        READY_DEADLINE,
        async || {
            let mut views = Vec::new();
            for node in nodes {
                views.push(node.cluster().await?);
            }
            let position = views
                .iter()
                .position(|view| view.leads())
                .context("none leads")?;
            let leader = &views[position];
            for view in &views {
                ensure!(
                    (view.leader_id, view.term) == (Some(leader.node_id), leader.term),
                    "{} says that {:?} leads in term {}, but {} leads in term {}",
                    view.node,
                    view.leader_id,
                    view.term,
                    leader.node,
                    leader.term
                );
            }
            Ok(position)
        },
    )
    .await
}

/// Waits until these nodes have applied the same and hold the same state.
pub async fn equal_states(nodes: &[Api]) -> Result<()> {
    wait_for("equal state hashes", READY_DEADLINE, async || {
        let mut states = Vec::new();
        for node in nodes {
            states.push(node.state_hash().await?);
        }
        let applied = states[0].0;
        ensure!(
            states.iter().all(|(index, _)| *index == applied),
            "not at one position: {states:?}"
        );
        // At one position, states that differ do not become equal.
        assert!(
            states.iter().all(|state| *state == states[0]),
            "the nodes have diverged: {states:?}"
        );
        Ok(())
    })
    .await
}
