//! `/v1/machines`: definitions, their versions, and how they look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use lockstep_machine::{
    Command, Defined, Definition, DefinitionDeleted, DefinitionFault, MachineName, Outcome, Totals,
    Version,
};
use lockstep_proto::ErrorCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Edge;
use super::body::{Written, outcome, unknown_outcome};
use super::described::{
    Ahead, DefinitionDocument, Full, HowFresh, Malformed, Missing, Name, OnlyOnce, Refused,
    Unanswered, Unread, VersionNumber,
};
use super::input::{self, MachinePath, Parameters, idempotency_key, is_json, media_type};
use super::problem::Problem;
use crate::service::{Document, Language};

/// A definition that is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DefinedBody {
    machine: String,
    version: u32,
    /// Whether the version is new; if not, the newest one was equal already.
    created: bool,
    warnings: Vec<DefinitionFault>,
    /// Whether this was a dry run, which stores nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(flatten)]
    written: Written,
}

/// A machine in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MachineSummary {
    machine: String,
    /// The newest version.
    version: u32,
    description: String,
    /// How many instances there are.
    instances: u64,
    /// How many there are in each state that has any.
    states: BTreeMap<String, u64>,
}

/// Every machine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MachinesBody {
    machines: Vec<MachineSummary>,
    applied_index: u64,
    /// The cluster's.
    revision: u64,
}

/// A version of a machine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VersionSummary {
    version: u32,
    /// How many instances are pinned to it.
    instances: u64,
}

/// A machine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MachineBody {
    #[serde(flatten)]
    summary: MachineSummary,
    /// The definition of that version.
    #[schema(value_type = DefinitionDocument)]
    definition: Value,
    versions: Vec<VersionSummary>,
    applied_index: u64,
    /// The cluster's.
    revision: u64,
}

/// Versions of a machine that were forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DefinitionDeletedBody {
    machine: String,
    versions: Vec<u32>,
    #[serde(flatten)]
    written: Written,
}

/// Stores a definition: the machine's first version, or its next one.
#[utoipa::path(
    post, path = "/v1/machines", operation_id = "define_machine", tag = "machines",
    params(
        ("dry_run" = Option<bool>, Query, description = "Validate only"),
        OnlyOnce,
    ),
    request_body(description = "A definition", content(
        (DefinitionDocument = "application/json"), (DefinitionDocument = "application/yaml"),
    )),
    responses(
        (status = 201, body = DefinedBody, description = "A new version"),
        (status = 200, body = DefinedBody, description = "The newest version is equal already, or a dry run"),
        Malformed, Unread, Refused, Full, Unanswered,
    ),
)]
pub(super) async fn define(
    State(edge): State<Arc<Edge>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<DefinedBody>), Problem> {
    let began = Instant::now();
    let dry_run = Parameters::parse(&uri, &["dry_run"])?.flag("dry_run")?;
    let key = idempotency_key(&headers)?;
    let language = language(&headers)?;
    let limits = &edge.local.limits;
    let text = input::collect(body, limits.body_bytes_max, limits.request_timeout).await?;
    let text = std::str::from_utf8(&text)
        .map_err(|error| Problem::new(ErrorCode::MalformedDocument, error))?;
    let document = Document { language, text };
    let defining = edge
        .service
        .define(document, dry_run, key, edge.left(began));
    let (outcome, written) = outcome(defining.await?)?;
    let Outcome::Defined(defined) = outcome else {
        return Err(unknown_outcome());
    };
    let status = if defined.created && !dry_run {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(DefinedBody::new(defined, dry_run, written))))
}

fn language(headers: &HeaderMap) -> Result<Language, Problem> {
    if is_json(headers) {
        return Ok(Language::Json);
    }
    match media_type(headers).as_deref() {
        Some("application/yaml" | "application/x-yaml" | "text/yaml") => Ok(Language::Yaml),
        _ => Err(input::unsupported(
            "the body must be a definition, with Content-Type: application/json or application/yaml",
        )),
    }
}

/// Every machine, with how many instances it has.
#[utoipa::path(
    get, path = "/v1/machines", operation_id = "list_machines", tag = "machines",
    params(
        HowFresh,
    ),
    responses(
        (status = 200, body = MachinesBody, description = "The machines"),
        Malformed, Ahead, Unanswered,
    ),
)]
pub(super) async fn list(
    State(edge): State<Arc<Edge>>,
    uri: Uri,
) -> Result<Json<MachinesBody>, Problem> {
    let began = Instant::now();
    let parameters = Parameters::parse(&uri, &["consistency", "min_revision"])?;
    let view = edge.view(parameters.freshness()?, began).await?;
    let machines = view.state.machines().map(|(name, version, definition)| {
        let totals = view.state.totals(name).unwrap_or_default();
        MachineSummary::new(name, version, definition, &totals)
    });
    Ok(Json(MachinesBody {
        machines: machines.collect(),
        applied_index: view.applied_index,
        revision: view.state.revision().0,
    }))
}

/// A machine: its newest version or the requested one.
#[utoipa::path(
    get, path = "/v1/machines/{machine}", operation_id = "show_machine", tag = "machines",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        ("version" = Option<VersionNumber>, Query, description = "A version; the newest without it"),
        HowFresh,
    ),
    responses(
        (status = 200, body = MachineBody, description = "The machine"),
        Malformed, Missing, Ahead, Unanswered,
    ),
)]
pub(super) async fn show(
    State(edge): State<Arc<Edge>>,
    path: MachinePath,
    uri: Uri,
) -> Result<Json<MachineBody>, Problem> {
    let began = Instant::now();
    let machine = input::machine(path)?;
    let parameters = Parameters::parse(&uri, &["version", "consistency", "min_revision"])?;
    let asked = parameters.version()?;
    let view = edge.view(parameters.freshness()?, began).await?;
    let (version, definition) = view.machine(&machine, asked)?;
    let totals = view.state.totals(&machine).unwrap_or_default();
    let versions = totals
        .versions
        .iter()
        .map(|(version, instances)| VersionSummary {
            version: version.0,
            instances: *instances,
        });
    Ok(Json(MachineBody {
        summary: MachineSummary::new(&machine, version, definition, &totals),
        definition: serde_json::from_str(&lockstep_document::to_json(definition))
            .unwrap_or_default(),
        versions: versions.collect(),
        applied_index: view.applied_index,
        revision: view.state.revision().0,
    }))
}

/// Forgets a machine, or one version of it, that no instance uses.
#[utoipa::path(
    delete, path = "/v1/machines/{machine}", operation_id = "delete_machine", tag = "machines",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        ("version" = Option<VersionNumber>, Query, description = "One version; all without it"),
        OnlyOnce,
    ),
    responses(
        (status = 200, body = DefinitionDeletedBody, description = "Forgotten"),
        Malformed, Missing, Refused, Unanswered,
    ),
)]
pub(super) async fn delete(
    State(edge): State<Arc<Edge>>,
    path: MachinePath,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<DefinitionDeletedBody>, Problem> {
    let began = Instant::now();
    let machine = input::machine(path)?;
    let version = Parameters::parse(&uri, &["version"])?.version()?;
    let key = idempotency_key(&headers)?;
    let command =
        Command::DeleteDefinition(lockstep_machine::DeleteDefinition { machine, version });
    let (outcome, written) = outcome(edge.execute(command, key, began).await?)?;
    let Outcome::DefinitionDeleted(DefinitionDeleted { machine, versions }) = outcome else {
        return Err(unknown_outcome());
    };
    Ok(Json(DefinitionDeletedBody {
        machine: machine.to_string(),
        versions: versions.iter().map(|version| version.0).collect(),
        written,
    }))
}

impl DefinedBody {
    fn new(it: Defined, dry_run: bool, written: Written) -> Self {
        Self {
            machine: it.machine.to_string(),
            version: it.version.0,
            created: it.created,
            warnings: it.warnings,
            dry_run,
            written,
        }
    }
}

impl MachineSummary {
    fn new(name: &MachineName, version: Version, definition: &Definition, totals: &Totals) -> Self {
        let states = totals.states.iter();
        Self {
            machine: name.to_string(),
            version: version.0,
            description: definition.description.clone(),
            instances: totals.instances,
            states: states.map(|(state, n)| (state.to_string(), *n)).collect(),
        }
    }
}
