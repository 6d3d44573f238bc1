//! `lockstep cluster settings`.

use std::collections::BTreeMap;

use clap::Args;
use lockstep_client::UpdateSettingsCall;
use lockstep_machine::{Setting, Unit};
use serde_json::json;

use super::args::{self, Fresh, Key};
use super::failure::{Exit, Failure};
use super::{Context, commands, output, settings, shape};

commands! {
    /// Show and change the cluster settings
    #[command(after_help = "\
Cluster settings are limits that every node uses. They are part of the replicated state: any node
can be asked, and a change takes effect on all of them.

Examples:
  lockstep cluster settings get
  lockstep cluster settings set events_max=1000000 event_bytes_max=256MiB")]
    pub(super) Settings {
        Get(settings),
        Set(settings),
    }
}

/// Show the cluster settings
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lockstep cluster settings get
  lockstep cluster settings get events_max
  lockstep cluster settings get -o json | jq .events_max")]
pub(crate) struct Get {
    /// The setting to show [default: all]
    #[arg(value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    fresh: Fresh,
}

/// Change cluster settings, all or none
#[derive(Debug, Args)]
#[command(after_help = "\
Sizes take KiB, MiB and GiB, times a unit such as 30m or 24h; without one they are bytes and
milliseconds.

Examples:
  lockstep cluster settings set sinks_max=100
  lockstep cluster settings set event_bytes_max=256MiB key_retention_ms=48h")]
pub(crate) struct Set {
    /// The settings, and their new values
    #[arg(value_name = "NAME=VALUE", required = true, value_parser = assignment)]
    values: Vec<(String, u64)>,

    #[command(flatten)]
    key: Key,
}

impl Get {
    async fn run(self, context: &Context) -> Result<String, Failure> {
        let client = context.target.client()?;
        let read = client.settings(self.fresh).await?;
        let mut values = read.found.values.clone();
        if let Some(name) = self.name {
            let Some(value) = values.remove(&name) else {
                return Err(unknown(&name));
            };
            values = BTreeMap::from([(name, value)]);
        }
        let json = || shape::read(json!(values), &read);
        Ok(context.show(json, || table(values.iter())))
    }
}

impl Set {
    async fn run(self, context: &Context) -> Result<String, Failure> {
        let names: Vec<_> = self.values.iter().map(|(name, _)| name.clone()).collect();
        if let Some(twice) = (1..names.len()).find(|at| names[..*at].contains(&names[*at])) {
            let name = &names[twice];
            return Err(Failure::usage(format!("{name} is given twice")));
        }
        let call = self.key.on(UpdateSettingsCall::from_iter(self.values));
        let written = context.target.client()?.update_settings(call).await?;
        let all = &written.made.values;
        let json = || shape::written(json!(all), &written);
        Ok(context.show(json, || {
            let named = all.iter().filter(|(name, _)| names.contains(name));
            table(named)
        }))
    }
}

/// The cluster has no setting of this name.
fn unknown(name: &str) -> Failure {
    let message = match name.parse::<Setting>() {
        Err(rejection) => rejection.to_string(),
        Ok(_) => format!("the cluster runs an older release, which has no setting {name:?}"),
    };
    Failure::new(Exit::Rejected, "unknown_setting", message)
}

fn table<'a>(values: impl Iterator<Item = (&'a String, &'a u64)>) -> String {
    output::columns!(values, |(name, value)| {
        "SETTING": name,
        "VALUE": unit(name).show(*value),
    })
}

/// The unit of a setting; none of one that this build does not know.
fn unit(name: &str) -> Unit {
    name.parse()
        .map_or(Unit::Count, |it: Setting| it.info().unit)
}

/// `name=value`. The cluster knows which names there are: here they decide on the unit only.
fn assignment(text: &str) -> Result<(String, u64), String> {
    let (name, value) = args::pair(text).map_err(|_| "it must have the form NAME=VALUE")?;
    let unit = unit(&name);
    let expected = match unit {
        Unit::Milliseconds => "milliseconds or a time such as 24h",
        Unit::Bytes => "bytes or a size such as 64MiB",
        Unit::Count => "a whole number",
    };
    let value = unit.parse(&value);
    let value = value.ok_or_else(|| format!("{name} takes {expected}"))?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_takes_the_units_of_its_setting() {
        for (text, value) in [
            ("events_max=1_000_000", 1_000_000),
            ("event_bytes_max=64MiB", 64 << 20),
            ("event_bytes_max=1024", 1024),
            ("key_retention_ms=24h", 86_400_000),
            ("key_retention_ms=5000", 5000),
            ("from_a_newer_release=7", 7),
        ] {
            let name = text.split('=').next().unwrap_or_default().to_owned();
            assert_eq!(assignment(text), Ok((name, value)), "{text}");
        }
        for bad in [
            "events_max",
            "events_max=",
            "events_max=-1",
            "events_max=1KiB",
            "event_bytes_max=24h",
            "event_bytes_max=99999999999GiB",
            "key_retention_ms=64MiB",
        ] {
            assert!(assignment(bad).is_err(), "{bad}");
        }
    }
}
