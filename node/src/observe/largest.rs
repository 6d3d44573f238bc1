//! The use of limits on one request and on one instance's history: the maximum since the node started,
//! because it cannot be computed from the stored state.

use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_machine::{Command, Instance, Metadata, Operation, Setting};

#[derive(Default)]
pub(super) struct Largest {
    operations: AtomicU64,
    metadata_entries: AtomicU64,
    metadata_bytes: AtomicU64,
    history_entries: AtomicU64,
    history_bytes: AtomicU64,
}

impl Largest {
    /// Takes a request that was not rejected into account.
    pub(super) fn request(&self, command: &Command) {
        match command {
            Command::Transition(it) => self.metadata(&it.metadata),
            Command::Create(it) => self.metadata(&it.metadata),
            Command::Delete(it) => self.metadata(&it.metadata),
            Command::Migrate(it) => self.metadata(&it.metadata),
            Command::Transaction(it) => {
                raise(&self.operations, it.operations.len() as u64);
                for operation in &it.operations {
                    match operation {
                        Operation::Create(it) => self.metadata(&it.metadata),
                        Operation::Transition(it) => self.metadata(&it.metadata),
                        Operation::Delete(it) => self.metadata(&it.metadata),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes an instance after a change into account.
    pub(super) fn history(&self, instance: &Instance) {
        raise(&self.history_entries, instance.history().len() as u64);
        raise(&self.history_bytes, instance.history_bytes());
    }

    /// The use of each limit.
    pub(super) fn usage(&self) -> [(Setting, u64); 5] {
        [
            (Setting::OperationsMax, &self.operations),
            (Setting::MetadataEntriesMax, &self.metadata_entries),
            (Setting::MetadataBytesMax, &self.metadata_bytes),
            (Setting::HistoryEntriesMax, &self.history_entries),
            (Setting::HistoryBytesMax, &self.history_bytes),
        ]
        .map(|(setting, used)| (setting, used.load(Ordering::Relaxed)))
    }

    fn metadata(&self, metadata: &Metadata) {
        if !metadata.is_empty() {
            raise(&self.metadata_entries, metadata.len() as u64);
            raise(&self.metadata_bytes, metadata.bytes() as u64);
        }
    }
}

fn raise(largest: &AtomicU64, to: u64) {
    // Most requests raise nothing, and a load is cheaper than a write.
    if largest.load(Ordering::Relaxed) < to {
        largest.fetch_max(to, Ordering::Relaxed);
    }
}
