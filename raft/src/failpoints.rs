//! Failpoints: places at which a test kills the process, as SIGKILL from outside would.
//!
//! A failpoint is a step after which a crash leaves something to complete, to repeat or to refuse. In debug builds,
//! the environment variable `FAILPOINTS` selects them, in the syntax of the crate `fail`: `recover::vote_saved=return`
//! kills at the first time, `file::written=2*off->return` at the third. In release builds, [`reach`] is empty,
//! and `fail` is not linked.
//!
//! `tests/tests/failpoints.rs` kills each procedure at each of its failpoints. It matches on [`Failpoint`], so a
//! failpoint without a test does not compile.

/// Defines the failpoints, their names, and the list of them.
macro_rules! failpoints {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A place at which a test can kill the process.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Failpoint {
            $($(#[$doc])* $point,)*
        }

        impl Failpoint {
            /// All of them.
            pub const ALL: &[Failpoint] = &[$(Failpoint::$point,)*];

            /// The name in `FAILPOINTS`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Failpoint::$point => $name,)*
                }
            }
        }
    };
}

failpoints! {
    /// The leader has checked a change of the members that was asked for, and has not proposed it.
    MembershipChecked = "membership::checked",
    /// A learner has caught up, and the leader has not proposed its promotion.
    MembershipCaughtUp = "membership::caught_up",
    /// A joint membership is in the log here, perhaps not flushed and not on any other node.
    MembershipJointAppended = "membership::joint_appended",
    /// A joint membership that was proposed here is committed, and the final one has not been proposed.
    MembershipJointApplied = "membership::joint_applied",
    /// A membership that is not joint is in the log here, perhaps not flushed and not on any other node.
    MembershipFinalAppended = "membership::final_appended",
    /// A membership that is not joint and was proposed here is committed.
    MembershipFinalApplied = "membership::final_applied",
    /// A change that was asked for is complete, and has not been answered.
    MembershipChanged = "membership::changed",
    /// A node has noted that it belongs to a cluster, and has not answered the leader.
    JoinNoted = "join::noted",

    /// The first bytes of a snapshot from a peer were written.
    InstallBegun = "install::begun",
    /// All bytes of a snapshot from a peer were written.
    InstallReceived = "install::received",
    /// A received snapshot has its final name, and Raft has not accepted it.
    InstallVerified = "install::verified",
    /// A snapshot, built here or received, is flushed, and has not been read back.
    SnapshotFlushed = "snapshot::flushed",
    /// A snapshot was read back without a fault, and does not have its final name.
    SnapshotChecked = "snapshot::checked",
    /// A snapshot has its final name durably, and no slot names it.
    SnapshotNamed = "snapshot::named",
    /// A slot names a snapshot, and the previous one was not deleted.
    SnapshotCurrent = "snapshot::current",

    /// The first bytes of a backup were handed to the interface that sends it.
    BackupBegun = "backup::begun",
    /// All bytes of a backup but the last, with its checksum, were handed over.
    BackupBeforeEnd = "backup::before_end",
    /// A scheduled backup has a file, which is empty.
    BackupFileCreated = "backup::file_created",
    /// A scheduled backup is flushed, and does not have its final name.
    BackupFileFlushed = "backup::file_flushed",
    /// A scheduled backup has its final name, and older ones were not deleted.
    BackupFileNamed = "backup::file_named",

    /// A small file is written beside the one that it replaces: the mark of unfinished work, or an identity.
    FileWritten = "file::written",
    /// A small file has replaced the earlier one, perhaps not durably.
    FileReplaced = "file::replaced",
    /// A process has opened sled in a data folder, and has read nothing from it.
    DatabaseOpened = "store::database_opened",
    /// A folder was locked for a restore.
    OfflineTaken = "offline::taken",
    /// A folder is marked as unfinished, and otherwise as it was.
    OfflineMarked = "offline::marked",
    /// A folder is marked as unfinished, and has the identity of the work.
    OfflineBegun = "offline::begun",
    /// Everything in a folder is final, and it is still marked as unfinished.
    OfflineComplete = "offline::complete",
    /// The mark was removed, and success was not reported.
    OfflineFinished = "offline::finished",
    /// The state of a backup is the snapshot of the folder, and the vote was not written.
    RestoreSnapshotWritten = "restore::snapshot_written",
    /// The vote of a restored folder was written.
    RestoreVoteSaved = "restore::vote_saved",
    /// The vote of a recovered folder was written, and the membership was not.
    RecoverVoteSaved = "recover::vote_saved",
    /// The membership of a recovered folder was written.
    RecoverAppended = "recover::appended",
    /// A folder that is discarded has no identity, and everything else.
    DiscardIdentityRemoved = "discard::identity_removed",
    /// A folder that is discarded has no data, and perhaps a mark.
    DiscardDataRemoved = "discard::data_removed",
}

/// Reads `FAILPOINTS`. In release builds, does nothing.
pub fn configure() {
    #[cfg(debug_assertions)]
    // They are selected for as long as the process runs.
    std::mem::forget(fail::FailScenario::setup());
}

/// Kills the process if `FAILPOINTS` selects this point. In release builds, does nothing.
pub fn reach(point: Failpoint) {
    #[cfg(debug_assertions)]
    fail::fail_point!(point.name(), |_| kill());
    #[cfg(not(debug_assertions))]
    let _ = point;
}

/// SIGKILL instead of an abort: nothing handles it, nothing is printed, there is no core dump, and the parent sees
/// what it sees after `kill -9`.
#[cfg(debug_assertions)]
fn kill() {
    use rustix::process::{Signal, getpid, kill_process};
    let killed = kill_process(getpid(), Signal::KILL);
    unreachable!("a process outlived SIGKILL: {killed:?}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Output};

    use super::Failpoint;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Failpoint::ALL.iter().map(|it| it.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Failpoint::ALL.len());
    }

    /// Compiles this module alone, where no crate that it may use is at hand.
    fn compiled_alone(debug_assertions: &str) -> Output {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/failpoints.rs");
        let dir = tempfile::tempdir().unwrap();
        Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--edition=2024", "--crate-type=lib", "--emit=metadata"])
            .arg(format!("-Cdebug-assertions={debug_assertions}"))
            .arg("--out-dir")
            .args([dir.path(), &source])
            .output()
            .expect("rustc runs")
    }

    #[test]
    fn a_release_build_has_neither_the_crate_that_reads_failpoints_nor_the_signal() {
        let release = compiled_alone("off");
        let complaint = String::from_utf8_lossy(&release.stderr);
        assert!(release.status.success(), "{complaint}");
        let debug = compiled_alone("on");
        let complaint = String::from_utf8_lossy(&debug.stderr);
        assert!(complaint.contains("`fail`"), "{complaint}");
        assert!(complaint.contains("`rustix`"), "{complaint}");
        let profiles = include_str!("../../Cargo.toml");
        assert!(!profiles.contains("debug-assertions"), "{profiles}");
    }
}
