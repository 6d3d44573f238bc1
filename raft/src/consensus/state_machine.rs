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
use crate::store::{DiskSpace, Slot, SnapshotHandle, Storage, StoreError};

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

    /// Replaces the state by that of a snapshot.
    fn restore(&self, state: State, meta: SnapshotMeta) {
        let restored = Applied {
            state,
            last: meta.last_log_id,
            membership: meta.last_membership,
        };
        self.write(|applied| *applied = restored);
    }

    /// Applies the entry at `at`.
    fn advance<T>(&self, at: LogId, change: impl FnOnce(&mut Applied) -> T) -> T {
        self.write(|applied| {
            applied.last = Some(at);
            change(applied)
        })
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
#[derive(Clone)]
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
            shared.restore(storage.read_snapshot(snapshot).await?, meta);
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
    let purged = wire::PURGED.load(storage, Slot::Purged)?;
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

pub(super) fn read_meta(snapshot: &impl SnapshotHandle) -> io::Result<SnapshotMeta> {
    wire::SNAPSHOT_META.decode(snapshot.meta())
}

fn with_meta<RT: Runtime, H: SnapshotHandle>(snapshot: H) -> io::Result<SnapshotOf<Types<RT>, H>> {
    let meta = read_meta(&snapshot)?;
    Ok(Snapshot { meta, snapshot })
}

impl<RT: Runtime, S: Storage> RaftStateMachine<Types<RT>> for StateMachine<S> {
    type SnapshotData = S::Snapshot;
    type SnapshotBuilder = Builder<S>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.shared.read();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Entries>(&mut self, mut entries: Entries) -> io::Result<()>
    where
        Entries: Stream<Item = io::Result<EntryResponder<Types<RT>>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let at = entry.log_id;
            let replies = match entry.payload {
                EntryPayload::Blank => self.shared.advance(at, |_| Vec::new()),
                EntryPayload::Membership(membership) => {
                    let is_joint = membership.get_joint_config().len() > 1;
                    let membership = StoredMembership::new(Some(at), membership);
                    (self.shared).advance(at, |applied| applied.membership = membership);
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
                        let error = wire::unreadable_payload(at.index, e);
                        self.shared.0.failure.get_or_init(|| error.to_string());
                        error
                    })?;
                    let started = RT::Instant::now();
                    let apply = |applied: &mut Applied| applied.state.apply_decoded(&batch);
                    let replies = self.shared.advance(at, apply);
                    let took = started.elapsed();
                    let state = &self.shared.read().state;
                    (self.observer).applied(at.index, &batch, &replies, state, took);
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
        let current = self.storage.current_snapshot().filter(|_| !force);
        let machine = self.clone();
        (force || current.is_some()).then_some(Builder { current, machine })
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        let (current, machine) = (None, self.clone());
        Builder { current, machine }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: S::Snapshot,
    ) -> io::Result<()> {
        let bytes = snapshot.length();
        let state = self.storage.read_snapshot(snapshot.clone()).await?;
        self.storage.adopt_snapshot(snapshot).await?;
        self.shared.restore(state, meta.clone());
        self.observer.snapshot_installed(bytes);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<Types<RT>, S::Snapshot>>> {
        let current = self.storage.current_snapshot();
        current.map(with_meta::<RT, _>).transpose()
    }
}

/// The snapshot that openraft asked for.
pub struct Builder<S: Storage> {
    /// The current one, which compaction has written; without it, one is still to be written.
    current: Option<S::Snapshot>,
    machine: StateMachine<S>,
}

impl<RT: Runtime, S: Storage> RaftSnapshotBuilder<Types<RT>> for Builder<S> {
    type SnapshotData = S::Snapshot;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types<RT>, S::Snapshot>> {
        let StateMachine {
            shared,
            storage,
            observer,
        } = &self.machine;
        with_meta::<RT, _>(match self.current.clone() {
            Some(current) => current,
            None => write_snapshot::<RT, S>(shared, storage, &**observer).await?,
        })
    }
}

/// Writes a snapshot of the state as it is now, and makes it the current one.
pub(super) async fn write_snapshot<RT: Runtime, S: Storage>(
    shared: &SharedState,
    storage: &S,
    observer: &dyn Observer,
) -> io::Result<S::Snapshot> {
    let started = RT::Instant::now();
    let applied = shared.read().clone();
    let index = applied.index();
    let meta = SnapshotMeta {
        last_log_id: applied.last,
        last_membership: applied.membership,
    };
    let meta = wire::SNAPSHOT_META.encode(&meta);
    let snapshot = storage.write_snapshot(index, meta, applied.state).await?;
    observer.snapshot_built(snapshot.length(), started.elapsed());
    Ok(snapshot)
}
