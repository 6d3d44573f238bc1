//! The simulation detects each planted bug, by a symptom that this bug must have.

use super::bugs::Bug;
use super::history::history;
use super::seeds::{self, End};

/// A planted bug must be detected within this many histories.
const HISTORIES_MAX: u64 = 40;

/// Whether the members change in the histories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Members {
    Stay,
    Change,
}

/// Runs histories with a bug until one fails: it must fail with one of these symptoms.
fn must_detect(bug: Bug, members: Members, symptoms: &[&str]) {
    let changes = members == Members::Change;
    let found = (1..=HISTORIES_MAX).find_map(|seed| {
        match seeds::run(seed, || history(changes, Some(bug))) {
            End::Failed(what) => Some((seed, what)),
            End::Held(_) | End::Void(_) => None,
        }
    });
    let Some((seed, what)) = found else {
        panic!("none of {HISTORIES_MAX} histories detected {bug:?}");
    };
    println!("{bug:?} was detected in history {seed}: {what}");
    assert!(
        symptoms.iter().any(|symptom| what.contains(symptom)),
        "{bug:?} has another symptom than {symptoms:?}: {what}"
    );
}

/// What shows that nodes applied different logs, or that one lost a part of its log.
const DIVERGED: &[&str] = &[
    "differ",
    "another as",
    "begins in",
    "both led in term",
    "the cluster ended at revision",
    // openraft's own checks.
    "log entry not found",
    "log reversion is not allowed",
    // The log has a gap.
    "Failed to get log entries",
    "sm/worker.rs",
    // A leader received entries in its own term.
    "self.leader.is_none()",
];

#[test]
fn an_append_acknowledged_before_its_flush_is_detected() {
    must_detect(Bug::AppendAckedBeforeFlush, Members::Stay, DIVERGED);
}

#[test]
fn a_vote_acknowledged_before_its_flush_is_detected() {
    // The vote may also be older than an entry that the node took after it.
    let went_back = &["both led in term", "must GE last_leader_log_ids"];
    must_detect(Bug::VoteAckedBeforeFlush, Members::Stay, went_back);
}

#[test]
fn writes_completed_out_of_order_are_detected() {
    must_detect(Bug::WritesOutOfOrder, Members::Stay, DIVERGED);
}

#[test]
fn a_failed_flush_that_is_acknowledged_is_detected() {
    // A node that lost entries which it had acknowledged may also never catch up.
    let symptoms = [DIVERGED, &["serves no writes"]].concat();
    must_detect(Bug::FlushErrorIgnored, Members::Stay, &symptoms);
}

#[test]
fn a_log_purged_before_its_snapshot_is_flushed_is_detected() {
    must_detect(Bug::SnapshotNotFlushed, Members::Stay, &["did not start"]);
}

#[test]
fn a_disk_that_does_not_heal_is_detected() {
    must_detect(Bug::DiskStaysFull, Members::Stay, &["serves no writes"]);
}

#[test]
fn a_leader_that_restarts_in_its_old_term_is_detected() {
    // Where two entries have the same position, a read may also find the other one.
    let symptoms = [DIVERGED, &["a read on node"]].concat();
    must_detect(Bug::LeaderRestored, Members::Stay, &symptoms);
}

#[test]
fn entries_accepted_from_an_old_term_are_detected() {
    must_detect(Bug::AppendTermIgnored, Members::Stay, DIVERGED);
}

#[test]
fn a_follower_that_reads_without_asking_the_leader_is_detected() {
    must_detect(Bug::ReadWithoutLeader, Members::Stay, &["a read on node"]);
}

#[test]
fn a_leader_that_reads_without_asking_a_quorum_is_detected() {
    must_detect(Bug::ReadWithoutQuorum, Members::Stay, &["a read on node"]);
}

#[test]
fn a_request_with_another_id_per_attempt_is_detected() {
    // Where the repetition is rejected, its client is answered so.
    let twice = &["was executed twice", "was answered as not executed"];
    must_detect(Bug::RequestIdPerAttempt, Members::Stay, twice);
}

#[test]
fn a_refusal_of_a_request_that_may_have_been_executed_is_detected() {
    let executed = &["was answered as not executed"];
    must_detect(Bug::LostForwardCountsAsRefused, Members::Stay, executed);
}

#[test]
fn a_node_that_serves_reads_but_no_writes_after_the_faults_is_detected() {
    must_detect(Bug::ForwardsRefused, Members::Stay, &["serves no writes"]);
}

#[test]
fn a_membership_change_that_no_leader_completes_is_detected() {
    let incomplete = &["a membership change is not complete"];
    must_detect(Bug::MembersNotKept, Members::Change, incomplete);
}

#[test]
fn a_removed_node_that_does_not_stop_is_detected() {
    let runs = &["and other nodes run"];
    must_detect(Bug::RemovedNodeStays, Members::Change, runs);
}

#[test]
fn a_wiped_disk_under_its_old_id_is_detected() {
    must_detect(Bug::WipedDiskKeepsId, Members::Change, DIVERGED);
}

#[test]
fn timeouts_that_are_not_proposed_are_detected() {
    must_detect(Bug::TimeoutsNotProposed, Members::Stay, &["did not fire"]);
}
