//! `/v1/watch`: events as server-sent events.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use lockstep_machine::{Event, EventCursor, GlobalRevision, InstanceName, MachineName, StateName};
use serde_json::json;

use super::input::{LastEvent, MachinePath};
use super::query::{Instance, Prefix, Query, query};
use crate::api::Edge;
use crate::api::problem::Problem;
use crate::api::watchers::{Next, OpenWatch};
use crate::service::{WatchAsked, WatchEnded, WatchFrom};

/// A piece of text ends with the event that makes it longer than this.
const PIECE_BYTES: usize = 4 * 1024;

query! {
    Everything {
        /// Only of this machine.
        machine: Option<MachineName>,
        /// Only of this instance: machine/name, or its name if `machine` is given.
        instance: Option<Instance>,
    }
}

query! {
    OfMachine {
        /// Only of this instance: its name.
        instance: Option<InstanceName>,
    }
}

query! {
    Events {
        /// Only of instances whose name has this prefix.
        prefix: Option<Prefix>,
        /// Only changes into this state.
        state: Option<StateName>,
        /// Start at this revision of the cluster; default: after the latest.
        from_revision: Option<GlobalRevision>,
    }
}

pub(super) async fn all(
    State(edge): State<Arc<Edge>>,
    Query((of, events)): Query<(Everything, Events)>,
    last: LastEvent,
) -> Result<Response, Problem> {
    let instance = of.instance.map(|it| it.0);
    begin(&edge, of.machine, instance, events, last).await
}

pub(super) async fn machine(
    State(edge): State<Arc<Edge>>,
    MachinePath(machine): MachinePath,
    Query((of, events)): Query<(OfMachine, Events)>,
    last: LastEvent,
) -> Result<Response, Problem> {
    let instance = of.instance.map(|it| it.to_string());
    begin(&edge, Some(machine), instance, events, last).await
}

async fn begin(
    edge: &Arc<Edge>,
    machine: Option<MachineName>,
    instance: Option<String>,
    events: Events,
    LastEvent(last): LastEvent,
) -> Result<Response, Problem> {
    let asked = WatchAsked {
        machine,
        instance,
        prefix: events.prefix.map(|it| it.0),
        state: events.state,
    };
    let filter = asked.filter()?;
    let from = match (last, events.from_revision) {
        (Some(last), _) => WatchFrom::After(last),
        (None, Some(first)) => WatchFrom::Revision(first),
        (None, None) => WatchFrom::Now,
    };
    let timeout = edge.limits.request_timeout;
    let open = edge.watchers.open(&edge.service, filter, from, timeout);
    let open = open.await?;
    let headers = [
        // Python's requests takes text without a charset for Latin-1.
        (CONTENT_TYPE.as_str(), "text/event-stream; charset=utf-8"),
        (CACHE_CONTROL.as_str(), "no-store"),
        ("x-accel-buffering", "no"),
    ];
    let stream = stream(open, edge.service.cluster_id());
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// The events of a watch, until it ends or the node stops.
fn stream(
    open: OpenWatch,
    cluster: String,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    futures::stream::unfold((Some(open), cluster), |(open, cluster)| async move {
        let mut open = open?;
        let text = match open.next().await {
            Next::Events(events) => piece(events, &cluster),
            Next::Bookmark(cursor) => bookmark(cursor, &cluster),
            Next::Ended(ended, at) => return Some((Ok(end(ended, at).into()), (None, cluster))),
            Next::Left(_) => return None,
        };
        Some((Ok(text.into()), (Some(open), cluster)))
    })
}

/// As many of the events as make a piece.
fn piece(events: &mut impl Iterator<Item = Arc<Event>>, cluster: &str) -> String {
    let mut text = String::new();
    while text.len() < PIECE_BYTES
        && let Some(event) = events.next()
    {
        let data = serde_json::to_string(&*event).unwrap_or_default();
        write_id(&mut text, event.cursor(), cluster);
        write_event(&mut text, event.kind.name(), &data);
    }
    text
}

fn bookmark(cursor: EventCursor, cluster: &str) -> String {
    let mut text = String::new();
    write_id(&mut text, cursor, cluster);
    let data = json!({ "revision": cursor.revision.0 });
    write_event(&mut text, "bookmark", &data);
    text
}

/// The last event: why the watch ends, and how to continue. It has no id, since a reader that resumes
/// from it would be refused.
fn end(ended: WatchEnded, cursor: EventCursor) -> String {
    let mut text = String::new();
    let data = json!({
        "code": ended.code().as_str(),
        "detail": ended.to_string(),
        "reached": cursor.revision.0,
        "oldest_revision": ended.oldest().0,
        "resume": "read the current state, then watch from the revision after it (from_revision)",
    });
    write_event(&mut text, "lagged", &data);
    text
}

// Writing to a string does not fail, and JSON contains no line break.

/// Writes an [`EventId`](crate::service::EventId).
fn write_id(text: &mut String, cursor: EventCursor, cluster: &str) {
    let _ = writeln!(text, "id: {cursor}-{cluster}");
}

fn write_event(text: &mut String, event: &str, data: &dyn std::fmt::Display) {
    let _ = write!(text, "event: {event}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::EventId;

    #[test]
    fn a_bookmark_and_the_end_are_events() {
        let cursor = EventCursor::after(GlobalRevision(7));
        let bookmark = bookmark(cursor, "c1");
        let (id, rest) = bookmark.split_once('\n').unwrap();
        let id: EventId = id.strip_prefix("id: ").unwrap().parse().unwrap();
        assert_eq!(id.cursor, cursor);
        assert_eq!(id.cluster.as_deref(), Some("c1"));
        assert_eq!(rest, "event: bookmark\ndata: {\"revision\":7}\n\n");
        let ended = WatchEnded::Lagged {
            reached: GlobalRevision(7),
            oldest: GlobalRevision(90),
        };
        let text = end(ended, cursor);
        assert!(text.starts_with("event: lagged\ndata: {"), "{text}");
        for part in ["\"reached\":7", "\"oldest_revision\":90", "from_revision"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
