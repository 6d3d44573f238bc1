//! `lockstep instance list`.

use std::io::{self, IsTerminal};
use std::mem;

use clap::Args;
use lockstep_client::{Client, Instance, InstancePage, ListCall, MachineName, Read, StateName};
use serde_json::{Value, json};

use crate::args::{self, Extent, Fresh, Maybe};
use crate::failure::Failure;
use crate::output::{self, Format, Pages, Reader};
use crate::{Context, shape, time};

/// List a machine's instances, in order of id
#[derive(Debug, Args)]
#[command(after_help = "\
Pages are read one after another, none older than the one before. A change made meanwhile may or may
not be on a later page.

Examples:
  lockstep instance list order --state open --limit 20
  lockstep instance list order --label customer=ann
  lockstep instance list order --all -o json | jq '.instances | length'")]
pub(super) struct List {
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
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        let wanted = self.extent.wanted();
        let mut shown: Box<dyn Shown> = match context.output {
            Format::Json => Box::new(Document::default()),
            _ => Box::new(Table::new(&self.machine, self.filter.state.as_ref())),
        };
        let call = self
            .filter
            .call(&self.machine)
            .freshness(self.fresh)
            .maybe(self.extent.cursor, ListCall::cursor);
        show(&client, call, wanted, shown.as_mut()).await?;
        Ok(String::new())
    }
}

/// Shows up to `wanted` instances, page by page as they come: there may be millions.
async fn show(
    client: &Client,
    call: ListCall,
    wanted: u64,
    shown: &mut dyn Shown,
) -> Result<(), Failure> {
    let mut left = wanted;
    let mut next = Some(call);
    while let Some(call) = next.take() {
        let call = call.limit(args::page_size(left));
        let page = client.instances(&call).await?;
        left = left.saturating_sub(page.found.instances.len() as u64);
        next = call.following(&page).filter(|_| left > 0);
        if output::print(&shown.page(&page, next.is_none()))? == Reader::Gone {
            return Ok(());
        }
    }
    shown.note();
    Ok(())
}

/// How a list is shown.
trait Shown {
    /// What to print for a page.
    fn page(&mut self, page: &Read<InstancePage>, is_last: bool) -> String;

    /// Notes for stderr at the end.
    fn note(&self);
}

struct Table {
    /// The machine, and the state that is asked for.
    of: String,
    pages: Pages<7>,
    shown: u64,
    total: u64,
    is_whole: bool,
}

impl Table {
    fn new(machine: &MachineName, state: Option<&StateName>) -> Self {
        let header = [
            "INSTANCE", "STATE", "REVISION", "VERSION", "CHANGED", "AGE", "METADATA",
        ];
        Self {
            of: match state {
                Some(state) => format!("in state {state}, {machine}"),
                None => machine.to_string(),
            },
            pages: Pages::new(header),
            shown: 0,
            total: 0,
            is_whole: true,
        }
    }
}

impl Shown for Table {
    fn page(&mut self, page: &Read<InstancePage>, _: bool) -> String {
        self.shown += page.found.instances.len() as u64;
        self.total = page.found.total;
        self.is_whole = page.found.next_cursor.is_none();
        self.pages.page(page.found.instances.iter().map(row))
    }

    /// The total, for people; not for a program that reads the table.
    fn note(&self) {
        let has = output::count(self.total, "instance");
        let note = format!("lockstep: {} shown; {} has {has}", self.shown, self.of);
        if !self.is_whole {
            output::say(&format!("{note}; --all shows the rest"));
        } else if io::stdout().is_terminal() {
            output::say(&note);
        }
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

/// One JSON document, written while the pages come.
#[derive(Default)]
struct Document {
    is_open: bool,
    is_filled: bool,
}

impl Shown for Document {
    fn page(&mut self, page: &Read<InstancePage>, is_last: bool) -> String {
        let mut text = String::new();
        if !mem::replace(&mut self.is_open, true) {
            text.push_str("{\n  \"instances\": [");
        }
        for instance in &page.found.instances {
            let separator = if mem::replace(&mut self.is_filled, true) {
                ",\n"
            } else {
                "\n"
            };
            text.push_str(separator);
            text.push_str(&indented(&json!(instance)));
        }
        if is_last {
            let end = shape::read(
                json!({ "next_cursor": page.found.next_cursor, "total": page.found.total }),
                page,
            );
            let end = format!("{end:#}");
            text.push_str("\n  ],");
            text.push_str(end.strip_prefix('{').unwrap_or(&end));
            text.push('\n');
        }
        text
    }

    fn note(&self) {}
}

/// A value as it stands in a list inside of an object.
fn indented(value: &Value) -> String {
    let lines: Vec<_> = format!("{value:#}")
        .lines()
        .map(|line| format!("    {line}"))
        .collect();
    lines.join("\n")
}
