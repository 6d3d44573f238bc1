//! Reading machines: what users define.

use std::collections::BTreeMap;

use lockstep_machine::{Definition, InstanceId, Limits, MachineName, StateName, Version};
use lockstep_proto::{Malformed, v1};
use serde::Serialize;

use crate::client::{Client, required};
use crate::error::{Error, Fault};
use crate::freshness::{Freshness, Read};

/// A definition that is stored, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Defined {
    /// The machine.
    pub machine: MachineName,
    /// The version that holds the definition.
    pub version: Version,
    /// Whether the version is new; if not, the newest one was equal.
    pub created: bool,
    /// What is suspicious, but allowed.
    pub warnings: Vec<Fault>,
}

impl TryFrom<v1::Defined> for Defined {
    type Error = Malformed;

    fn try_from(it: v1::Defined) -> Result<Self, Malformed> {
        Ok(Self {
            machine: name("machine", &it.machine)?,
            version: Version(it.version),
            created: it.created,
            warnings: it.warnings.into_iter().map(Fault::from).collect(),
        })
    }
}

/// A machine in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineSummary {
    /// The machine.
    pub machine: MachineName,
    /// The newest version, or the one asked for.
    pub version: Version,
    /// The description in that version.
    pub description: String,
    /// The number of instances, of all versions.
    pub instances: u64,
    /// The number of instances in each state that has any.
    pub states: BTreeMap<StateName, u64>,
}

impl TryFrom<v1::MachineSummary> for MachineSummary {
    type Error = Malformed;

    fn try_from(it: v1::MachineSummary) -> Result<Self, Malformed> {
        let states = it.states.iter();
        Ok(Self {
            machine: name("machine", &it.machine)?,
            version: Version(it.version),
            description: it.description,
            instances: it.instances,
            states: states
                .map(|(state, count)| Ok((name("states", state)?, *count)))
                .collect::<Result<_, Malformed>>()?,
        })
    }
}

fn name<T: std::str::FromStr<Err: ToString>>(
    field: &'static str,
    text: &str,
) -> Result<T, Malformed> {
    text.parse().map_err(|fault| Malformed::new(field, fault))
}

/// A version of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct VersionSummary {
    /// Its number.
    pub version: Version,
    /// The number of instances pinned to it.
    pub instances: u64,
}

/// A machine in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// In short.
    pub summary: MachineSummary,
    /// The definition of the version in the summary.
    pub definition: Definition,
    /// Every version, oldest first.
    pub versions: Vec<VersionSummary>,
}

/// The format of a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PictureFormat {
    /// Mermaid, as Markdown viewers draw it.
    #[default]
    Mermaid,
    /// DOT, for Graphviz.
    Dot,
    /// SVG, laid out.
    Svg,
}

/// A machine, drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its text, in the format asked for.
    pub text: String,
    /// The version that it shows.
    pub version: Version,
}

/// A machine to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct DrawCall(v1::DrawMachineRequest);

impl DrawCall {
    /// A machine's newest version.
    pub fn machine(machine: &MachineName) -> Self {
        Self(v1::DrawMachineRequest {
            machine: machine.to_string(),
            ..Default::default()
        })
        .format(PictureFormat::default())
    }

    /// The version that an instance is pinned to, with the instance's current state highlighted.
    pub fn instance(instance: &InstanceId) -> Self {
        let mut call = Self::machine(&instance.machine);
        call.0.instance = Some(instance.name().to_owned());
        call
    }

    /// This version. Not for an instance: it is pinned to one.
    pub fn version(mut self, version: Version) -> Self {
        self.0.version = Some(version.0);
        self
    }

    /// In this format; Mermaid without it.
    pub fn format(mut self, format: PictureFormat) -> Self {
        self.0.set_format(match format {
            PictureFormat::Mermaid => v1::PictureFormat::Mermaid,
            PictureFormat::Dot => v1::PictureFormat::Dot,
            PictureFormat::Svg => v1::PictureFormat::Svg,
        });
        self
    }

    /// How fresh the answer must be; linearizable without it.
    pub fn freshness(mut self, freshness: impl Into<Freshness>) -> Self {
        self.0.freshness = Some(freshness.into().into());
        self
    }
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
        let request = v1::ListMachinesRequest {
            freshness: Some(freshness.into().into()),
        };
        self.read(request, |answer| {
            let machines = answer.machines.into_iter().map(TryInto::try_into);
            Ok((machines.collect::<Result<_, _>>()?, answer.read_at))
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
        let request = v1::GetMachineRequest {
            machine: machine.to_string(),
            version: version.map(|version| version.0),
            freshness: Some(freshness.into().into()),
        };
        self.read(request, |answer| {
            let versions = answer.versions.into_iter().map(|it| VersionSummary {
                version: Version(it.version),
                instances: it.instances,
            });
            let machine = Machine {
                summary: required("summary", answer.summary)?.try_into()?,
                definition: definition(&answer.definition)?,
                versions: versions.collect(),
            };
            Ok((machine, answer.read_at))
        })
        .await
    }

    /// A machine as the text of a picture.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such machine, version or instance, or the machine is too
    /// large for an SVG; [`Error::Unavailable`] when no node could answer in time.
    pub async fn draw(&self, call: DrawCall) -> Result<Read<Picture>, Error> {
        self.read(call.0, |answer| {
            let picture = Picture {
                text: answer.picture,
                version: Version(answer.version),
            };
            Ok((picture, answer.read_at))
        })
        .await
    }
}

/// The cluster has accepted it under its own limits: only the size of the response bounds it here.
fn definition(json: &str) -> Result<Definition, Malformed> {
    let unlimited = Limits {
        states_max: u64::MAX,
        transitions_max: u64::MAX,
        document_bytes_max: u64::MAX,
        metadata_entries_max: u64::MAX,
        metadata_bytes_max: u64::MAX,
        ..Limits::default()
    };
    lockstep_document::parse_json(json, &unlimited)
        .map_err(|fault| Malformed::new("definition", fault))
}
