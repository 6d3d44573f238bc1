//! `lockstep machine show`.

use clap::Args;
use lockstep_client::{Machine, MachineName, Version};
use lockstep_machine::{MoveFrom, Timeout, show_duration};
use serde_json::json;

use crate::args::Fresh;
use crate::output::{self, Format};
use crate::{Context, Failure, shape};

/// Show a machine: its states, transitions and versions
#[derive(Debug, Args)]
#[command(after_help = "\
-o yaml prints only the definition, ready to be edited and applied; -o json prints everything, with
the definition as one field.

Examples:
  lockstep machine show order
  lockstep machine show order -o yaml > order.yaml
  lockstep machine show order --version 1 -o json | jq .definition")]
pub(crate) struct Show {
    /// The machine
    #[arg(value_name = "NAME")]
    machine: MachineName,

    /// The version to show [default: the newest]
    #[arg(long, value_name = "N", value_parser = crate::args::version)]
    version: Option<Version>,

    #[command(flatten)]
    fresh: Fresh,

    /// Output format; yaml prints only the definition
    #[arg(long, short, default_value = "table", value_parser = Format::parser_with_yaml())]
    output: Format,
}

impl Show {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        let read = client
            .machine(&self.machine, self.version, self.fresh)
            .await?;
        let machine = &read.found;
        Ok(match self.output {
            Format::Yaml => lockstep_document::to_yaml(&machine.definition),
            Format::Json => output::json(&shape::read(json!(machine), &read)),
            Format::Table => tables(machine),
        })
    }
}

/// The machine, its states, its transitions and its versions, one table below the other.
fn tables(machine: &Machine) -> String {
    let Machine {
        summary,
        definition,
        ..
    } = machine;
    let head = output::columns!([summary], |it| {
        "MACHINE": it.machine,
        "VERSION": it.version,
        "INSTANCES": it.instances,
        "INITIAL": definition.initial,
        "DESCRIPTION": output::filled(&it.description),
    });
    let states = output::columns!(&definition.states, |state| {
        "STATE": state.name,
        "INSTANCES": summary.states.get(state.name.as_str()).copied().unwrap_or_default(),
        "FINAL": output::yes_or_dash(state.is_final),
        "TIMEOUT": output::or_dash(state.timeout.as_ref().map(timeout)),
        "DESCRIPTION": output::filled(&state.description),
    });
    let transitions = output::columns!(&definition.transitions, |it| {
        "FROM": from(&it.from),
        "TO": it.to,
        "EVENT": output::or_dash(it.event.as_ref()),
        "DESCRIPTION": output::filled(&it.description),
    });
    let versions = output::columns!(&machine.versions, |it| {
        "VERSION": it.version,
        "INSTANCES": it.instances,
    });
    let has_transitions = !definition.transitions.is_empty();
    let parts = [
        Some(head),
        Some(states),
        has_transitions.then_some(transitions),
        Some(versions),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn timeout(it: &Timeout) -> String {
    format!("{} to {}", show_duration(it.after_ms), it.to)
}

fn from(it: &MoveFrom) -> String {
    match it {
        MoveFrom::Any => "*".to_owned(),
        MoveFrom::States(states) => output::list(states),
    }
}
