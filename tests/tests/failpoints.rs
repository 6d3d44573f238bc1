//! Each procedure is killed at each of its failpoints, and ends in the state that `docs/OPERATIONS.md` documents.

mod backup;
mod folders;
mod install;
mod members;

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_raft::failpoints::Failpoint;
use lockstep_tests::cluster::Node;
use lockstep_tests::program::{self, Ended};

/// For a run of a program, or for a node to reach its failpoint.
const RUN_DEADLINE: Duration = Duration::from_secs(30);
/// The environment variable that selects failpoints.
const FAILPOINTS: &str = "FAILPOINTS";

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Procedure {
    /// The leader, while a node joins.
    Add,
    /// The leader, while a member is removed.
    Remove,
    /// The leader, while a node that lost its disk takes its own place.
    Replace,
    /// A node that joins, and gets a snapshot.
    Install,
    /// A node that sends a backup.
    SendBackup,
    /// A node that writes a scheduled backup.
    ScheduledBackup,
    /// `lockstepd restore`.
    Restore,
    /// `lockstepd recover`.
    Recover,
    /// `lockstepd rejoin`.
    Rejoin,
}

/// What that leaves: the table of `docs/OPERATIONS.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing has changed. Repeat the command.
    Unchanged,
    /// No node starts in the folder, and its error names the command to repeat.
    Unfinished,
    /// The procedure is complete; only its report is lost.
    Complete,
    /// The cluster, or the node once it was started again, completes it.
    Resumed,
    /// The change was made or not: look at the members, and repeat the command.
    Unknown,
}

/// The procedures that reach a failpoint, and what each leaves when it is killed there.
const fn table(point: Failpoint) -> &'static [(Procedure, Left)] {
    use Failpoint as P;
    use Left::{Complete, Resumed, Unchanged, Unfinished, Unknown};
    use Procedure::{
        Add, Install, Recover, Rejoin, Remove, Replace, Restore, ScheduledBackup, SendBackup,
    };
    match point {
        P::MembershipChecked => &[(Add, Resumed), (Remove, Unchanged)],
        P::MembershipCaughtUp => &[(Add, Resumed), (Replace, Resumed)],
        P::MembershipJointAppended => &[(Add, Resumed), (Replace, Resumed), (Remove, Unknown)],
        P::MembershipJointApplied | P::MembershipFinalAppended | P::MembershipFinalApplied => {
            &[(Add, Resumed), (Replace, Resumed), (Remove, Resumed)]
        }
        P::MembershipChanged => &[(Add, Resumed), (Remove, Complete)],
        P::JoinNoted | P::InstallBegun | P::InstallReceived | P::InstallVerified => {
            &[(Install, Resumed)]
        }
        P::SnapshotFlushed | P::SnapshotChecked | P::SnapshotNamed | P::SnapshotCurrent => {
            &[(Install, Resumed), (Restore, Unfinished)]
        }
        P::BackupBegun | P::BackupBeforeEnd => &[(SendBackup, Unchanged)],
        P::BackupFileCreated | P::BackupFileFlushed | P::BackupFileNamed => {
            &[(ScheduledBackup, Resumed)]
        }
        P::FileWritten | P::FileReplaced => &[
            (Install, Resumed),
            (Restore, Unfinished),
            (Recover, Unfinished),
        ],
        P::DatabaseOpened => &[(Restore, Unfinished)],
        P::OfflineTaken => &[(Restore, Unchanged)],
        P::OfflineMarked | P::OfflineBegun | P::OfflineComplete => {
            &[(Restore, Unfinished), (Recover, Unfinished)]
        }
        P::OfflineFinished => &[(Restore, Complete), (Recover, Complete)],
        P::RestoreSnapshotWritten | P::RestoreVoteSaved => &[(Restore, Unfinished)],
        P::RecoverVoteSaved | P::RecoverAppended => &[(Recover, Unfinished)],
        P::DiscardIdentityRemoved => &[(Rejoin, Unfinished)],
        P::DiscardDataRemoved => &[(Rejoin, Complete)],
    }
}

/// The failpoints of a procedure. None in release builds, which have none.
fn points(procedure: Procedure) -> impl Iterator<Item = (Failpoint, Left)> {
    if !cfg!(debug_assertions) {
        println!("skipped: release builds have no failpoints");
    }
    let all = Failpoint::ALL.iter().filter(|_| cfg!(debug_assertions));
    all.filter_map(move |point| {
        let mut rows = table(*point).iter();
        let (_, left) = rows.find(|(it, _)| *it == procedure)?;
        Some((*point, *left))
    })
}

/// The value of `FAILPOINTS` that kills when `point` is reached after `skipped` times.
fn kill_at(point: Failpoint, skipped: u32) -> String {
    match skipped {
        0 => format!("{}=return", point.name()),
        skipped => format!("{}={skipped}*off->return", point.name()),
    }
}

/// Runs a command that is killed at a failpoint, or ends; whether it was killed.
async fn run_to(mut command: Command, point: Failpoint, skipped: u32) -> Result<(Ended, bool)> {
    command.env(FAILPOINTS, kill_at(point, skipped));
    let ended = program::run(command, RUN_DEADLINE).await?;
    let killed = ended.code.is_none();
    // It does not know that it dies.
    ensure!(!killed || ended.stdout.is_empty(), "{point:?}: {ended:?}");
    Ok((ended, killed))
}

/// Waits until a node is killed at its failpoint.
async fn wait_killed(node: &mut Node, point: Failpoint) -> Result<()> {
    let status = node.wait_ended(RUN_DEADLINE).await?;
    ensure!(
        status.signal() == Some(libc::SIGKILL),
        "{point:?}: {} ended with {status}",
        node.name
    );
    node.unset(FAILPOINTS);
    Ok(())
}

#[test]
fn every_failpoint_belongs_to_a_procedure() {
    for point in Failpoint::ALL {
        assert!(!table(*point).is_empty(), "{point:?}");
    }
}
