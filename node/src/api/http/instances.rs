//! `/v1/machines/{machine}/instances`: creates and lists.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{HeaderName, LOCATION};
use axum::http::{HeaderMap, StatusCode, Uri};
use lockstep_machine::{
    Command, Create, Created, InstanceId, InstanceName, InstanceView, MachineName, Outcome, Version,
};
use lockstep_proto::ErrorCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Edge;
use super::body::{Pairs, Written, outcome, unknown_outcome};
use super::described::{
    self, Ahead, Full, HowFresh, Malformed, Missing, Name, OnlyOnce, Prefix, Refused, Unanswered,
    Unread, VersionNumber,
};
use super::input::{self, MachinePath, Parameters, idempotency_key};
use super::problem::Problem;
use crate::api::names;
use crate::service::PageAsked;

/// A requested instance.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBody {
    /// Its name within the machine; a sortable one is made without it.
    #[schema(value_type = Option<Name>)]
    id: Option<InstanceName>,
    /// The version to pin it to; the newest without it.
    #[schema(value_type = Option<VersionNumber>)]
    version: Option<Version>,
    /// Kept with the instance, where a list can ask for it.
    #[schema(value_type = Option<described::Pairs>)]
    metadata: Option<Pairs>,
}

/// An instance that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreationBody {
    created: Created,
    #[serde(flatten)]
    written: Written,
}

/// A page of instances, in order of id.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PageBody {
    instances: Vec<InstanceView>,
    /// Where the next page starts; null on the last. A page may be short and still have a next one.
    next_cursor: Option<String>,
    /// How many instances the machine has, in the requested state if there is one.
    total: u64,
    applied_index: u64,
    /// The cluster's.
    revision: u64,
}

/// Creates an instance in its machine's initial state. Without an id, one is made; it follows from the
/// idempotency key if there is one.
#[utoipa::path(
    post, path = "/v1/machines/{machine}/instances", operation_id = "create_instance", tag = "instances",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        OnlyOnce,
    ),
    request_body = CreateBody,
    responses(
        (status = 201, body = CreationBody, description = "Created", headers(("Location" = String, description = "Where it is"))),
        Malformed, Unread, Missing, Refused, Full, Unanswered,
    ),
)]
pub(super) async fn create(
    State(edge): State<Arc<Edge>>,
    path: MachinePath,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<CreationBody>), Problem> {
    let began = Instant::now();
    let machine = input::machine(path)?;
    Parameters::parse(&uri, &[])?;
    let key = idempotency_key(&headers)?;
    let body: CreateBody = edge.json(&headers, body).await?;
    let name = match body.id {
        Some(name) => name,
        None => names::made(&machine, key.as_ref())?,
    };
    let location = format!("/v1/machines/{machine}/instances/{name}");
    let command = Command::Create(Create {
        instance: InstanceId::from_parts(machine, name),
        version: body.version,
        metadata: body.metadata.unwrap_or_default().into_metadata()?,
    });
    let (outcome, written) = outcome(edge.execute(command, key, began).await?)?;
    let Outcome::Created(created) = outcome else {
        return Err(unknown_outcome());
    };
    let body = Json(CreationBody { created, written });
    Ok((StatusCode::CREATED, [(LOCATION, location)], body))
}

/// Instances of a machine, in order of id, page by page.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/instances", operation_id = "list_instances", tag = "instances",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        ("state" = Option<Name>, Query, description = "Only those in this state"),
        ("prefix" = Option<Prefix>, Query, description = "Only those whose name starts like this"),
        ("label" = Option<String>, Query, pattern = "^[^=]*=", description = "Only those with this metadata entry: key=value"),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "Instances on the page at most; 100 without it"),
        ("cursor" = Option<String>, Query, pattern = "^[0-9a-f]{18,144}$", description = "next_cursor of the page before, with the same filters"),
        HowFresh,
    ),
    responses(
        (status = 200, body = PageBody, description = "A page"),
        Malformed, Missing, Ahead, Unanswered,
    ),
)]
pub(super) async fn list(
    State(edge): State<Arc<Edge>>,
    path: MachinePath,
    uri: Uri,
) -> Result<Json<PageBody>, Problem> {
    let began = Instant::now();
    let machine = input::machine(path)?;
    let known = [
        "state",
        "prefix",
        "label",
        "limit",
        "cursor",
        "consistency",
        "min_revision",
    ];
    let parameters = Parameters::parse(&uri, &known)?;
    let asked = asked(machine, &parameters)?.check()?;
    let view = edge.view(parameters.freshness()?, began).await?;
    let listed = view.list(&asked)?;
    let instances = listed.instances.iter();
    let shown = |(id, instance): &(InstanceId, _)| view.state.view(id, instance);
    Ok(Json(PageBody {
        instances: instances.map(shown).collect(),
        next_cursor: listed.next_cursor,
        total: listed.total,
        applied_index: view.applied_index,
        revision: view.state.revision().0,
    }))
}

fn asked(machine: MachineName, parameters: &Parameters) -> Result<PageAsked, Problem> {
    let label = match parameters.get("label").map(|label| label.split_once('=')) {
        None => None,
        Some(Some((key, value))) => Some((key.to_owned(), value.to_owned())),
        Some(None) => {
            let detail = "parameter \"label\" must be key=value";
            return Err(Problem::new(ErrorCode::InvalidParameter, detail));
        }
    };
    Ok(PageAsked {
        machine,
        state: parameters.name("state")?,
        prefix: parameters.get("prefix").unwrap_or_default().to_owned(),
        label,
        limit: parameters.number("limit", 0, u64::MAX)?,
        cursor: parameters.get("cursor").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query_text: &str) -> Result<PageAsked, &'static str> {
        let uri = format!("/?{query_text}").parse().unwrap();
        let known = ["state", "prefix", "label", "limit", "cursor"];
        Parameters::parse(&uri, &known)
            .and_then(|parameters| asked(MachineName::new("order").unwrap(), &parameters))
            .map_err(|problem| problem.code)
    }

    #[test]
    fn a_list_is_filtered_and_bounded() {
        let some = parsed("state=paid&prefix=a&label=by%3Dann%3Db&limit=7&cursor=c").unwrap();
        assert_eq!(some.state.unwrap().as_str(), "paid");
        assert_eq!(some.label, Some(("by".to_owned(), "ann=b".to_owned())));
        assert_eq!((some.prefix.as_str(), some.limit), ("a", Some(7)));
        assert_eq!(some.cursor.as_deref(), Some("c"));
        for bad in ["limit=x", "limit=-1", "label=by"] {
            assert_eq!(parsed(bad).unwrap_err(), "invalid_parameter", "{bad}");
        }
        assert_eq!(parsed("state=a%20b").unwrap_err(), "invalid_name");
        assert_eq!(parsed("prefix=").unwrap().prefix, "");
    }

    #[test]
    fn what_may_not_be_asked_is_a_bad_request() {
        for (bad, code) in [
            ("limit=0", "invalid_parameter"),
            ("limit=1001", "invalid_parameter"),
            ("cursor=x", "invalid_cursor"),
        ] {
            let problem = Problem::from(parsed(bad).unwrap().check().unwrap_err());
            assert_eq!(
                (problem.status.as_u16(), problem.code),
                (400, code),
                "{bad}"
            );
        }
    }
}
