//! openraft's own tests of a log and a state machine, on ours over the real disk.

use std::sync::Arc;

use lockstep_raft::consensus::Types;
use lockstep_raft::consensus::log::LogStore;
use lockstep_raft::consensus::state_machine::StateMachine;
use lockstep_raft::store::{DiskStore, IdentityFile, StoreOptions};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft_rt::AsyncRuntime as _;
use openraft_rt_tokio::TokioRuntime;
use tempfile::TempDir;

type Log = LogStore<DiskStore>;
type Machine = StateMachine<DiskStore>;

/// Opens a store in a new folder for each test. Keeps `recent_bytes_max` of the log in memory.
struct NewFolder {
    recent_bytes_max: usize,
}

impl StoreBuilder<Types<TokioRuntime>, Log, Machine, TempDir> for NewFolder {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError<Types<TokioRuntime>>> {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            cache_bytes: 1 << 20,
            reserve_bytes: 0,
            free_bytes_min: 0,
        };
        let mut identity = IdentityFile::open(folder.path()).unwrap();
        let disk = DiskStore::open(&mut identity, options, Arc::new(())).unwrap();
        let log = Log::open(disk.clone(), self.recent_bytes_max)
            .await
            .unwrap();
        let (machine, _) = Machine::open(disk, Arc::new(())).await.unwrap();
        Ok((folder, log, machine))
    }
}

#[test]
fn the_log_and_the_state_machine_keep_their_contract() {
    let suite = Suite::test_all(NewFolder {
        recent_bytes_max: 1 << 20,
    });
    TokioRuntime::new(2).block_on(suite).unwrap();
}

#[test]
fn the_log_keeps_its_contract_when_it_is_read_from_disk() {
    let suite = Suite::test_all(NewFolder {
        recent_bytes_max: 0,
    });
    TokioRuntime::new(2).block_on(suite).unwrap();
}
