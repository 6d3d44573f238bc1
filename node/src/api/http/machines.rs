//! `/v1/machines`: definitions, their versions and diagrams.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use lockstep_machine::{
    Command, Defined, Definition, DefinitionDeleted, DeleteDefinition, MachineName, Outcome,
    StateName, Totals, Version,
};
use lockstep_proto::ErrorCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Written, outcome, unknown_outcome};
use super::described::{Ahead, Full, Malformed, Missing, Refused, Unanswered, Unread};
use super::input::{Call, Key, MachinePath};
use super::json::{collect, is_json, media_type, unsupported};
use super::problem::Problem;
use super::query::{DryRun, OneVersion, Query};
use crate::service::{Document, Freshness, Language};

/// A definition that is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DefinedBody {
    #[serde(flatten)]
    defined: Defined,
    /// Whether this was a dry run, which stores nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(flatten)]
    written: Written,
}

/// A machine in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MachineSummary {
    machine: MachineName,
    /// The newest version.
    version: Version,
    description: String,
    /// How many instances there are.
    instances: u64,
    /// How many there are in each state that has any.
    states: BTreeMap<StateName, u64>,
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
    version: Version,
    /// How many instances are pinned to it.
    instances: u64,
}

/// A machine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MachineBody {
    #[serde(flatten)]
    summary: MachineSummary,
    /// The definition of that version.
    definition: Definition,
    versions: Vec<VersionSummary>,
    applied_index: u64,
    /// The cluster's.
    revision: u64,
}

/// Versions of a machine that were deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DefinitionDeletedBody {
    #[serde(flatten)]
    deleted: DefinitionDeleted,
    #[serde(flatten)]
    written: Written,
}

/// Stores a definition: the machine's first version, or its next one.
#[utoipa::path(
    post, path = "/v1/machines", operation_id = "define_machine", tag = "machines",
    params(DryRun, Key),
    request_body(description = "A definition", content(
        (Definition = "application/json"), (Definition = "application/yaml"),
    )),
    responses(
        (status = 201, body = DefinedBody, description = "A new version"),
        (status = 200, body = DefinedBody, description = "The newest version is already equal, or this was a dry run"),
        Malformed, Unread, Refused, Full, Unanswered,
    ),
)]
pub(super) async fn define(
    call: Call,
    Query(DryRun { dry_run }): Query<DryRun>,
    Key(key): Key,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<DefinedBody>), Problem> {
    let language = language(&headers)?;
    let limits = &call.edge.local.limits;
    let bytes_max = limits.body_bytes_max.max(call.document_bytes_max().await?);
    let text = collect(&headers, body, bytes_max, limits).await?;
    let text = std::str::from_utf8(&text).map_err(|error| {
        let at = error.valid_up_to();
        let detail = format!("the definition is not UTF-8 at byte {at}; send it as UTF-8");
        Problem::new(ErrorCode::MalformedDocument, detail)
    })?;
    let document = Document { language, text };
    let service = &call.edge.service;
    let defining = service.define(document, dry_run, key, call.left());
    let (outcome, written) = outcome(defining.await?)?;
    let Outcome::Defined(defined) = outcome else {
        return Err(unknown_outcome());
    };
    let status = match defined.created && !dry_run {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    let body = DefinedBody {
        defined,
        dry_run,
        written,
    };
    Ok((status, Json(body)))
}

fn language(headers: &HeaderMap) -> Result<Language, Problem> {
    match media_type(headers)?.as_deref() {
        Some(json) if is_json(json) => Ok(Language::Json),
        Some("application/yaml" | "application/x-yaml" | "text/yaml") => Ok(Language::Yaml),
        _ => Err(unsupported(
            "the body must be a definition, with Content-Type: application/json or application/yaml",
        )),
    }
}

/// Every machine, with how many instances it has.
#[utoipa::path(
    get, path = "/v1/machines", operation_id = "list_machines", tag = "machines",
    params(Freshness),
    responses(
        (status = 200, body = MachinesBody, description = "The machines"),
        Malformed, Ahead, Unanswered,
    ),
)]
pub(super) async fn list(
    call: Call,
    Query(freshness): Query<Freshness>,
) -> Result<Json<MachinesBody>, Problem> {
    let view = call.view(freshness).await?;
    let machines = view.state.machines().map(|(name, version, definition)| {
        let totals = view.state.totals(name).unwrap_or_default();
        MachineSummary::new(name, version, definition, totals)
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
    params(MachinePath, OneVersion, Freshness),
    responses(
        (status = 200, body = MachineBody, description = "The machine"),
        Malformed, Missing, Ahead, Unanswered,
    ),
)]
pub(super) async fn show(
    call: Call,
    MachinePath(machine): MachinePath,
    Query((asked, freshness)): Query<(OneVersion, Freshness)>,
) -> Result<Json<MachineBody>, Problem> {
    let view = call.view(freshness).await?;
    let (version, definition) = view.machine(&machine, asked.version)?;
    let mut totals = view.state.totals(&machine).unwrap_or_default();
    let versions = std::mem::take(&mut totals.versions).into_iter();
    let versions = versions.map(|(version, instances)| VersionSummary { version, instances });
    Ok(Json(MachineBody {
        summary: MachineSummary::new(&machine, version, definition, totals),
        definition: definition.clone(),
        versions: versions.collect(),
        applied_index: view.applied_index,
        revision: view.state.revision().0,
    }))
}

/// Deletes a machine, or one version of it, that no instance uses.
#[utoipa::path(
    delete, path = "/v1/machines/{machine}", operation_id = "delete_machine", tag = "machines",
    params(MachinePath, OneVersion, Key),
    responses(
        (status = 200, body = DefinitionDeletedBody, description = "Deleted"),
        Malformed, Missing, Refused, Unanswered,
    ),
)]
pub(super) async fn delete(
    call: Call,
    MachinePath(machine): MachinePath,
    Query(OneVersion { version }): Query<OneVersion>,
    Key(key): Key,
) -> Result<Json<DefinitionDeletedBody>, Problem> {
    let command = Command::DeleteDefinition(DeleteDefinition { machine, version });
    let (outcome, written) = outcome(call.execute(command, key).await?)?;
    let Outcome::DefinitionDeleted(deleted) = outcome else {
        return Err(unknown_outcome());
    };
    Ok(Json(DefinitionDeletedBody { deleted, written }))
}

impl MachineSummary {
    fn new(name: &MachineName, version: Version, definition: &Definition, totals: Totals) -> Self {
        Self {
            machine: name.clone(),
            version,
            description: definition.description.clone(),
            instances: totals.instances,
            states: totals.states,
        }
    }
}
