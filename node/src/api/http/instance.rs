//! `/v1/machines/{machine}/instances/{instance}`: one instance: read, deleted, migrated.

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{ETAG, HeaderName};
use lockstep_machine::{
    Command, Delete, Deleted, Event, Instance, InstanceId, InstanceView, Migrate, Migrated,
    Revision, StateName,
};
use lockstep_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::answer;
use super::input::{IfMatch, InstancePath, Key, expect};
use super::json::InstanceBody;
use super::query::{DryRun, Query, query};
use crate::api::call::{Call, read_at};
use crate::api::problem::Problem;
use crate::service::{Freshness, View};

/// An instance, and how fresh it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownBody {
    #[serde(flatten)]
    instance: InstanceView,
    applied_index: u64,
    /// The cluster's; `revision` is the instance's own.
    cluster_revision: u64,
}

/// The last changes of an instance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistoryBody {
    id: String,
    /// The instance's.
    instance_revision: u64,
    /// The oldest revision in the history; null if the history is empty.
    oldest_revision: Option<u64>,
    /// Oldest first.
    #[schema(value_type = Vec<Event>)]
    events: Vec<Arc<Event>>,
    #[serde(flatten)]
    read_at: v1::ReadAt,
}

answer! {
    /// An instance that was deleted.
    DeletedBody = Deleted { deleted: Deleted }
}

answer! {
    /// A migration that was made, or would be.
    MigrationBody = Migrated { migrated: Migrated, dry_run }
}

pub(super) async fn show(
    call: Call,
    InstancePath(id): InstancePath,
    Query(freshness): Query<Freshness>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<ShownBody>), Problem> {
    let shown = shown(&id, &call.view(freshness).await?)?;
    let etag = format!("\"{}\"", shown.instance.revision);
    Ok((StatusCode::OK, [(ETAG, etag)], Json(shown)))
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

pub(super) async fn history(
    call: Call,
    InstancePath(id): InstancePath,
    Query(freshness): Query<Freshness>,
) -> Result<Json<HistoryBody>, Problem> {
    let view = call.view(freshness).await?;
    let instance = find(&id, &view)?;
    Ok(Json(HistoryBody {
        id: id.to_string(),
        instance_revision: instance.revision.0,
        oldest_revision: instance.oldest_kept().map(|revision| revision.0),
        events: instance.history().cloned().collect(),
        read_at: read_at(&view),
    }))
}

query! {
    Expected {
        /// Reject unless it is in this state.
        expect_state: Option<StateName>,
        /// Reject unless it is at this revision.
        expect_revision: Option<Revision>,
    }
}

pub(super) async fn delete(
    call: Call,
    Query(query): Query<Expected>,
    Key(key): Key,
    if_match: IfMatch,
    InstanceBody(mut delete): InstanceBody<Delete>,
) -> Result<Json<DeletedBody>, Problem> {
    expect("expect_state", &mut delete.expect_state, query.expect_state)?;
    let expected = &mut delete.expect_revision;
    expect("expect_revision", expected, query.expect_revision)?;
    if_match.add_to(expected)?;
    let deleted = call.write(Command::Delete(delete), key).await;
    deleted.map(Json).map_err(|it| if_match.refusal(it))
}

pub(super) async fn migrate(
    call: Call,
    Query(DryRun { dry_run }): Query<DryRun>,
    Key(key): Key,
    if_match: IfMatch,
    InstanceBody(mut migrate): InstanceBody<Migrate>,
) -> Result<Json<MigrationBody>, Problem> {
    if_match.add_to(&mut migrate.expect_revision)?;
    let command = Command::Migrate(migrate);
    let migrated: Result<MigrationBody, _> = match dry_run {
        true => call.dry_run(&command).await,
        false => call.write(command, key).await,
    };
    let mut migrated = migrated.map_err(|it| if_match.refusal(it))?;
    migrated.dry_run = dry_run;
    Ok(Json(migrated))
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
                "created_at": null, "changed_at": null, "allowed": ["second", "third"], "events": [],
                "applied_index": 9, "cluster_revision": 0
            })
        );
    }

    #[test]
    fn a_missing_instance_is_not_found() {
        let problem = shown(&InstanceId::new("triad", "x").unwrap(), &view()).unwrap_err();
        assert_eq!(
            (problem.status.as_u16(), problem.code.as_str()),
            (404, "unknown_instance")
        );
    }
}
