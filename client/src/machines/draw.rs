//! A machine as a picture.

use lockstep_machine::{InstanceId, MachineName, Version};
use lockstep_proto::v1;

use crate::client::Client;
use crate::error::Error;
use crate::freshness::{Freshness, Read};

/// In which language a picture is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PictureFormat {
    /// Mermaid, as Markdown viewers draw it.
    #[default]
    Mermaid,
    /// DOT, for Graphviz.
    Dot,
    /// SVG, laid out already.
    Svg,
}

/// A machine, drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Picture {
    /// Its text, in the format asked for.
    pub text: String,
    /// The version that it shows.
    pub version: Version,
}

/// A machine to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawCall {
    machine: MachineName,
    version: Option<Version>,
    instance: Option<InstanceId>,
    format: PictureFormat,
    freshness: Freshness,
}

impl DrawCall {
    /// A machine's newest version.
    pub fn machine(machine: &MachineName) -> Self {
        Self {
            machine: machine.clone(),
            version: None,
            instance: None,
            format: PictureFormat::default(),
            freshness: Freshness::default(),
        }
    }

    /// The version that an instance is pinned to, with the instance's current state highlighted.
    pub fn instance(instance: &InstanceId) -> Self {
        Self {
            instance: Some(instance.clone()),
            ..Self::machine(&instance.machine)
        }
    }

    /// This version; not together with an instance, which has its own.
    pub fn version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// In this language; Mermaid without it.
    pub fn format(mut self, format: PictureFormat) -> Self {
        self.format = format;
        self
    }

    /// Not older than this; linearizable without it.
    pub fn freshness(mut self, freshness: impl Into<Freshness>) -> Self {
        self.freshness = freshness.into();
        self
    }

    fn into_message(self) -> v1::DrawMachineRequest {
        let format = match self.format {
            PictureFormat::Mermaid => v1::PictureFormat::Mermaid,
            PictureFormat::Dot => v1::PictureFormat::Dot,
            PictureFormat::Svg => v1::PictureFormat::Svg,
        };
        v1::DrawMachineRequest {
            machine: self.machine.to_string(),
            version: self.version.map(|version| version.0),
            format: format.into(),
            instance: self.instance.map(|instance| instance.name().to_owned()),
            freshness: Some(self.freshness.to_message()),
        }
    }
}

impl Client {
    /// A machine as the text of a picture.
    ///
    /// # Errors
    /// [`Error::Rejected`] when there is no such machine, version or instance, or the machine is too
    /// large for an SVG; [`Error::Unavailable`] when no node could answer in time.
    pub async fn draw(&self, call: DrawCall) -> Result<Read<Picture>, Error> {
        self.read(call.into_message(), |answer| {
            let picture = Picture {
                text: answer.picture,
                version: Version(answer.version),
            };
            Read::new(picture, answer.read_at)
        })
        .await
    }
}
