//! Planted bugs: a history may contain one, and must then fail. A bug that no history detects shows what the
//! simulation cannot see.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The disk acknowledges appends before it has flushed them.
    AppendAckedBeforeFlush,
    /// The disk acknowledges a vote before it has flushed it.
    VoteAckedBeforeFlush,
    /// The disk flushes and acknowledges the last of several writes before the others.
    WritesOutOfOrder,
    /// The disk acknowledges writes although their flush has failed.
    FlushErrorIgnored,
    /// A snapshot counts as current, and the log is purged up to it, before it is flushed.
    SnapshotNotFlushed,
    /// A disk that was full once stays full.
    DiskStaysFull,
    /// A restarted leader goes on leading in its old term.
    LeaderRestored,
    /// A node accepts entries of any term as if they were of its own.
    AppendTermIgnored,
    /// A follower reads without asking the leader for a read point.
    ReadWithoutLeader,
    /// A leader reads without asking a quorum whether it still leads.
    ReadWithoutQuorum,
    /// Each attempt to forward a request carries another request id, so that the table of executed requests
    /// recognises none.
    RequestIdPerAttempt,
    /// A forwarded request without an answer counts as not sent.
    LostForwardCountsAsRefused,
    /// Followers forward no request.
    ForwardsRefused,
    /// No leader promotes learners or completes interrupted membership changes.
    MembersNotKept,
    /// A removed node does not stop.
    RemovedNodeStays,
    /// A node whose disk was wiped returns under its old id.
    WipedDiskKeepsId,
    /// The maintenance loop does not run.
    TimeoutsNotProposed,
}
