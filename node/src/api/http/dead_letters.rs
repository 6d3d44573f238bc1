//! `/v1/sinks/{sink}/dead-letters`: the events that a destination rejected permanently.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use lockstep_machine::{DeadLetter, EventCursor};
use lockstep_proto::ErrorCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Edge;
use super::described::{
    EventPlace, EventPlaceOrAll, Malformed, Missing, Refused, SinkName, Unanswered,
};
use super::input::{self, Parameters, SinkPath};
use super::problem::Problem;
use crate::api::dead_letters::DeadLetterPage;

/// A page of dead letters, in the order of their events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLettersBody {
    dead_letters: Vec<DeadLetter>,
    /// The cursor of the next page; null on the last.
    next_cursor: Option<EventCursor>,
}

/// Dead letters to be replayed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MarkedBody {
    /// How many.
    marked: u64,
}

/// Discarded dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DiscardedBody {
    /// How many.
    discarded: u64,
}

/// The events that the destination of a sink rejected permanently, in order, page by page.
#[utoipa::path(
    get, path = "/v1/sinks/{sink}/dead-letters", operation_id = "list_dead_letters", tag = "sinks",
    params(
        ("sink" = SinkName, Path, description = "The sink"),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "Dead letters on the page at most; 100 without it"),
        ("cursor" = Option<EventPlace>, Query, description = "next_cursor of the previous page"),
    ),
    responses(
        (status = 200, body = DeadLettersBody, description = "A page"),
        Malformed, Missing, Unanswered,
    ),
)]
pub(super) async fn list(
    State(edge): State<Arc<Edge>>,
    path: SinkPath,
    uri: Uri,
) -> Result<Json<DeadLettersBody>, Problem> {
    let began = Instant::now();
    let sink = input::sink(path)?;
    let parameters = Parameters::parse(&uri, &["limit", "cursor"])?;
    let limit = parameters.number("limit", 0, u64::MAX)?;
    let DeadLetterPage { after, limit } = DeadLetterPage::check(limit, parameters.get("cursor"))?;
    let left = edge.left(began);
    let (letters, next) = edge.sinks.dead_letters(&sink, after, limit, left).await?;
    Ok(Json(DeadLettersBody {
        dead_letters: letters,
        next_cursor: next,
    }))
}

/// Requests that one dead letter, or all, be delivered again. One that the destination accepts is removed.
#[utoipa::path(
    post, path = "/v1/sinks/{sink}/dead-letters/replay", operation_id = "replay_dead_letters", tag = "sinks",
    params(
        ("sink" = SinkName, Path, description = "The sink"),
        ("event" = EventPlaceOrAll, Query, description = "The cursor of its event, or all"),
    ),
    responses(
        (status = 202, body = MarkedBody, description = "They will be delivered again"),
        Malformed, Missing, Refused, Unanswered,
    ),
)]
pub(super) async fn replay(
    State(edge): State<Arc<Edge>>,
    path: SinkPath,
    uri: Uri,
) -> Result<(StatusCode, Json<MarkedBody>), Problem> {
    let began = Instant::now();
    let sink = input::sink(path)?;
    let which = which(&uri)?;
    let marked = edge.sinks.replay(&sink, which, edge.left(began)).await?;
    Ok((StatusCode::ACCEPTED, Json(MarkedBody { marked })))
}

/// Discards one dead letter, or all: their events will never be delivered.
#[utoipa::path(
    post, path = "/v1/sinks/{sink}/dead-letters/discard", operation_id = "discard_dead_letters", tag = "sinks",
    params(
        ("sink" = SinkName, Path, description = "The sink"),
        ("event" = EventPlaceOrAll, Query, description = "The cursor of its event, or all"),
    ),
    responses(
        (status = 200, body = DiscardedBody, description = "They are discarded"),
        Malformed, Missing, Refused, Unanswered,
    ),
)]
pub(super) async fn discard(
    State(edge): State<Arc<Edge>>,
    path: SinkPath,
    uri: Uri,
) -> Result<Json<DiscardedBody>, Problem> {
    let began = Instant::now();
    let sink = input::sink(path)?;
    let which = which(&uri)?;
    let discarded = edge.sinks.discard(&sink, which, edge.left(began)).await?;
    Ok(Json(DiscardedBody { discarded }))
}

/// The requested dead letter; `None` for all, which a caller must request explicitly.
fn which(uri: &Uri) -> Result<Option<EventCursor>, Problem> {
    let parameters = Parameters::parse(uri, &["event"])?;
    let text = parameters.require("event")?;
    if text == "all" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let detail =
            "parameter \"event\" must be the cursor of an event, revision-position, or all";
        Problem::new(ErrorCode::InvalidParameter, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{
        Cause, Event, EventKind, GlobalRevision, InstanceName, MachineName, Metadata, Revision,
        StateName, Timestamp, Version,
    };
    use serde_json::json;

    #[test]
    fn a_dead_letter_is_identified_by_its_cursor() {
        let event = Event {
            revision: GlobalRevision(7),
            position: 2,
            kind: EventKind::Created,
            machine: MachineName::new("order").unwrap(),
            name: Some(InstanceName::new("42").unwrap()),
            version: Version(1),
            from_version: None,
            from: None,
            to: Some(StateName::new("open").unwrap()),
            event: None,
            instance_revision: Revision(0),
            at: Timestamp(1_700_000_000_000),
            cause: Cause::Request,
            metadata: Metadata::default(),
        };
        let letter = DeadLetter {
            event: Arc::new(event),
            reason: "a column is too short".to_owned(),
            attempts: 2,
            buried_at: Timestamp(1_700_000_001_000),
            tried_at: Timestamp(1_700_000_002_000),
            replay_wanted: false,
        };
        assert_eq!(
            serde_json::to_value(&letter).unwrap(),
            json!({
                "place": "7-2",
                "event": {
                    "revision": 7, "position": 2, "kind": "created", "machine": "order",
                    "id": "order/42", "version": 1, "to": "open", "instance_revision": 0,
                    "at": "2023-11-14T22:13:20.000Z", "cause": "request"
                },
                "reason": "a column is too short", "attempts": 2,
                "buried_at": "2023-11-14T22:13:21.000Z", "tried_at": "2023-11-14T22:13:22.000Z",
                "replay_wanted": false
            })
        );
    }

    #[test]
    fn one_is_requested_by_its_cursor_and_all_only_explicitly() {
        let which = |query: &str| {
            let uri = format!("/?{query}").parse().unwrap();
            which(&uri).map_err(|problem| problem.code)
        };
        assert_eq!(which("event=all"), Ok(None));
        assert_eq!(which(""), Err("missing_parameter"));
        let place = EventCursor {
            revision: GlobalRevision(7),
            position: 2,
        };
        assert_eq!(which("event=7-2"), Ok(Some(place)));
        assert_eq!(which("event="), Err("invalid_parameter"));
        assert_eq!(which("event=7"), Err("invalid_parameter"));
        assert_eq!(which("events=7-2"), Err("unknown_parameter"));
    }
}
