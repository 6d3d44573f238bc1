//! Implements openraft's state machine: applies entries, builds and installs snapshots.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use lockstep_machine::{DecodedBatch, Reply, State};
use openraft::alias::SnapshotOf;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{EntryPayload, Instant as _, OptionalSend};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;

use super::compaction::DiskLevel;
use super::types::{LogId, Payload, Replies, Runtime, SnapshotMeta, StoredMembership, Types};
use super::wire;
use crate::Deadline;
use crate::failpoints::{self, Failpoint};
use crate::store::{DiskSpace, Slot, SnapshotHandle as _, Storage, StoreError};

/// Callbacks from consensus, for metrics. Every method has an empty default.
#[allow(unused_variables)]
pub trait Observer: Send + Sync + 'static {
    /// While consensus opens: the entries after log index `from`, up to `upto`, are applied again.
    fn reapplying(&self, from: u64, upto: u64) {}
    /// The batch of the log entry at `index` was applied here, with these replies.
    fn applied(
        &self,
        index: u64,
        batch: &DecodedBatch<'_>,
        replies: &[Reply],
        state: &State,
        took: Duration,
    ) {
    }
    /// The disk was looked at.
    fn disk(&self, space: &DiskSpace, level: DiskLevel) {}
    /// A snapshot was built here.
    fn snapshot_built(&self, bytes: u64, took: Duration) {}
    /// A snapshot from another node was installed here.
    fn snapshot_installed(&self, bytes: u64) {}
    /// A snapshot was sent to another node.
    fn snapshot_sent(&self, bytes: u64) {}
    /// Changes the number of requests that are in the log and not answered yet.
    fn pending(&self, change: i64) {}
    /// Requests were put into one log entry.
    fn proposed(&self, requests: usize) {}
    /// A request could not be proposed, for this reason.
    fn proposal_failed(&self, reason: &'static str) {}
    /// A peer answered an append after this long.
    fn append_round_trip(&self, peer: &str, took: Duration) {}
}

/// An observer that does nothing.
impl Observer for () {}

/// The applied state, for concurrent readers.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// The replicated state.
    pub state: State,
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Applied {
    /// The last log index applied; 0 for none.
    pub fn index(&self) -> u64 {
        self.last.map_or(0, |id| id.index)
    }

    /// The term of that log entry; 0 for none.
    pub fn term(&self) -> u64 {
        self.last.map_or(0, |id| id.leader_id.term)
    }
}

/// The state shared between the worker that applies and those who read.
#[derive(Clone, Default)]
pub struct SharedState(Arc<Shared>);

#[derive(Default)]
struct Shared {
    applied: RwLock<Applied>,
    /// The last log index applied, for those who wait for a change.
    changes: watch::Sender<u64>,
    /// Why an entry could not be applied.
    failure: OnceLock<String>,
}

impl SharedState {
    /// Reads the state. Never hold the guard across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Applied> {
        self.0.applied.read()
    }

    /// Follows the last log index applied here.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Why an entry could not be applied, if that has happened.
    pub(super) fn failure(&self) -> Option<&str> {
        self.0.failure.get().map(String::as_str)
    }

    /// Waits until the entry at `index` is applied; `false` if the deadline passes first.
    pub(super) async fn reached<RT: Runtime>(&self, index: u64, deadline: Deadline<RT>) -> bool {
        if self.read().index() >= index {
            return true;
        }
        let mut changes = self.changes();
        let applied = changes.wait_for(|applied| *applied >= index);
        // The sender is not dropped before `self`.
        deadline.bound(applied).await.is_some_and(|it| it.is_ok())
    }

    /// Changes the state as an entry would.
    #[cfg(any(test, feature = "testing"))]
    pub fn change_for_test(&self, change: impl FnOnce(&mut State)) {
        self.write(|applied| change(&mut applied.state));
    }

    fn write<T>(&self, change: impl FnOnce(&mut Applied) -> T) -> T {
        let (result, index) = {
            let mut applied = self.0.applied.write();
            (change(&mut applied), applied.index())
        };
        self.0.changes.send_replace(index);
        result
    }
}

/// The state machine of one node.
pub struct StateMachine<S> {
    shared: SharedState,
    storage: S,
    observer: Arc<dyn Observer>,
}

impl<S: Storage> StateMachine<S> {
    /// Restores the current snapshot, if there is one.
    pub async fn open(storage: S, observer: Arc<dyn Observer>) -> io::Result<(Self, SharedState)> {
        let shared = SharedState::default();
        if let Some(snapshot) = storage.current_snapshot() {
            let meta = read_meta(&snapshot)?;
            let state = storage.read_snapshot(snapshot).await?;
            shared.write(|applied| {
                *applied = Applied {
                    state,
                    last: meta.last_log_id,
                    membership: meta.last_membership,
                };
            });
        }
        check_covered(&storage, shared.read().last)?;
        let machine = Self {
            shared: shared.clone(),
            storage,
            observer,
        };
        Ok((machine, shared))
    }
}

/// Refuses a state that lacks entries which are no longer in the log. Openraft would apply the rest to it.
fn check_covered(storage: &impl Storage, covered: Option<LogId>) -> io::Result<()> {
    let purged = storage.load(Slot::Purged)?;
    let purged = purged.map(|bytes| wire::PURGED.decode(bytes, wire::log_id_read));
    let purged = purged.transpose()?;
    if purged <= covered {
        return Ok(());
    }
    let index = |id: Option<LogId>| id.map_or("none".to_owned(), |id| id.index.to_string());
    let reason = format!(
        "the log was purged up to entry {}, but the snapshot covers it up to entry {}",
        index(purged),
        index(covered)
    );
    Err(StoreError::damaged("snapshot", "current", reason).into())
}

pub(super) fn read_meta<H: crate::store::SnapshotHandle>(snapshot: &H) -> io::Result<SnapshotMeta> {
    wire::SNAPSHOT_META.decode(snapshot.meta(), wire::snapshot_meta_in)
}

impl<RT: Runtime, S: Storage> RaftStateMachine<Types<RT>> for StateMachine<S> {
    type SnapshotData = S::Snapshot;
    type SnapshotBuilder = Builder<S>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.shared.read();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Entries>(&mut self, mut entries: Entries) -> Result<(), io::Error>
    where
        Entries: Stream<Item = Result<EntryResponder<Types<RT>>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let replies = match entry.payload {
                EntryPayload::Blank => {
                    self.shared
                        .write(|applied| applied.last = Some(entry.log_id));
                    Vec::new()
                }
                EntryPayload::Membership(membership) => {
                    let is_joint = membership.get_joint_config().len() > 1;
                    self.shared.write(|applied| {
                        applied.last = Some(entry.log_id);
                        applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                    });
                    if responder.is_some() {
                        failpoints::reach(match is_joint {
                            true => Failpoint::MembershipJointApplied,
                            false => Failpoint::MembershipFinalApplied,
                        });
                    }
                    Vec::new()
                }
                EntryPayload::Normal(Payload(bytes)) => {
                    let batch = DecodedBatch::decode(&bytes).map_err(|e| {
                        let error = wire::unreadable_payload(entry.log_id.index, e);
                        self.shared.0.failure.get_or_init(|| error.to_string());
                        error
                    })?;
                    let started = RT::Instant::now();
                    let replies = self.shared.write(|applied| {
                        applied.last = Some(entry.log_id);
                        applied.state.apply_decoded(&batch)
                    });
                    let took = started.elapsed();
                    let (index, applied) = (entry.log_id.index, self.shared.read());
                    self.observer
                        .applied(index, &batch, &replies, &applied.state, took);
                    drop(applied);
                    replies
                }
            };
            if let Some(responder) = responder {
                responder.send(Replies(replies));
            }
        }
        Ok(())
    }

    /// Compaction writes the snapshots; openraft is given the current one.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Self::SnapshotBuilder> {
        if force {
            return Some(RaftStateMachine::<Types<RT>>::get_snapshot_builder(self).await);
        }
        self.storage.current_snapshot().map(Builder::Current)
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        Builder::New {
            applied: Box::new(self.shared.read().clone()),
            storage: self.storage.clone(),
            observer: self.observer.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Self::SnapshotData,
    ) -> Result<(), io::Error> {
        let bytes = snapshot.length();
        let state = self.storage.read_snapshot(snapshot.clone()).await?;
        self.storage.adopt_snapshot(snapshot).await?;
        self.shared.write(|applied| {
            *applied = Applied {
                state,
                last: meta.last_log_id,
                membership: meta.last_membership.clone(),
            };
        });
        self.observer.snapshot_installed(bytes);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<Types<RT>, Self::SnapshotData>>, io::Error> {
        let Some(snapshot) = self.storage.current_snapshot() else {
            return Ok(None);
        };
        Ok(Some(Snapshot {
            meta: read_meta(&snapshot)?,
            snapshot,
        }))
    }
}

/// The snapshot that openraft asked for.
pub enum Builder<S: Storage> {
    /// The current one, which compaction has written.
    Current(S::Snapshot),
    /// One of this state, still to be written.
    New {
        /// The state.
        applied: Box<Applied>,
        /// Where to write it.
        storage: S,
        /// Whom to tell.
        observer: Arc<dyn Observer>,
    },
}

impl<RT: Runtime, S: Storage> RaftSnapshotBuilder<Types<RT>> for Builder<S> {
    type SnapshotData = S::Snapshot;

    async fn build_snapshot(
        &mut self,
    ) -> Result<SnapshotOf<Types<RT>, Self::SnapshotData>, io::Error> {
        let snapshot = match self {
            Builder::Current(snapshot) => snapshot.clone(),
            Builder::New {
                applied,
                storage,
                observer,
            } => write_snapshot::<RT, S>(Applied::clone(applied), storage, &**observer).await?,
        };
        let meta = read_meta(&snapshot)?;
        Ok(Snapshot { meta, snapshot })
    }
}

/// Writes a snapshot of `applied` and makes it the current one.
pub(super) async fn write_snapshot<RT: Runtime, S: Storage>(
    applied: Applied,
    storage: &S,
    observer: &dyn Observer,
) -> io::Result<S::Snapshot> {
    let started = RT::Instant::now();
    let index = applied.index();
    let meta = SnapshotMeta {
        last_log_id: applied.last,
        last_membership: applied.membership,
    };
    let meta = wire::SNAPSHOT_META.encode(&wire::snapshot_meta_out(&meta));
    let snapshot = storage.write_snapshot(index, meta, applied.state).await?;
    observer.snapshot_built(snapshot.length(), started.elapsed());
    Ok(snapshot)
}
