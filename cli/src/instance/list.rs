//! `lockstep instance list`.

use std::io::{self, IsTerminal};

use clap::Args;
use lockstep_client::{Instance, InstancePage, ListCall, MachineName, Read, StateName};
use serde_json::json;

use crate::args::{self, Extent, Fresh, Maybe};
use crate::output::{self, Format, Pages};
use crate::{Context, Failure, shape, time};

/// List a machine's instances, in order of id
#[derive(Debug, Args)]
#[command(after_help = "\
The list is not a snapshot: it is read page by page, and a change made in the meantime may or may not
be on a later page.

Examples:
  lockstep instance list order --state open --limit 20
  lockstep instance list order --label customer=ann
  lockstep instance list order --all -o json | jq '.instances | length'")]
pub(crate) struct List {
    /// The machine
    machine: MachineName,

    #[command(flatten)]
    filter: Filter,

    #[command(flatten)]
    extent: Extent,

    #[command(flatten)]
    fresh: Fresh,
}

/// Which of a machine's instances.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Filter {
    /// Only those in this state
    #[arg(long, value_name = "STATE")]
    state: Option<StateName>,

    /// Only those whose name starts with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,

    /// Only those with this entry in their metadata
    #[arg(long, value_name = "KEY=VALUE", value_parser = args::pair)]
    label: Option<(String, String)>,
}

impl Filter {
    pub(super) fn call(self, machine: &MachineName) -> ListCall {
        ListCall::of(machine)
            .maybe(self.state, ListCall::state)
            .maybe(self.prefix, ListCall::prefix)
            .maybe(self.label, |call, (key, value)| call.label(key, value))
    }
}

impl List {
    /// Shows the instances page by page as they come: there may be millions.
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        output::while_read(self.pages(context)).await
    }

    async fn pages(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        let wanted = self.extent.wanted();
        let of = match &self.filter.state {
            Some(state) => format!("in state {state}, {}", self.machine),
            None => self.machine.to_string(),
        };
        let mut table = Pages::new([
            "INSTANCE", "STATE", "REVISION", "VERSION", "CHANGED", "AGE", "METADATA",
        ]);
        let call = self
            .filter
            .call(&self.machine)
            .freshness(self.fresh)
            .maybe(self.extent.cursor, ListCall::cursor);
        let (mut next, mut shown, mut is_first) = (Some(call), 0, true);
        while let Some(call) = next.take() {
            let call = call.limit(args::page_size(wanted - shown));
            let page = client.instances(&call).await?;
            let has_earlier = shown > 0;
            shown += page.found.instances.len() as u64;
            next = call.following(&page).filter(|_| shown < wanted);
            let text = match context.output {
                Format::Json => document(&page, is_first, has_earlier, next.is_none()),
                _ => table.page(page.found.instances.iter().map(row)),
            };
            output::print(&text)?;
            if next.is_none() && context.output != Format::Json {
                note(shown, &of, &page.found);
            }
            is_first = false;
        }
        Ok(String::new())
    }
}

/// The total, for people; not for a program that reads the table.
fn note(shown: u64, of: &str, last: &InstancePage) {
    let has = output::count(last.total, "instance");
    let note = format!("lockstep: {shown} shown; {of} has {has}");
    if last.next_cursor.is_some() {
        output::say(&format!("{note}; --all shows the rest"));
    } else if io::stdout().is_terminal() {
        output::say(&note);
    }
}

fn row(instance: &Instance) -> [String; 7] {
    [
        instance.id.to_string(),
        instance.state.to_string(),
        instance.revision.to_string(),
        instance.version.to_string(),
        time::local(instance.changed_at),
        time::age(instance.changed_at),
        output::metadata(&instance.metadata),
    ]
}

/// A page's part of one JSON document, with a line for each instance.
fn document(page: &Read<InstancePage>, is_first: bool, has_earlier: bool, is_last: bool) -> String {
    let found = &page.found;
    let start = if is_first { "{\"instances\": [\n" } else { "" };
    let instances = found.instances.iter().map(|it| json!(it).to_string());
    let instances = instances.collect::<Vec<_>>().join(",\n");
    let has_both = has_earlier && !instances.is_empty();
    let separator = if has_both { ",\n" } else { "" };
    let mut text = format!("{start}{separator}{instances}");
    if is_last {
        let end = json!({ "next_cursor": found.next_cursor, "total": found.total });
        let end = shape::read(end, page).to_string();
        text.push_str("\n], ");
        text.push_str(end.strip_prefix('{').unwrap_or(&end));
        text.push('\n');
    }
    text
}
