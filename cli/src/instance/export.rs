//! `lockstep instance export`.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use lockstep_client::MachineName;
use serde_json::json;

use super::list::Filter;
use crate::args::PAGE_MAX;
use crate::progress::Progress;
use crate::{Context, Failure, output};

const EXAMPLES: &str = "\
Each line is an instance in the format of `instance get -o json`. The export is not a snapshot: instances
are read page by page in order of id, and each is written as it is when its page is read. To get the changes
made since the export began, watch from the revision printed at the end.

Examples:
  lockstep instance export order --out orders.jsonl
  lockstep instance export order --state open | jq -r .id";

/// Write a machine's instances as JSON lines
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Export {
    /// The machine
    machine: MachineName,

    /// Write to this file, which is created only once it is complete [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    #[command(flatten)]
    filter: Filter,
}

impl Export {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        match self.out {
            None => output::while_read(self.pages(context)).await,
            Some(_) => self.pages(context).await,
        }
    }

    async fn pages(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        let mut out = Out::open(self.out.as_deref())?;
        let mut next = Some(self.filter.call(&self.machine).limit(PAGE_MAX));
        let (mut progress, mut written, mut began) = (None, 0u64, None);
        while let Some(call) = next.take() {
            let page = client.instances(&call).await?;
            began.get_or_insert(page.revision);
            let progress = progress.get_or_insert_with(|| Progress::over_count(page.found.total));
            let instances = page.found.instances.iter();
            let text: String = instances.map(|it| output::json_line(&json!(it))).collect();
            progress.beside(|| out.write(&text))?;
            written += page.found.instances.len() as u64;
            progress.show(written, || self.machine.to_string());
            next = call.following(&page);
        }
        drop(progress);
        out.complete()?;
        let from = began.map_or(0, |revision| revision.0.saturating_add(1));
        output::say(&format!(
            "lockstep: {} of {} written; changes since: lockstep watch {} --from-revision {from}",
            output::count(written, "instance"),
            self.machine,
            self.machine,
        ));
        Ok(String::new())
    }
}

/// The destination of the lines.
enum Out {
    Stdout,
    /// Under another name until it is complete.
    File {
        path: PathBuf,
        partial: PathBuf,
        writer: BufWriter<File>,
    },
}

impl Out {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Out::Stdout);
        };
        let mut name = path.file_name().map(ToOwned::to_owned).ok_or_else(|| {
            Failure::usage(format!("--out: {} does not name a file", path.display()))
        })?;
        name.push(".partial");
        let partial = path.with_file_name(name);
        let file =
            File::create(&partial).map_err(|error| Failure::cannot_write(&partial, &error))?;
        Ok(Out::File {
            path: path.to_owned(),
            partial,
            writer: BufWriter::new(file),
        })
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        match self {
            Out::Stdout => output::print(text),
            Out::File {
                partial, writer, ..
            } => writer
                .write_all(text.as_bytes())
                .map_err(|error| Failure::cannot_write(partial, &error)),
        }
    }

    fn complete(self) -> Result<(), Failure> {
        let Out::File {
            path,
            partial,
            writer,
        } = self
        else {
            return Ok(());
        };
        let file = writer.into_inner().map_err(|error| error.into_error());
        file.and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(|error| Failure::cannot_write(&path, &error))
    }
}
