//! `lockstep cluster backup`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use lockstep_client::{Backup as Incoming, BackupHeader};
use serde_json::{Value, json};

use super::partial::Partial;
use super::progress::Progress;
use super::{Context, Failure, output};

/// Write the state of the cluster to a file, from which `lockstepd restore` makes a new cluster
#[derive(Debug, Args)]
#[command(after_help = "\
The backup has the state at one log index, with every write that was acknowledged before the command began:
machines, instances, settings, recent events, idempotency keys, checkpoints and dead letters of sinks. Any node
can write it. FILE is created only once the backup is complete and checked.

Examples:
  lockstep cluster backup lockstep.backup
  lockstep cluster backup - | gzip > lockstep.backup.gz
  lockstepd restore --verify lockstep.backup")]
pub(super) struct Backup {
    /// The file to create; - for stdout
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Replace FILE if it exists
    #[arg(long)]
    force: bool,
}

impl Backup {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        if self.file == Path::new("-") {
            let written = output::while_read(receive(context, io::stdout())).await?;
            output::say(&format!("lockstep: {}", in_words(&written)));
            return Ok(String::new());
        }
        if !self.force && fs::symlink_metadata(&self.file).is_ok() {
            let message = format!("{} exists; nothing was written", self.file.display());
            return Err(Failure::usage(message).hint("use --force to replace it"));
        }
        // It has everything that the cluster stores.
        let mut partial = Partial::create(&self.file, 0o600)?;
        let written = receive(context, &mut partial).await;
        let written = written.map_err(|failure| failure.about(self.file.display()))?;
        partial.complete()?;
        Ok(context.show(
            || shown(&written, &self.file),
            || format!("{}: {}\n", self.file.display(), in_words(&written)),
        ))
    }
}

/// What was received, and how many bytes it takes.
type Received = (BackupHeader, u64);

/// Receives a backup and writes it; returns once every byte was checked.
async fn receive(context: &Context, mut target: impl Write) -> Result<Received, Failure> {
    let mut backup: Incoming = context.target.client()?.backup().await?;
    let progress = Progress::over_bytes(None);
    while let Some(piece) = backup.next().await? {
        let written = target.write_all(&piece);
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::reader_gone(),
            _ => Failure::local(format!("cannot write the backup: {error}")),
        })?;
        let received = backup.received();
        progress.show(received, || format!("{} written", size(received)));
    }
    target.flush().map_err(Failure::local)?;
    Ok((backup.header().clone(), backup.received()))
}

fn in_words((header, bytes): &Received) -> String {
    format!(
        "{} of cluster {} at log index {}, revision {}, {}",
        output::count(header.instances, "instance"),
        header.cluster_id,
        header.log_index,
        header.revision,
        size(*bytes)
    )
}

fn shown((header, bytes): &Received, file: &Path) -> Value {
    json!({
        "file": file.display().to_string(),
        "bytes": bytes,
        "cluster_id": header.cluster_id,
        "node": header.node,
        "log_index": header.log_index,
        "term": header.term,
        "revision": header.revision,
        "cluster_time": header.cluster_time,
        "created_at": header.created_at,
        "version": header.build,
        "instances": header.instances,
    })
}

fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
