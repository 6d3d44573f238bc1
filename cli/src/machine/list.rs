//! `lockstep machine list`.

use std::cmp::Reverse;

use clap::Args;
use lockstep_client::MachineSummary;
use serde_json::json;

use crate::args::Fresh;
use crate::{Context, Failure, output, shape};

/// States shown per machine, those with most instances first.
const STATES_SHOWN: usize = 4;

/// List the machines, with the number of instances in each state
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep machine list
  lockstep machine list -o json | jq '.machines[] | {machine, instances}'")]
pub(crate) struct List {
    #[command(flatten)]
    fresh: Fresh,
}

impl List {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let read = context.target.client()?.machines(self.fresh).await?;
        let json = || shape::read(json!({ "machines": read.found }), &read);
        Ok(context.show(json, || {
            output::columns!(&read.found, |machine| {
                "MACHINE": machine.machine,
                "VERSION": machine.version,
                "INSTANCES": machine.instances,
                "STATES": states(machine),
                "DESCRIPTION": output::filled(&machine.description),
            })
        }))
    }
}

fn states(machine: &MachineSummary) -> String {
    let mut states: Vec<_> = machine.states.iter().collect();
    states.sort_by_key(|(name, count)| (Reverse(**count), (*name).clone()));
    let more = states.len().saturating_sub(STATES_SHOWN);
    let shown = states.iter().take(STATES_SHOWN);
    let mut shown: Vec<_> = shown
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    output::list(&shown)
}
