//! A definition as a document or a diagram.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use lockstep_machine::{Definition, InstanceName, Version};

use super::described::{Ahead, Malformed, Missing, Unanswered};
use super::input::{Call, MachinePath};
use super::problem::{Problem, ProblemBody};
use super::query::{OneVersion, Query, query};
use crate::service::{Depicted, Freshness, Language, PictureFormat, View};

query! {
    /// How a definition is written.
    Written {
        /// JSON without it.
        format: Option<Language>,
    }
}

/// A definition, in a form that can be stored again.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/definition", operation_id = "machine_definition", tag = "machines",
    params(MachinePath, OneVersion, Written, Freshness),
    responses(
        (status = 200, description = "The definition; its version and the cluster's revision are in the headers", content(
            (Definition = "application/json"), (Definition = "application/yaml"),
        )),
        Malformed, Missing, Ahead, Unanswered,
    ),
)]
pub(super) async fn definition(
    call: Call,
    MachinePath(machine): MachinePath,
    Query((asked, (written, freshness))): Query<(OneVersion, (Written, Freshness))>,
) -> Result<Response, Problem> {
    let view = call.view(freshness).await?;
    let (version, definition) = view.machine(&machine, asked.version)?;
    let (media_type, text) = match written.format.unwrap_or(Language::Json) {
        Language::Json => (
            "application/json",
            lockstep_document::to_json(definition) + "\n",
        ),
        Language::Yaml => ("application/yaml", lockstep_document::to_yaml(definition)),
    };
    Ok(document(&view, version, media_type, text))
}

query! {
    /// How a machine is drawn.
    Drawn {
        /// Mermaid without it.
        format: Option<PictureFormat>,
        /// An instance of the machine: its state is highlighted, in its own version unless `version` is
        /// given.
        instance: Option<InstanceName>,
    }
}

/// A diagram of a machine, optionally with an instance's state highlighted.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/graph", operation_id = "machine_graph", tag = "machines",
    params(MachinePath, Drawn, OneVersion, Freshness),
    responses(
        (status = 200, description = "The picture", content(
            (String = "text/plain"), (String = "text/vnd.graphviz"), (String = "image/svg+xml"),
        )),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "`picture_too_large`: too many states or arrows for an SVG"),
        (status = 500, body = ProblemBody, content_type = "application/problem+json", description = "`internal`: the layout failed"),
        Malformed, Missing, Ahead, Unanswered,
    ),
)]
pub(super) async fn graph(
    call: Call,
    MachinePath(machine): MachinePath,
    Query((drawn, (asked, freshness))): Query<(Drawn, (OneVersion, Freshness))>,
) -> Result<Response, Problem> {
    let depicted = Depicted {
        version: asked.version,
        instance: drawn.instance,
    };
    let format = drawn.format.unwrap_or(PictureFormat::Mermaid);
    let media_type = match format {
        PictureFormat::Mermaid => "text/plain; charset=utf-8",
        PictureFormat::Dot => "text/vnd.graphviz; charset=utf-8",
        PictureFormat::Svg => "image/svg+xml",
    };
    let view = call.view(freshness).await?;
    let picture = view.draw(&machine, depicted, format).await?;
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
