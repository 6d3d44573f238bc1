//! Diagrams of machines.

use std::sync::Arc;

use lockstep_document::diagram::{Diagram, DiagramTooLarge};
use lockstep_machine::{InstanceId, InstanceName, MachineName, Rejection, Version};
use lockstep_proto::ErrorCode;
use tokio::sync::Semaphore;

use super::View;

/// One layout at a time: the largest takes seconds, and the node has other things to do.
static LAYOUTS: Semaphore = Semaphore::const_new(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureFormat {
    Mermaid,
    Dot,
    Svg,
}

/// What a picture shows of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Depicted {
    /// A version; without it that of the instance, if one is named, else the newest.
    pub version: Option<Version>,
    /// An instance, whose current state is highlighted, with the transitions in its history.
    pub instance: Option<InstanceName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub version: Version,
    pub text: String,
}

/// Why a machine could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    #[error(transparent)]
    Absent(#[from] Box<Rejection>),
    #[error(transparent)]
    TooLarge(#[from] DiagramTooLarge),
    #[error("the layout of the diagram failed: {0}; retry, and report this as a bug")]
    Unfinished(String),
}

impl PictureError {
    pub fn code(&self) -> ErrorCode {
        match self {
            PictureError::Absent(rejection) => (&**rejection).into(),
            PictureError::TooLarge(_) => ErrorCode::PictureTooLarge,
            PictureError::Unfinished(_) => ErrorCode::Internal,
        }
    }
}

impl View {
    /// Draws a machine, off the runtime's threads.
    pub async fn draw(
        &self,
        machine: &MachineName,
        depicted: Depicted,
        format: PictureFormat,
    ) -> Result<Picture, PictureError> {
        let (newest, _) = self.machine(machine, depicted.version)?;
        let (version, current, history) = match depicted.instance {
            None => (newest, None, vec![]),
            Some(name) => {
                let found = self.instance(&InstanceId::from_parts(machine.clone(), name))?;
                let version = depicted.version.unwrap_or(found.version);
                let history = found.history().filter(|event| event.version == version);
                let history = history.cloned().collect();
                (version, Some(found.state.clone()), history)
            }
        };
        let (version, definition) = self.machine(machine, Some(version))?;
        let definition = definition.clone();
        let permit = match format {
            PictureFormat::Mermaid | PictureFormat::Dot => None,
            PictureFormat::Svg => LAYOUTS.acquire().await.ok(),
        };
        // A layout, or a large definition, takes too long for an async thread.
        let draw = move || {
            // Until it is done, even if no request waits for it any more.
            let _permit = permit;
            let diagram = Diagram::of(&definition, current.as_ref())
                .with_path(history.iter().map(Arc::as_ref));
            match format {
                PictureFormat::Mermaid => Ok(diagram.mermaid()),
                PictureFormat::Dot => Ok(diagram.dot()),
                PictureFormat::Svg => diagram.svg(),
            }
        };
        let text = tokio::task::spawn_blocking(draw)
            .await
            .map_err(|error| PictureError::Unfinished(error.to_string()))??;
        Ok(Picture { version, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::State;

    async fn drawn(depicted: Depicted, format: PictureFormat) -> Result<Picture, &'static str> {
        let view = View {
            state: State::default(),
            applied_index: 1,
        };
        let machine = MachineName::new("triad").unwrap();
        let drawn = view.draw(&machine, depicted, format).await;
        drawn.map_err(|error| error.code().as_str())
    }

    #[tokio::test]
    async fn a_picture_shows_a_version_or_an_instance() {
        let of = |name| Depicted {
            version: None,
            instance: Some(InstanceName::new(name).unwrap()),
        };
        for (format, start, mark) in [
            (PictureFormat::Mermaid, "stateDiagram", "current"),
            (PictureFormat::Dot, "digraph", "fillcolor"),
            (PictureFormat::Svg, "<?xml", "ffd54f"),
        ] {
            let plain = drawn(Depicted::default(), format).await.unwrap();
            assert!(plain.text.starts_with(start), "{plain:?}");
            assert!(!plain.text.to_lowercase().contains(mark), "{plain:?}");
            let marked = drawn(of("default"), format).await;
            let marked = marked.unwrap();
            assert_eq!(marked.version, Version(1));
            assert!(marked.text.to_lowercase().contains(mark), "{marked:?}");
        }
        let missing = drawn(of("none"), PictureFormat::Dot).await;
        assert_eq!(missing, Err("unknown_instance"));
        let ninth = Depicted {
            version: Some(Version(9)),
            ..of("default")
        };
        let missing = drawn(ninth, PictureFormat::Dot).await;
        assert_eq!(missing, Err("unknown_version"));
    }
}
