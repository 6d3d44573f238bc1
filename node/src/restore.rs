//! `lockstepd restore`: makes a new cluster of one node from a backup. Other nodes join it.
//!
//! The whole backup is read and checked before anything is written. The cluster gets a new id, so that nodes of the
//! earlier cluster cannot join it, and the node a new id. Log index, term, revision and cluster time continue.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use lockstep_machine::{
    BackupDecoder, BackupError, BackupHeader, BackupPart, BackupTotals, Restore as Restoring,
    RestoreError, State,
};
use lockstep_node::config::Config;
use lockstep_raft::consensus::{Member, offline};
use lockstep_raft::store::{DiskStore, OfflineFolder, StoreOptions};

/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;

/// A backup that was read and checked as a whole.
#[derive(Debug)]
pub struct Verified {
    file: String,
    header: BackupHeader,
    totals: BackupTotals,
    state: State,
}

impl Verified {
    /// Reads and checks a whole backup; `-` is stdin.
    pub fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Self::read(&mut io::stdin().lock(), "stdin".to_owned());
        }
        let file = path.display().to_string();
        match File::open(path) {
            Ok(mut opened) => Self::read(&mut opened, file),
            Err(error) => bail!("cannot read {file}: {error}"),
        }
    }

    fn read(source: &mut dyn Read, file: String) -> Result<Self> {
        let backup = |error: BackupError| anyhow!("{file}: {error}");
        let state = |error: RestoreError| {
            anyhow!("{file}: the state in the backup cannot be restored: {error}")
        };
        let (mut decoder, mut restoring) = (BackupDecoder::new(), Restoring::new());
        let (mut header, mut buffer) = (None, vec![0; READ_BYTES]);
        loop {
            let read = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => bail!("cannot read {file}: {error}"),
            };
            decoder.push(&buffer[..read]);
            while let Some(part) = decoder.next_part().map_err(backup)? {
                match part {
                    BackupPart::Header(it) => header = Some(*it),
                    BackupPart::Record(record) => restoring.push(&record).map_err(state)?,
                }
            }
        }
        let totals = decoder.finish().map_err(backup)?;
        let restored = restoring.finish().map_err(state)?;
        // A complete backup has a header.
        let header = header.ok_or_else(|| backup(BackupError::Foreign))?;
        Ok(Self {
            header,
            totals,
            state: restored,
            file,
        })
    }

    /// What the backup is of.
    pub fn description(&self) -> String {
        let BackupHeader {
            cluster_id,
            node,
            log_index,
            term,
            revision,
            cluster_time,
            created_at,
            build,
            snapshot_format,
            instances,
        } = &self.header;
        let time = |at: lockstep_machine::Timestamp| {
            at.rfc3339().unwrap_or_else(|| format!("{} ms", at.0))
        };
        format!(
            "{} is complete and undamaged\n\
            cluster       {cluster_id}\n\
            written by    node {node}, release {build}, at {}\n\
            log index     {log_index}, term {term}\n\
            revision      {revision}\n\
            cluster time  {}\n\
            instances     {instances}\n\
            size          {} bytes, {} records of format {snapshot_format}\n",
            self.file,
            time(*created_at),
            time(*cluster_time),
            self.totals.bytes,
            self.totals.records,
        )
    }

    /// Makes the new cluster in the data folder of `config`. Returns what to do next.
    pub async fn restore(self, config: &Config) -> Result<String> {
        let dir = &config.data_dir;
        let mut folder = OfflineFolder::take_empty(dir, &config.name)?;
        let cluster_id = format!("{:016x}", rand::random::<u64>());
        folder.begin()?;
        let node_id = folder.identity().identity().node_id;
        let store = DiskStore::open(folder.identity(), options(config), std::sync::Arc::new(()))?;
        let member = Member {
            name: config.name.clone(),
            grpc_address: config.grpc.advertise.clone(),
            http_address: config.http.advertise.clone(),
            learner: false,
        };
        let founded = offline::found(&store, node_id, member, &self.header, self.state).await;
        founded.map_err(|error| anyhow!("cannot write the data folder: {error}"))?;
        drop(store);
        folder.finish(&cluster_id)?;
        Ok(format!(
            "restored {} of cluster {} as a new cluster {cluster_id} of one node: {} in {}\n\
            Start this node, then the others with empty data folders: they join by themselves.\n",
            self.file,
            self.header.cluster_id,
            config.name,
            dir.display()
        ))
    }
}

fn options(config: &Config) -> StoreOptions {
    StoreOptions {
        cache_bytes: config.storage.cache_bytes,
        reserve_bytes: config.storage.reserve_bytes,
        free_bytes_min: config.storage.free_bytes_min,
    }
}
