//! `/v1/watch`: what changes, as server-sent events.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use lockstep_machine::{Event, EventCursor, EventFilter, GlobalRevision, MachineName};
use lockstep_proto::ErrorCode;
use serde_json::json;

use super::Edge;
use super::described::{Malformed, Name, Prefix, Resumed, RevisionNumber, Unwatchable};
use super::input::{self, MachinePath, Parameters};
use super::problem::Problem;
use crate::api::watchers::{Next, OpenWatch};
use crate::service::{self, WatchAsked, WatchEnded, Watched};

/// A piece of text ends with the event that makes it longer than this.
const PIECE_BYTES: usize = 4 * 1024;

/// What changes, of every machine or of one.
#[utoipa::path(
    get, path = "/v1/watch", operation_id = "watch", tag = "watch",
    params(
        ("machine" = Option<Name>, Query, description = "Only of this machine"),
        ("instance" = Option<String>, Query, description = "Only of this instance: machine/name, or its name if `machine` is given"),
        ("prefix" = Option<Prefix>, Query, description = "Only of instances whose name starts like this"),
        ("state" = Option<Name>, Query, description = "Only into this state"),
        ("from_revision" = Option<RevisionNumber>, Query, description = "From this revision of the cluster on; from now on without it"),
        Resumed,
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "Events: created, transitioned, migrated, deleted, defined, definition_deleted; bookmark while idle; lagged at the end, if the reader was too slow"),
        Malformed, Unwatchable,
    ),
)]
pub(super) async fn all(
    State(edge): State<Arc<Edge>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = ["machine", "instance", "prefix", "state", "from_revision"];
    let parameters = Parameters::parse(&uri, &known)?;
    let filter = filter(&parameters, parameters.name("machine")?)?;
    begin(&edge, filter, from(&parameters, &headers)?).await
}

/// What changes, of one machine.
#[utoipa::path(
    get, path = "/v1/machines/{machine}/watch", operation_id = "watch_machine", tag = "watch",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        ("instance" = Option<Name>, Query, description = "Only of this instance: its name"),
        ("prefix" = Option<Prefix>, Query, description = "Only of instances whose name starts like this"),
        ("state" = Option<Name>, Query, description = "Only into this state"),
        ("from_revision" = Option<RevisionNumber>, Query, description = "From this revision of the cluster on; from now on without it"),
        Resumed,
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "Events, as of /v1/watch"),
        Malformed, Unwatchable,
    ),
)]
pub(super) async fn machine(
    State(edge): State<Arc<Edge>>,
    path: MachinePath,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let machine = input::machine(path)?;
    let parameters = Parameters::parse(&uri, &["instance", "prefix", "state", "from_revision"])?;
    let filter = filter(&parameters, Some(machine))?;
    begin(&edge, filter, from(&parameters, &headers)?).await
}

fn filter(parameters: &Parameters, machine: Option<MachineName>) -> Result<EventFilter, Problem> {
    let asked = WatchAsked {
        machine,
        instance: parameters.get("instance").map(str::to_owned),
        prefix: parameters.get("prefix").map(str::to_owned),
        state: parameters.name("state")?,
    };
    Ok(asked.filter()?)
}

/// Where to begin; none for now.
fn from(parameters: &Parameters, headers: &HeaderMap) -> Result<Option<EventCursor>, Problem> {
    let from_revision = parameters.number("from_revision", 0, u64::MAX)?;
    if let Some(last) = headers.get("last-event-id").filter(|last| !last.is_empty()) {
        let cursor = last
            .to_str()
            .ok()
            .and_then(|last| last.parse().ok())
            .ok_or_else(|| {
                let detail = "Last-Event-ID must be the id of an event: revision-position";
                Problem::new(ErrorCode::InvalidLastEventId, detail)
            })?;
        return Ok(Some(cursor));
    }
    Ok(from_revision.map(|revision| service::from_revision(GlobalRevision(revision))))
}

async fn begin(
    edge: &Edge,
    filter: EventFilter,
    from: Option<EventCursor>,
) -> Result<Response, Problem> {
    let patience = edge.local.limits.request_timeout;
    let watchers = &edge.local.watchers;
    let open = watchers.open(&edge.service, filter, from, patience).await?;
    let headers = [
        (CONTENT_TYPE.as_str(), "text/event-stream"),
        (CACHE_CONTROL.as_str(), "no-store"),
        ("x-accel-buffering", "no"),
    ];
    Ok((headers, Body::from_stream(stream(open))).into_response())
}

/// The events of a watch, until it ends or the node stops.
fn stream(open: OpenWatch) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    let open = Some((Unsaid::default(), EventCursor::default(), open));
    futures::stream::unfold(open, |open| async move {
        let (mut unsaid, mut cursor, mut open) = open?;
        if unsaid.is_empty() {
            match open.next().await {
                Next::Watched(watched, at) => (unsaid, cursor) = (Unsaid::of(watched), at),
                Next::Ended(ended, at) => return Some((Ok(last_words(ended, at).into()), None)),
                Next::Left(_) => return None,
            }
        }
        let text = unsaid.say(cursor);
        Some((Ok(Bytes::from(text)), Some((unsaid, cursor, open))))
    })
}

/// What was taken from the stream of events and not said yet: said in pieces, so that a reader that
/// does not read makes no large text lie about.
#[derive(Default)]
struct Unsaid {
    events: VecDeque<Arc<Event>>,
    bookmark: Option<GlobalRevision>,
}

impl Unsaid {
    fn of(watched: Watched) -> Self {
        match watched {
            Watched::Events(events) => Self {
                events: events.into(),
                bookmark: None,
            },
            Watched::Bookmark(revision) => Self {
                events: VecDeque::new(),
                bookmark: Some(revision),
            },
        }
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.bookmark.is_none()
    }

    /// The next piece: events up to a bound, or the bookmark at `cursor`.
    fn say(&mut self, cursor: EventCursor) -> String {
        let mut text = String::new();
        while text.len() < PIECE_BYTES
            && let Some(event) = self.events.pop_front()
        {
            let data = serde_json::to_string(&*event).unwrap_or_default();
            say(&mut text, Some(event.cursor()), event.kind.name(), &data);
        }
        if let Some(revision) = self.bookmark.take() {
            let data = json!({ "revision": revision.0 });
            say(&mut text, Some(cursor), "bookmark", &data);
        }
        text
    }
}

/// Why a watch ends, and how to go on.
fn last_words(ended: WatchEnded, cursor: EventCursor) -> String {
    let mut text = String::new();
    let data = json!({
        "code": ended.code().as_str(),
        "detail": ended.to_string(),
        "reached": cursor.revision.0,
        "oldest_revision": ended.oldest().0,
        "resume": "read the current state, then watch with from_revision one above its revision",
    });
    // No id: a reader that resumes from it would be refused.
    say(&mut text, None, "lagged", &data);
    text
}

fn say(text: &mut String, id: Option<EventCursor>, event: &str, data: &dyn std::fmt::Display) {
    // Writing to a string does not fail; nor does JSON hold a line break.
    if let Some(id) = id {
        let _ = writeln!(text, "id: {}", id);
    }
    let _ = write!(text, "event: {event}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn parsed(
        query: &str,
        last: Option<&'static str>,
    ) -> Result<Option<EventCursor>, &'static str> {
        let uri = format!("/?{query}").parse().unwrap();
        let mut headers = HeaderMap::new();
        if let Some(last) = last {
            headers.insert("last-event-id", HeaderValue::from_static(last));
        }
        Parameters::parse(&uri, &["from_revision"])
            .and_then(|parameters| from(&parameters, &headers))
            .map_err(|problem| problem.code)
    }

    #[test]
    fn the_last_event_wins_over_a_revision() {
        let place = |revision, position| {
            Ok(Some(EventCursor {
                revision: GlobalRevision(revision),
                position,
            }))
        };
        assert_eq!(parsed("", None), Ok(None));
        assert_eq!(parsed("from_revision=0", None), place(0, 0));
        assert_eq!(parsed("from_revision=7", None), place(6, u32::MAX));
        assert_eq!(parsed("from_revision=7", Some("9-1")), place(9, 1));
        assert_eq!(parsed("", Some("9-4294967295")), place(9, u32::MAX));
        for bad in ["9", "-1", "9-4294967296", "a-b", "9-1-1"] {
            assert_eq!(parsed("", Some(bad)), Err("invalid_last_event_id"), "{bad}");
        }
    }

    #[test]
    fn a_bookmark_and_the_last_words_are_events() {
        let cursor = EventCursor::after(GlobalRevision(7));
        assert_eq!(
            Unsaid::of(Watched::Bookmark(GlobalRevision(7))).say(cursor),
            "id: 7-4294967295\nevent: bookmark\ndata: {\"revision\":7}\n\n"
        );
        let ended = WatchEnded::Lagged {
            reached: GlobalRevision(7),
            oldest: GlobalRevision(90),
        };
        let text = last_words(ended, cursor);
        assert!(text.starts_with("event: lagged\ndata: {"), "{text}");
        for part in ["\"reached\":7", "\"oldest_revision\":90", "from_revision"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
