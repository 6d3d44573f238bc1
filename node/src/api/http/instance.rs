//! `/v1/machines/{machine}/instances/{instance}`: one instance: read, deleted, migrated.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use lockstep_machine::{
    Command, Delete, Deleted, Event, Instance, InstanceId, InstanceView, Metadata, Migrate,
    Migrated, Outcome, Revision, StateName, Version,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Edge;
use super::body::{Pairs, Written, outcome, unknown_outcome};
use super::described::{
    self, Ahead, HowFresh, Malformed, Missing, Name, OnlyOnce, Refused, RevisionNumber,
    StateMapping, Unanswered, Unread, VersionNumber,
};
use super::input::{self, IdPath, Parameters, idempotency_key};
use super::problem::Problem;
use crate::service::View;

/// An instance, and how fresh it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownBody {
    #[serde(flatten)]
    instance: InstanceView,
    applied_index: u64,
    /// The cluster's; `revision` is the instance's own.
    cluster_revision: u64,
}

/// What happened to an instance, as far as it is remembered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistoryBody {
    id: String,
    /// The instance's.
    instance_revision: u64,
    /// The oldest revision of the instance whose change is remembered; null if none is.
    oldest_revision: Option<u64>,
    /// Oldest first.
    #[schema(value_type = Vec<Event>)]
    events: Vec<Arc<Event>>,
    applied_index: u64,
    /// The cluster's.
    revision: u64,
}

/// An instance that was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeleteBody {
    deleted: Deleted,
    #[serde(flatten)]
    written: Written,
}

/// A requested migration.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MigrateBody {
    /// The version to pin it to; the newest without it.
    #[schema(value_type = Option<VersionNumber>)]
    version: Option<Version>,
    /// Where a state of the old version goes; one that is not there keeps its name.
    #[schema(value_type = Option<StateMapping>)]
    states: Option<Pairs>,
    #[schema(value_type = Option<Name>)]
    expect_state: Option<StateName>,
    #[schema(value_type = Option<RevisionNumber>)]
    expect_revision: Option<Revision>,
    #[schema(value_type = Option<described::Pairs>)]
    metadata: Option<Pairs>,
}

/// A migration that was made, or would be.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MigrationBody {
    migrated: Migrated,
    /// Whether this was a dry run, which changes nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(flatten)]
    written: Written,
}

/// An instance.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/instances/{instance}", operation_id = "show_instance", tag = "instances",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        ("instance" = Name, Path, example = "default", description = "The instance's name within the machine"),
        HowFresh,
    ),
    responses(
        (status = 200, body = ShownBody, description = "The instance"),
        Malformed, Missing, Ahead, Unanswered,
    ),
)]
pub(super) async fn show(
    State(edge): State<Arc<Edge>>,
    path: IdPath,
    uri: Uri,
) -> Result<Json<ShownBody>, Problem> {
    let began = Instant::now();
    let id = input::instance(path)?;
    let parameters = Parameters::parse(&uri, &["consistency", "min_revision"])?;
    let view = edge.view(parameters.freshness()?, began).await?;
    shown(&id, &view).map(Json)
}

fn shown(id: &InstanceId, view: &View) -> Result<ShownBody, Problem> {
    let instance = find(id, view)?;
    Ok(ShownBody {
        instance: view.state.view(id, instance),
        applied_index: view.applied_index,
        cluster_revision: view.state.revision().0,
    })
}

fn find<'a>(id: &InstanceId, view: &'a View) -> Result<&'a Instance, Problem> {
    view.instance(id).map_err(|unknown| {
        Problem::from(unknown)
            .with("applied_index", view.applied_index)
            .with("revision", view.state.revision().0)
    })
}

/// What happened to an instance, oldest first.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/instances/{instance}/history", operation_id = "instance_history", tag = "instances",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        ("instance" = Name, Path, example = "default", description = "The instance's name within the machine"),
        HowFresh,
    ),
    responses(
        (status = 200, body = HistoryBody, description = "Its history"),
        Malformed, Missing, Ahead, Unanswered,
    ),
)]
pub(super) async fn history(
    State(edge): State<Arc<Edge>>,
    path: IdPath,
    uri: Uri,
) -> Result<Json<HistoryBody>, Problem> {
    let began = Instant::now();
    let id = input::instance(path)?;
    let parameters = Parameters::parse(&uri, &["consistency", "min_revision"])?;
    let view = edge.view(parameters.freshness()?, began).await?;
    let instance = find(&id, &view)?;
    Ok(Json(HistoryBody {
        id: id.to_string(),
        instance_revision: instance.revision.0,
        oldest_revision: instance.oldest_kept().map(|revision| revision.0),
        events: instance.history().cloned().collect(),
        applied_index: view.applied_index,
        revision: view.state.revision().0,
    }))
}

/// Deletes an instance, with its history.
#[utoipa::path(
    delete, path = "/v1/machines/{machine}/instances/{instance}", operation_id = "delete_instance", tag = "instances",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        ("instance" = Name, Path, example = "default", description = "The instance's name within the machine"),
        ("expect_state" = Option<Name>, Query, description = "Refuse unless it is in this state"),
        ("expect_revision" = Option<RevisionNumber>, Query, description = "Refuse unless it is at this revision"),
        OnlyOnce,
    ),
    responses(
        (status = 200, body = DeleteBody, description = "Deleted"),
        Malformed, Missing, Refused, Unanswered,
    ),
)]
pub(super) async fn delete(
    State(edge): State<Arc<Edge>>,
    path: IdPath,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<DeleteBody>, Problem> {
    let began = Instant::now();
    let instance = input::instance(path)?;
    let parameters = Parameters::parse(&uri, &["expect_state", "expect_revision"])?;
    let command = Command::Delete(Delete {
        instance,
        expect_state: parameters.name("expect_state")?,
        expect_revision: parameters
            .number("expect_revision", 0, u64::MAX)?
            .map(Revision),
        metadata: Metadata::default(),
    });
    let key = idempotency_key(&headers)?;
    let (outcome, written) = outcome(edge.execute(command, key, began).await?)?;
    let Outcome::Deleted(deleted) = outcome else {
        return Err(unknown_outcome());
    };
    Ok(Json(DeleteBody { deleted, written }))
}

/// Pins an instance to another version of its machine.
#[utoipa::path(
    post, path = "/v1/machines/{machine}/instances/{instance}/migrate", operation_id = "migrate_instance", tag = "instances",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        ("instance" = Name, Path, example = "default", description = "The instance's name within the machine"),
        ("dry_run" = Option<bool>, Query, description = "Only say what would happen"),
        OnlyOnce,
    ),
    request_body = MigrateBody,
    responses(
        (status = 200, body = MigrationBody, description = "Migrated, or what a dry run found"),
        Malformed, Unread, Missing, Refused, Unanswered,
    ),
)]
pub(super) async fn migrate(
    State(edge): State<Arc<Edge>>,
    path: IdPath,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<MigrationBody>, Problem> {
    let began = Instant::now();
    let instance = input::instance(path)?;
    let dry_run = Parameters::parse(&uri, &["dry_run"])?.flag("dry_run")?;
    let key = idempotency_key(&headers)?;
    let body: MigrateBody = edge.json(&headers, body).await?;
    let command = Command::Migrate(body.into_migrate(instance)?);
    let reply = if dry_run {
        edge.service.dry_run(&command, edge.left(began)).await?
    } else {
        edge.execute(command, key, began).await?
    };
    let (outcome, written) = outcome(reply)?;
    let Outcome::Migrated(migrated) = outcome else {
        return Err(unknown_outcome());
    };
    Ok(Json(MigrationBody {
        migrated,
        dry_run,
        written,
    }))
}

impl MigrateBody {
    fn into_migrate(self, instance: InstanceId) -> Result<Migrate, Problem> {
        Ok(Migrate {
            instance,
            version: self.version,
            states: self.states.unwrap_or_default().into_states()?,
            expect_state: self.expect_state,
            expect_revision: self.expect_revision,
            metadata: self.metadata.unwrap_or_default().into_metadata()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn view() -> View {
        View {
            state: lockstep_machine::State::default(),
            applied_index: 9,
        }
    }

    #[test]
    fn a_read_shows_the_instance_and_how_fresh_it_is() {
        let id = InstanceId::new("triad", "default").unwrap();
        assert_eq!(
            serde_json::to_value(shown(&id, &view()).unwrap()).unwrap(),
            json!({
                "id": "triad/default", "version": 1, "state": "first", "revision": 0,
                "created_at": null, "changed_at": null, "allowed": ["second", "third"],
                "applied_index": 9, "cluster_revision": 0
            })
        );
    }

    #[test]
    fn a_missing_instance_is_not_found() {
        let problem = shown(&InstanceId::new("triad", "x").unwrap(), &view()).unwrap_err();
        assert_eq!(
            (problem.status.as_u16(), problem.code),
            (404, "unknown_instance")
        );
    }

    #[test]
    fn a_migration_maps_each_state_once() {
        let id = || InstanceId::new("order", "1").unwrap();
        let read = |text: &str| serde_json::from_str::<MigrateBody>(text).unwrap();
        let migrate = read(r#"{"version":2,"states":{"paid":"settled"}}"#)
            .into_migrate(id())
            .unwrap();
        assert_eq!(migrate.version, Some(Version(2)));
        assert_eq!(migrate.states.len(), 1);
        let twice = read(r#"{"states":{"paid":"settled","paid":"open"}}"#);
        assert_eq!(twice.into_migrate(id()).unwrap_err().code, "invalid_body");
    }
}
