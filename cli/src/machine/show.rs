//! `lockstep machine show`.

use clap::Args;
use lockstep_client::{Definition, Machine, MachineName, MachineSummary, Version};
use lockstep_machine::{Move, MoveFrom};
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
    let head = output::table(
        ["MACHINE", "VERSION", "INSTANCES", "INITIAL", "DESCRIPTION"],
        [[
            summary.machine.clone(),
            summary.version.to_string(),
            summary.instances.to_string(),
            definition.initial.to_string(),
            output::filled(&summary.description),
        ]],
    );
    let mut parts = vec![head, states(summary, definition)];
    if !definition.transitions.is_empty() {
        parts.push(transitions(definition));
    }
    parts.push(output::table(
        ["VERSION", "INSTANCES"],
        machine
            .versions
            .iter()
            .map(|it| [it.version.to_string(), it.instances.to_string()]),
    ));
    parts.join("\n")
}

fn states(summary: &MachineSummary, definition: &Definition) -> String {
    output::table(
        ["STATE", "INSTANCES", "FINAL", "TIMEOUT", "DESCRIPTION"],
        definition.states.iter().map(|state| {
            let instances = summary
                .states
                .get(state.name.as_str())
                .copied()
                .unwrap_or_default();
            let timeout = state.timeout.as_ref().map(|it| {
                let after = std::time::Duration::from_millis(it.after_ms);
                format!("{} to {}", humantime::format_duration(after), it.to)
            });
            [
                state.name.to_string(),
                instances.to_string(),
                if state.is_final { "yes" } else { "-" }.to_owned(),
                output::or_dash(timeout),
                output::filled(&state.description),
            ]
        }),
    )
}

fn transitions(definition: &Definition) -> String {
    let from = |it: &Move| match &it.from {
        MoveFrom::Any => "*".to_owned(),
        MoveFrom::States(states) => output::list(states),
    };
    output::table(
        ["FROM", "TO", "EVENT", "DESCRIPTION"],
        definition.transitions.iter().map(|it| {
            [
                from(it),
                it.to.to_string(),
                output::or_dash(it.event.as_ref()),
                output::filled(&it.description),
            ]
        }),
    )
}
