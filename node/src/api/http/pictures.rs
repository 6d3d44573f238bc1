//! A definition as a document or as a picture.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use lockstep_machine::{InstanceName, Version};
use lockstep_proto::ErrorCode;

use super::Edge;
use super::described::{
    self, Ahead, DefinitionDocument, DefinitionFormat, HowFresh, Malformed, Missing, Name,
    Unanswered, VersionNumber,
};
use super::input::{self, MachinePath, Parameters};
use super::problem::{Problem, ProblemBody};
use crate::service::{Depicted, PictureFormat, View};

/// A definition as it could be sent again.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/definition", operation_id = "machine_definition", tag = "machines",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        ("version" = Option<VersionNumber>, Query, description = "A version; the newest without it"),
        ("format" = Option<DefinitionFormat>, Query, description = "JSON without it"),
        HowFresh,
    ),
    responses(
        (status = 200, description = "The definition; its version and the cluster's revision are in the headers", content(
            (DefinitionDocument = "application/json"), (DefinitionDocument = "application/yaml"),
        )),
        Malformed, Missing, Ahead, Unanswered,
    ),
)]
pub(super) async fn definition(
    State(edge): State<Arc<Edge>>,
    path: MachinePath,
    uri: Uri,
) -> Result<Response, Problem> {
    let began = Instant::now();
    let machine = input::machine(path)?;
    let known = ["version", "format", "consistency", "min_revision"];
    let parameters = Parameters::parse(&uri, &known)?;
    let asked = parameters.version()?;
    let as_yaml = match parameters.get("format") {
        None | Some("json") => false,
        Some("yaml") => true,
        Some(_) => return Err(invalid("parameter \"format\" must be json or yaml")),
    };
    let view = edge.view(parameters.freshness()?, began).await?;
    let (version, definition) = view.machine(&machine, asked)?;
    let (media_type, text) = if as_yaml {
        ("application/yaml", lockstep_document::to_yaml(definition))
    } else {
        (
            "application/json",
            lockstep_document::to_json(definition) + "\n",
        )
    };
    Ok(document(&view, version, media_type, text))
}

/// A machine as a picture, with an instance's state highlighted.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/graph", operation_id = "machine_graph", tag = "machines",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        ("format" = Option<described::PictureFormat>, Query, description = "Mermaid without it"),
        ("version" = Option<VersionNumber>, Query, description = "A version; the newest without it"),
        ("instance" = Option<Name>, Query, description = "An instance of the machine: its state is highlighted, in its own version unless `version` is given"),
        HowFresh,
    ),
    responses(
        (status = 200, description = "The picture", content(
            (String = "text/plain"), (String = "text/vnd.graphviz"), (String = "image/svg+xml"),
        )),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "`picture_too_large`: too many states or arrows for an SVG"),
        (status = 500, body = ProblemBody, content_type = "application/problem+json", description = "`internal`: the drawing ended early"),
        Malformed, Missing, Ahead, Unanswered,
    ),
)]
pub(super) async fn graph(
    State(edge): State<Arc<Edge>>,
    path: MachinePath,
    uri: Uri,
) -> Result<Response, Problem> {
    let began = Instant::now();
    let machine = input::machine(path)?;
    let known = [
        "format",
        "version",
        "instance",
        "consistency",
        "min_revision",
    ];
    let parameters = Parameters::parse(&uri, &known)?;
    let instance = parameters.name::<InstanceName>("instance")?;
    let depicted = Depicted {
        version: parameters.version()?,
        instance,
    };
    let (format, media_type) = match parameters.get("format") {
        None | Some("mermaid") => (PictureFormat::Mermaid, "text/plain; charset=utf-8"),
        Some("dot") => (PictureFormat::Dot, "text/vnd.graphviz"),
        Some("svg") => (PictureFormat::Svg, "image/svg+xml"),
        Some(_) => return Err(invalid("parameter \"format\" must be mermaid, dot or svg")),
    };
    let view = edge.view(parameters.freshness()?, began).await?;
    let picture = view.draw(&machine, depicted, format).await?;
    Ok(document(&view, picture.version, media_type, picture.text))
}

fn invalid(detail: &str) -> Problem {
    Problem::new(ErrorCode::InvalidParameter, detail)
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
