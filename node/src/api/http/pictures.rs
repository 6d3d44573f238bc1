//! A definition as a document or a diagram.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use lockstep_machine::{InstanceName, Version};

use super::input::MachinePath;
use super::query::{OneVersion, Query, query};
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::service::{Depicted, Freshness, Language, PictureFormat, View};

query! {
    Written {
        /// JSON without it.
        format: Language,
    }
}

pub(super) async fn definition(
    call: Call,
    MachinePath(machine): MachinePath,
    Query((asked, (written, freshness))): Query<(OneVersion, (Written, Freshness))>,
) -> Result<Response, Problem> {
    let view = call.view(freshness).await?;
    let (version, definition) = view.machine(&machine, asked.version)?;
    let (media_type, text) = match written.format {
        Language::Json => (
            "application/json",
            lockstep_document::to_json(definition) + "\n",
        ),
        Language::Yaml => ("application/yaml", lockstep_document::to_yaml(definition)),
    };
    Ok(document(&view, version, media_type, text))
}

query! {
    Drawn {
        /// Mermaid without it.
        format: PictureFormat,
        /// An instance of the machine: its state is highlighted, in its own version unless `version` is
        /// given.
        instance: Option<InstanceName>,
    }
}

pub(super) async fn graph(
    call: Call,
    MachinePath(machine): MachinePath,
    Query((drawn, (asked, freshness))): Query<(Drawn, (OneVersion, Freshness))>,
) -> Result<Response, Problem> {
    let depicted = Depicted {
        version: asked.version,
        instance: drawn.instance,
    };
    let media_type = match drawn.format {
        PictureFormat::Mermaid => "text/plain; charset=utf-8",
        PictureFormat::Dot => "text/vnd.graphviz; charset=utf-8",
        PictureFormat::Svg => "image/svg+xml",
    };
    let view = call.view(freshness).await?;
    let picture = view.draw(&machine, depicted, drawn.format).await?;
    Ok(document(&view, picture.version, media_type, picture.text))
}

/// Text that cannot carry how fresh it is: the headers do.
fn document(view: &View, version: Version, media_type: &'static str, text: String) -> Response {
    let headers = [
        (CONTENT_TYPE.as_str(), media_type.to_owned()),
        (CACHE_CONTROL.as_str(), "no-store".to_owned()),
        ("lockstep-version", version.to_string()),
        ("lockstep-applied-index", view.applied_index.to_string()),
        ("lockstep-revision", view.state.revision().to_string()),
    ];
    (StatusCode::OK, headers, text).into_response()
}
