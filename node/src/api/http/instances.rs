//! `/v1/machines/{machine}/instances`: creates and lists.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderName, LOCATION};
use lockstep_machine::{
    Command, Create, Created, InstanceId, InstanceName, InstanceView, Metadata, StateName, Version,
};
use lockstep_proto::v1;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::answer;
use super::input::{Key, MachinePath};
use super::json::JsonBody;
use super::query::{Label, Limit, PageCursor, Prefix, Query, query};
use crate::api::call::{Call, read_at};
use crate::api::names;
use crate::api::problem::Problem;
use crate::service::{Freshness, PageAsked};

/// A requested instance.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBody {
    /// Its name within the machine; if absent, one that sorts by time is generated.
    id: Option<InstanceName>,
    /// The version to pin it to; default: the newest.
    version: Option<Version>,
    /// Stored with the instance; lists can filter by it.
    #[serde(default)]
    metadata: Metadata,
}

answer! {
    /// An instance that was created.
    CreationBody = Created { created: Created }
}

/// A page of instances, in order of id.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PageBody {
    instances: Vec<InstanceView>,
    /// Where the next page starts; null on the last. A page may be short and still have a next one.
    next_cursor: Option<String>,
    /// How many instances the machine has, in the requested state if there is one.
    total: u64,
    #[serde(flatten)]
    read_at: v1::ReadAt,
}

pub(super) async fn create(
    call: Call,
    MachinePath(machine): MachinePath,
    Query(()): Query<()>,
    Key(key): Key,
    JsonBody(body): JsonBody<CreateBody>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<CreationBody>), Problem> {
    let name = match body.id {
        Some(name) => name,
        None => names::made(&machine, key.as_ref())?,
    };
    let location = format!("/v1/machines/{machine}/instances/{name}");
    let command = Command::Create(Create {
        instance: InstanceId::from_parts(machine, name),
        version: body.version,
        metadata: body.metadata,
    });
    let created = call.write(command, key).await?;
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(created)))
}

query! {
    Filters {
        /// Only instances in this state.
        state: Option<StateName>,
        /// Only instances whose name has this prefix.
        prefix: Option<Prefix>,
        /// Only instances with this metadata entry: key=value.
        label: Option<Label>,
        /// Maximum number of instances on the page; default 100.
        limit: Option<Limit>,
        /// `next_cursor` of the previous page; the filters must be the same.
        cursor: Option<PageCursor>,
    }
}

pub(super) async fn list(
    call: Call,
    MachinePath(machine): MachinePath,
    Query((filters, freshness)): Query<(Filters, Freshness)>,
) -> Result<Json<PageBody>, Problem> {
    let asked = PageAsked {
        machine,
        state: filters.state,
        prefix: filters.prefix.map(|it| it.0).unwrap_or_default(),
        label: filters.label.map(|it| it.0),
        limit: filters.limit.map(|it| it.0),
        cursor: filters.cursor.map(|it| it.0),
    };
    let asked = asked.check()?;
    let view = call.view(freshness).await?;
    let listed = view.list(&asked)?;
    let instances = listed.instances.iter();
    let shown = |(id, instance): &(InstanceId, _)| view.state.view(id, instance);
    Ok(Json(PageBody {
        instances: instances.map(shown).collect(),
        next_cursor: listed.next_cursor,
        total: listed.total,
        read_at: read_at(&view),
    }))
}
