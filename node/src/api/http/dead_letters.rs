//! `/v1/sinks/{sink}/dead-letters`: the events that a destination rejected permanently.

use axum::Json;
use axum::http::StatusCode;
use lockstep_machine::{DeadLetter, EventCursor};
use lockstep_proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::input::SinkPath;
use super::query::{EventOrAll, EventPageCursor, Limit, Query, query};
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::service::page_limit;

/// A page of dead letters, in the order of their events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLettersBody {
    dead_letters: Vec<DeadLetter>,
    /// The cursor of the next page; null on the last.
    next_cursor: Option<EventCursor>,
}

query! {
    Page {
        /// Maximum number of dead letters on the page; default 100.
        limit: Option<Limit>,
        /// `next_cursor` of the previous page.
        cursor: Option<EventPageCursor>,
    }
}

query! {
    Which {
        /// The cursor of its event, or all.
        event: EventOrAll,
    }
}

pub(super) async fn list(
    call: Call,
    SinkPath(sink): SinkPath,
    Query(page): Query<Page>,
) -> Result<Json<DeadLettersBody>, Problem> {
    let limit = page_limit(page.limit.map(|it| it.0))?;
    let after = page.cursor.map(|it| it.0);
    let sinks = &call.edge.sinks;
    let (dead_letters, next_cursor) = sinks.dead_letters(&sink, after, limit, call.left()).await?;
    Ok(Json(DeadLettersBody {
        dead_letters,
        next_cursor,
    }))
}

pub(super) async fn replay(
    call: Call,
    SinkPath(sink): SinkPath,
    Query(which): Query<Which>,
) -> Result<(StatusCode, Json<v1::DeadLettersMarked>), Problem> {
    let sinks = &call.edge.sinks;
    let count = sinks.replay(&sink, which.event.0, call.left()).await?;
    Ok((StatusCode::ACCEPTED, Json(v1::DeadLettersMarked { count })))
}

pub(super) async fn discard(
    call: Call,
    SinkPath(sink): SinkPath,
    Query(which): Query<Which>,
) -> Result<Json<v1::DeadLettersDiscarded>, Problem> {
    let sinks = &call.edge.sinks;
    let count = sinks.discard(&sink, which.event.0, call.left()).await?;
    Ok(Json(v1::DeadLettersDiscarded { count }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::tests::fixtures::event;
    use lockstep_machine::{Event, EventKind, Timestamp};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn a_dead_letter_is_identified_by_its_cursor() {
        let event = Event {
            position: 2,
            ..event(7, "order/42", EventKind::Created, Some("open"))
        };
        let letter = DeadLetter {
            event: Arc::new(event),
            reason: "a column is too short".to_owned(),
            attempts: 2,
            rejected_at: Timestamp(1_700_000_001_000),
            tried_at: Timestamp(1_700_000_002_000),
            replay_wanted: false,
        };
        assert_eq!(
            serde_json::to_value(&letter).unwrap(),
            json!({
                "cursor": "7-2",
                "event": {
                    "revision": 7, "position": 2, "kind": "created", "machine": "order",
                    "id": "order/42", "version": 1, "to": "open", "instance_revision": 7,
                    "at": "2023-11-14T22:13:20.007Z", "cause": "request"
                },
                "reason": "a column is too short", "attempts": 2,
                "rejected_at": "2023-11-14T22:13:21.000Z", "tried_at": "2023-11-14T22:13:22.000Z",
                "replay_wanted": false
            })
        );
    }
}
