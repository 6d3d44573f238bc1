//! `lockstep instance migrate`.

use std::collections::BTreeMap;

use clap::Args;
use lockstep_client::{InstanceId, InvalidName, MigrateCall, Migrated, StateName, Version};
use serde_json::json;

use crate::args::{self, Change};
use crate::{Context, Failure, shape};

/// Pin an instance to another version of its machine
#[derive(Debug, Args)]
#[command(after_help = "\
A state that is not mapped keeps its name, which must exist in the other version.

Examples:
  lockstep instance migrate order/42 --dry-run
  lockstep instance migrate order/42 --version 3 --map paid=settled --map lost=cancelled")]
pub(crate) struct Migrate {
    /// The instance, machine/name
    #[arg(value_name = "ID")]
    instance: InstanceId,

    /// The version to migrate to [default: the newest]
    #[arg(long, value_name = "N", value_parser = args::version)]
    version: Option<Version>,

    /// Map a state of the old version to one of the new version; may be repeated
    #[arg(long = "map", value_name = "FROM=TO", value_parser = states)]
    states: Vec<(StateName, StateName)>,

    /// Only show what would happen
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    change: Change,
}

fn states(text: &str) -> Result<(StateName, StateName), String> {
    let (from, to) = text
        .split_once('=')
        .ok_or("it must have the form FROM=TO")?;
    let name = |text: &str| text.parse().map_err(|fault: InvalidName| fault.to_string());
    Ok((name(from)?, name(to)?))
}

impl Migrate {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let dry_run = self.dry_run;
        let call = self.call()?;
        let written = context.target.client()?.migrate(call).await?;
        let json = || {
            let mut body = json!({ "migrated": written.made });
            if dry_run {
                body["dry_run"] = true.into();
            }
            shape::written(body, &written)
        };
        Ok(context.show(json, || line(&written.made, dry_run)))
    }

    fn call(self) -> Result<MigrateCall, Failure> {
        let mut states = BTreeMap::new();
        for (from, to) in self.states {
            if let Some(earlier) = states.insert(from.clone(), to.clone()) {
                return Err(Failure::usage(format!(
                    "--map: state {from:?} is mapped twice, to {earlier:?} and to {to:?}"
                )));
            }
        }
        let call = self.change.key.on(lockstep_machine::Migrate {
            instance: self.instance,
            version: self.version,
            states,
            expect_state: self.change.expect_state,
            expect_revision: self.change.expect_revision,
            metadata: self.change.meta.into_metadata()?,
        });
        Ok(match self.dry_run {
            true => call.dry_run(),
            false => call,
        })
    }
}

fn line(made: &Migrated, dry_run: bool) -> String {
    let Migrated {
        instance,
        from_version,
        version,
        from,
        to,
        ..
    } = made;
    let verb = if dry_run { "would go" } else { "went" };
    let state = match from == to {
        true => format!("in state {to}"),
        false => format!("from state {from} to {to}"),
    };
    format!("{instance}: {verb} from version {from_version} to {version}, {state}\n")
}
