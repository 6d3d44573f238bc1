//! `/v1/machines`: definitions and their versions.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use lockstep_machine::{Command, Defined, Definition, DefinitionDeleted, DeleteDefinition};
use lockstep_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::answer;
use super::input::{Key, MachinePath};
use super::json::DocumentBody;
use super::query::{DryRun, OneVersion, Query};
use crate::api::call::{Call, read_at};
use crate::api::problem::Problem;
use crate::service::{Document, Freshness};

answer! {
    /// A definition that is stored.
    StoredBody = Defined {
        #[serde(flatten)]
        defined: Defined,
        dry_run,
    }
}

/// A definition that is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DefinedBody {
    #[serde(flatten)]
    stored: StoredBody,
    /// Its timeouts by state, to show how each duration was read.
    timeouts: BTreeMap<String, v1::StateTimeout>,
}

/// A machine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MachineBody {
    #[serde(flatten)]
    summary: v1::MachineSummary,
    /// The definition of that version.
    definition: Definition,
    versions: Vec<v1::VersionSummary>,
    #[serde(flatten)]
    read_at: v1::ReadAt,
}

answer! {
    /// Versions of a machine that were deleted.
    DefinitionDeletedBody = DefinitionDeleted {
        #[serde(flatten)]
        deleted: DefinitionDeleted,
    }
}

pub(super) async fn define(
    call: Call,
    Query(DryRun { dry_run }): Query<DryRun>,
    Key(key): Key,
    DocumentBody { language, text }: DocumentBody,
) -> Result<(StatusCode, Json<DefinedBody>), Problem> {
    let document = Document {
        language,
        text: &text,
    };
    let service = &call.edge.service;
    let defined = service.define(document, dry_run, key, call.left());
    let (reply, definition) = defined.await?;
    let mut stored = StoredBody::try_from(reply)?;
    stored.dry_run = dry_run;
    let status = match stored.defined.created && !dry_run {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    let timeouts = v1::StateTimeout::all(&definition);
    Ok((status, Json(DefinedBody { stored, timeouts })))
}

pub(super) async fn list(
    call: Call,
    Query(freshness): Query<Freshness>,
) -> Result<Json<v1::ListMachinesResponse>, Problem> {
    call.machines(freshness).await.map(Json)
}

pub(super) async fn show(
    call: Call,
    MachinePath(machine): MachinePath,
    Query((asked, freshness)): Query<(OneVersion, Freshness)>,
) -> Result<Json<MachineBody>, Problem> {
    let view = call.view(freshness).await?;
    let (version, definition) = view.machine(&machine, asked.version)?;
    let totals = view.state.totals(&machine).unwrap_or_default();
    Ok(Json(MachineBody {
        summary: v1::MachineSummary::of(&machine, version, definition, &totals),
        definition: definition.clone(),
        versions: v1::VersionSummary::all(&totals),
        read_at: read_at(&view),
    }))
}

pub(super) async fn delete(
    call: Call,
    MachinePath(machine): MachinePath,
    Query(OneVersion { version }): Query<OneVersion>,
    Key(key): Key,
) -> Result<Json<DefinitionDeletedBody>, Problem> {
    let command = Command::DeleteDefinition(DeleteDefinition { machine, version });
    call.write(command, key).await.map(Json)
}
