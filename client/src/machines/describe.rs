//! Which machines there are, and what they are.

use std::collections::BTreeMap;

use lockstep_machine::{Definition, Limits, MachineName, StateName, Version};
use lockstep_proto::v1;

use crate::client::Client;
use crate::error::Error;
use crate::freshness::{Freshness, Read};
use crate::wire::{Unreadable, parsed};

/// A machine in short.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MachineSummary {
    /// The machine.
    pub machine: MachineName,
    /// The newest version, or the one asked for.
    pub version: Version,
    /// What that version says about itself.
    pub description: String,
    /// How many instances there are, of all versions.
    pub instances: u64,
    /// How many there are in each state that has any.
    pub states: BTreeMap<StateName, u64>,
}

/// A version of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionSummary {
    /// Its number.
    pub version: Version,
    /// How many instances are pinned to it.
    pub instances: u64,
}

/// A machine in full.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// In short.
    pub summary: MachineSummary,
    /// The definition of the version in the summary.
    pub definition: Definition,
    /// Every version there is, oldest first.
    pub versions: Vec<VersionSummary>,
}

impl Client {
    /// Every machine, in order of name.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node could answer in time.
    pub async fn machines(
        &self,
        freshness: impl Into<Freshness>,
    ) -> Result<Read<Vec<MachineSummary>>, Error> {
        let message = v1::ListMachinesRequest {
            freshness: Some(freshness.into().to_message()),
        };
        self.read(message, |answer| {
            let machines = answer.machines.into_iter().map(summary);
            Read::new(machines.collect::<Result<_, _>>()?, answer.read_at)
        })
        .await
    }

    /// A machine with its definition: the newest version, or the one asked for.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such machine or version, [`Error::Unavailable`] when no
    /// node could answer in time.
    pub async fn machine(
        &self,
        machine: &MachineName,
        version: Option<Version>,
        freshness: impl Into<Freshness>,
    ) -> Result<Read<Machine>, Error> {
        let message = v1::GetMachineRequest {
            machine: machine.to_string(),
            version: version.map(|version| version.0),
            freshness: Some(freshness.into().to_message()),
        };
        self.read(message, |answer| {
            let summary = summary(answer.summary.ok_or("the answer has no summary")?)?;
            let definition = definition(&answer.definition)?;
            let versions = answer.versions.into_iter().map(|it| VersionSummary {
                version: Version(it.version),
                instances: it.instances,
            });
            let machine = Machine {
                summary,
                definition,
                versions: versions.collect(),
            };
            Read::new(machine, answer.read_at)
        })
        .await
    }
}

fn summary(wire: v1::MachineSummary) -> Result<MachineSummary, Unreadable> {
    let states = wire
        .states
        .iter()
        .map(|(state, count)| Ok((parsed("summary.states", state)?, *count)));
    Ok(MachineSummary {
        machine: parsed("summary.machine", &wire.machine)?,
        version: Version(wire.version),
        description: wire.description,
        instances: wire.instances,
        states: states.collect::<Result<_, Unreadable>>()?,
    })
}

/// The cluster has accepted it under limits of its own: here none but the answer's size holds.
fn definition(json: &str) -> Result<Definition, Unreadable> {
    let unlimited = Limits {
        states_max: u64::MAX,
        transitions_max: u64::MAX,
        document_bytes_max: u64::MAX,
        metadata_entries_max: u64::MAX,
        metadata_bytes_max: u64::MAX,
        ..Limits::default()
    };
    lockstep_document::parse_json(json, &unlimited).map_err(|fault| format!("definition: {fault}"))
}
