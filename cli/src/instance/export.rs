//! `lockstep instance export`.

use std::path::PathBuf;

use clap::Args;
use lockstep_client::MachineName;
use serde_json::json;

use super::list::Filter;
use crate::args::PAGE_MAX;
use crate::partial::Partial;
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
        let file = self.out.map(|path| Partial::create(&path, 0o666));
        let mut file = file.transpose()?;
        let mut next = Some(self.filter.call(&self.machine).limit(PAGE_MAX));
        let (mut progress, mut written, mut began) = (None, 0u64, None);
        while let Some(call) = next.take() {
            let page = client.instances(&call).await?;
            began.get_or_insert(page.revision);
            let progress = progress.get_or_insert_with(|| Progress::over_count(page.found.total));
            let instances = page.found.instances.iter();
            let text: String = instances.map(|it| output::json_line(&json!(it))).collect();
            match &mut file {
                None => progress.beside(|| output::print(&text))?,
                Some(file) => file.append(&text)?,
            }
            written += page.found.instances.len() as u64;
            progress.show(written, || self.machine.to_string());
            next = call.following(&page);
        }
        drop(progress);
        file.map_or(Ok(()), Partial::complete)?;
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
