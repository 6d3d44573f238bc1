//! Reading machines: what users define.

use lockstep_machine::{Definition, InstanceId, MachineName, Version, json};
use lockstep_proto::v1::{MachineSummary, PictureFormat, VersionSummary};
use lockstep_proto::{Malformed, v1};
use serde::Serialize;

use crate::client::{Client, required};
use crate::error::Error;
use crate::freshness::{Freshness, Read};
use crate::setters::setters;

/// A machine in full.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// In short.
    #[serde(flatten)]
    pub summary: MachineSummary,
    /// The definition of the version in the summary.
    pub definition: Definition,
    /// Every version, oldest first.
    pub versions: Vec<VersionSummary>,
}

/// A machine, drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Its text, in the requested format.
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
    }

    /// The version that an instance is pinned to, with the instance's current state and the
    /// transitions in its history highlighted.
    pub fn instance(instance: &InstanceId) -> Self {
        let mut call = Self::machine(&instance.machine);
        call.0.instance = Some(instance.name().to_owned());
        call
    }

    /// In this format; Mermaid without it.
    pub fn format(mut self, format: PictureFormat) -> Self {
        self.0.set_format(format);
        self
    }
}

setters! {
    [DrawCall].0 {
        /// This version. Not for an instance: it is pinned to one.
        version: Version => Some(version.0),
        /// How fresh the answer must be; linearizable without it.
        freshness: impl Into<Freshness> => Some(freshness.into().into()),
    }
}

impl Client {
    /// Every machine, in order of name.
    pub async fn machines(
        &self,
        freshness: impl Into<Freshness>,
    ) -> Result<Read<Vec<MachineSummary>>, Error> {
        let request = v1::ListMachinesRequest {
            freshness: Some(freshness.into().into()),
        };
        self.read(request, |answer| Ok((answer.machines, answer.read_at)))
            .await
    }

    /// A machine with its definition: the newest version, or the requested one.
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
            let machine = Machine {
                summary: required("summary", answer.summary)?,
                definition: definition(&answer.definition)?,
                versions: answer.versions,
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

/// The cluster has validated it, under limits of its own.
fn definition(json: &str) -> Result<Definition, Malformed> {
    let explain = |fault: serde_json::Error| json::explain(&fault.to_string());
    serde_json::from_str(json).map_err(|fault| Malformed::new("definition", explain(fault)))
}
