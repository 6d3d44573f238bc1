//! `/v1/machines/{machine}/instances`: creates and lists.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{HeaderName, LOCATION};
use axum::http::{HeaderMap, StatusCode, Uri};
use lockstep_machine::{
    Command, Create, IdempotencyKey, InstanceId, InstanceName, ListQuery, MachineName, Outcome,
    Rejection, StateName, Version,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::Edge;
use super::body::{CreatedBody, InstanceBody, Pairs, Written, outcome, unknown_outcome};
use super::described::{
    self, Ahead, Full, HowFresh, Malformed, Missing, Name, OnlyOnce, Prefix, Refused, Unanswered,
    Unread, VersionNumber,
};
use super::input::{self, MachinePath, Parameters, idempotency_key, whole};
use super::problem::Problem;

/// Instances on a page, unless the caller asks for fewer or more.
const LIMIT_DEFAULT: u64 = 100;
/// Instances on a page at most.
const LIMIT_MAX: u64 = 1000;
/// Instances looked at for one page at most.
const SCAN_MAX: usize = 10_000;

/// An instance that is asked for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBody {
    /// Its name within the machine; a sortable one is made without it.
    #[schema(value_type = Option<Name>)]
    id: Option<InstanceName>,
    /// The version to pin it to; the newest without it.
    #[serde(default, deserialize_with = "whole")]
    #[schema(value_type = Option<VersionNumber>)]
    version: Option<u32>,
    /// Kept with the instance, where a list can ask for it.
    #[schema(value_type = Option<described::Pairs>)]
    metadata: Option<Pairs>,
}

/// An instance that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreationBody {
    created: CreatedBody,
    #[serde(flatten)]
    written: Written,
}

/// A page of instances, in order of id.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PageBody {
    instances: Vec<InstanceBody>,
    /// Where the next page starts; null on the last. A page may be short and still have a next one.
    next_cursor: Option<String>,
    /// How many instances the machine has, in the state asked for if there is one.
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
    let name = match (body.id, &key) {
        (Some(name), _) => name,
        (None, Some(key)) => named_after(&machine, key)?,
        (None, None) => sortable()?,
    };
    let location = format!("/v1/machines/{machine}/instances/{name}");
    let command = Command::Create(Create {
        instance: InstanceId::from_parts(machine, name),
        version: body.version.map(Version),
        metadata: body.metadata.unwrap_or_default().into_metadata()?,
    });
    let (outcome, written) = outcome(edge.execute(command, key, began).await?)?;
    let Outcome::Created(created) = outcome else {
        return Err(unknown_outcome());
    };
    let created = created.into();
    let body = Json(CreationBody { created, written });
    Ok((StatusCode::CREATED, [(LOCATION, location)], body))
}

/// A new name: 26 characters, in order of time.
fn sortable() -> Result<InstanceName, Problem> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = now.map_or(0, |since| since.as_millis() as u64);
    let id = ulid::Ulid::from_parts(ms, rand::random());
    Ok(InstanceName::new(id.to_string().to_ascii_lowercase())?)
}

/// The name that a repeat under the same key gets, too: a new one would be another request.
fn named_after(machine: &MachineName, key: &IdempotencyKey) -> Result<InstanceName, Problem> {
    let hash = xxh3_128(format!("{machine}/{key}").as_bytes());
    let id = ulid::Ulid(hash);
    Ok(InstanceName::new(id.to_string().to_ascii_lowercase())?)
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
    let query = query(machine.clone(), &parameters)?;
    let view = edge.view(parameters.freshness()?, began).await?;
    let unknown = || Rejection::UnknownMachine {
        machine: machine.clone(),
    };
    let totals = view.state.totals(&machine).ok_or_else(unknown)?;
    let total = match &query.state {
        None => totals.instances,
        Some(state) => totals.states.get(state).copied().unwrap_or_default(),
    };
    let page = view.state.list(&query);
    let instances = page.instances.iter();
    let body = |(id, instance): &(InstanceId, _)| InstanceBody::of(&view.state, id, instance);
    Ok(Json(PageBody {
        instances: instances.map(body).collect(),
        next_cursor: page.next.map(|id| cursor(&query, id.name())),
        total,
        applied_index: view.applied_index,
        revision: view.state.revision().0,
    }))
}

fn query(machine: MachineName, parameters: &Parameters) -> Result<ListQuery, Problem> {
    let invalid = |detail: &str| Problem::bad_request("invalid_parameter", detail);
    let label = match parameters.get("label").map(|label| label.split_once('=')) {
        None => None,
        Some(Some((key, value))) => Some((key.to_owned(), value.to_owned())),
        Some(None) => return Err(invalid("parameter \"label\" must be key=value")),
    };
    let limit = parameters.number("limit", 1, LIMIT_MAX)?;
    let mut query = ListQuery {
        machine: Some(machine.clone()),
        state: parameters.name::<StateName>("state")?,
        prefix: parameters.prefix()?.unwrap_or_default(),
        label,
        after: None,
        limit: limit.unwrap_or(LIMIT_DEFAULT) as usize,
        scan_max: SCAN_MAX,
    };
    if let Some(text) = parameters.get("cursor") {
        let name = read_cursor(&query, text).ok_or_else(|| {
            let detail = "the cursor is not one that was given for this machine and these filters";
            Problem::bad_request("invalid_cursor", detail)
        })?;
        query.after = Some(InstanceId::from_parts(machine, name));
    }
    Ok(query)
}

/// A place in a list, as text: the checksum over place and filters, and the name, in hexadecimal.
fn cursor(query: &ListQuery, name: &str) -> String {
    let hex = |byte: &u8| format!("{byte:02x}");
    let name_hex: String = name.as_bytes().iter().map(hex).collect();
    format!("{:016x}{name_hex}", checksum(query, name))
}

fn read_cursor(query: &ListQuery, text: &str) -> Option<InstanceName> {
    let (_, name_hex) = text.split_at_checked(16)?;
    if !name_hex.is_ascii() || name_hex.len() % 2 != 0 {
        return None;
    }
    let bytes = (0..name_hex.len()).step_by(2);
    let bytes: Option<Vec<u8>> = bytes
        .map(|at| u8::from_str_radix(&name_hex[at..at + 2], 16).ok())
        .collect();
    let name = InstanceName::new(String::from_utf8(bytes?).ok()?).ok()?;
    (cursor(query, name.as_str()) == text).then_some(name)
}

/// What ties a cursor to the list it was given for.
fn checksum(query: &ListQuery, name: &str) -> u64 {
    let filters = (&query.machine, &query.state, &query.prefix, &query.label);
    xxh3_64(format!("{filters:?} {name:?}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query_text: &str) -> Result<ListQuery, &'static str> {
        let uri = format!("/?{query_text}").parse().unwrap();
        let known = ["state", "prefix", "label", "limit", "cursor"];
        Parameters::parse(&uri, &known)
            .and_then(|parameters| query(MachineName::new("order").unwrap(), &parameters))
            .map_err(|problem| problem.code)
    }

    #[test]
    fn a_list_is_bounded_and_filtered() {
        let all = parsed("").unwrap();
        assert_eq!((all.limit, all.scan_max), (100, 10_000));
        let some = parsed("state=paid&prefix=a&label=by%3Dann%3Db&limit=1000").unwrap();
        assert_eq!(some.label, Some(("by".to_owned(), "ann=b".to_owned())));
        assert_eq!(some.limit, 1000);
        for bad in ["limit=0", "limit=1001", "limit=x", "label=by"] {
            assert_eq!(parsed(bad), Err("invalid_parameter"), "{bad}");
        }
        for bad in ["state=a%20b", "prefix=a%20b", "prefix=-a"] {
            assert_eq!(parsed(bad), Err("invalid_name"), "{bad}");
        }
        assert_eq!(parsed("prefix=").unwrap().prefix, "");
    }

    #[test]
    fn an_altered_cursor_is_refused() {
        let good = cursor(&parsed("prefix=a").unwrap(), "a-17");
        let read = parsed(&format!("prefix=a&cursor={good}")).unwrap();
        assert_eq!(read.after.unwrap().name(), "a-17");
        assert_eq!(
            parsed(&format!("prefix=b&cursor={good}")),
            Err("invalid_cursor"),
            "another filter"
        );
        for at in 0..good.len() {
            let mut altered = good.clone().into_bytes();
            altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(
                parsed(&format!("prefix=a&cursor={altered}")),
                Err("invalid_cursor"),
                "{altered}"
            );
        }
        for bad in [
            "",
            "x",
            "%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4",
        ] {
            assert_eq!(parsed(&format!("cursor={bad}")), Err("invalid_cursor"));
        }
    }

    #[test]
    fn made_names_are_sortable_and_the_same_for_the_same_key() {
        let (one, other) = (sortable().unwrap(), sortable().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), 26);
        // The first ten characters are the time.
        assert!(one.as_str()[..10] <= other.as_str()[..10]);
        let key = |text| IdempotencyKey::new(text).unwrap();
        let name =
            |machine, text| named_after(&MachineName::new(machine).unwrap(), &key(text)).unwrap();
        assert_eq!(name("a", "k"), name("a", "k"));
        assert_ne!(name("a", "k"), name("a", "l"));
        assert_ne!(name("a", "k"), name("b", "k"));
    }
}
