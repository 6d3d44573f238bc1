//! `/v1/watch`: what changes, as server-sent events.
//!
//! A watch costs one chunk of events and one permit; it is not counted among the requests served at
//! once, lasts as long as its reader, and ends when the node stops.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use lockstep_machine::{Event, EventCursor, EventFilter, GlobalRevision, InstanceId, MachineName};
use prometheus::IntGauge;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Edge;
use super::body::EventBody;
use super::described::{Malformed, Name, Prefix, Resumed, RevisionNumber, Unwatchable};
use super::input::{self, MachinePath, Parameters};
use super::problem::Problem;
use crate::service::{Watch, WatchEnded, Watched};

/// A piece of text ends with the event that makes it longer than this.
const PIECE_BYTES: usize = 4 * 1024;
/// After this long without an event, a bookmark says how far the watch is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(5);

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
    let invalid = |detail: &str| Problem::bad_request("invalid_parameter", detail);
    let mut filter = EventFilter {
        machine,
        name: None,
        prefix: parameters.prefix()?,
        state: parameters.name("state")?,
    };
    match (parameters.get("instance"), &filter.machine) {
        (None, _) => {}
        (Some(instance), Some(machine)) if !instance.contains('/') => {
            let id = InstanceId::new(machine.as_str(), instance)?;
            filter.name = Some(id.instance_name().clone());
        }
        (Some(instance), machine) => {
            let id: InstanceId = instance.parse()?;
            if machine
                .as_ref()
                .is_some_and(|machine| *machine != id.machine)
            {
                return Err(invalid("parameter \"instance\" is of another machine"));
            }
            filter.name = Some(id.instance_name().clone());
            filter.machine = Some(id.machine);
        }
    }
    Ok(filter)
}

/// Where to begin; none for now.
fn from(parameters: &Parameters, headers: &HeaderMap) -> Result<Option<EventCursor>, Problem> {
    let from_revision = parameters.number("from_revision", 0, u64::MAX)?;
    if let Some(last) = headers.get("last-event-id").filter(|last| !last.is_empty()) {
        let cursor = last.to_str().ok().and_then(read_id).ok_or_else(|| {
            let detail = "Last-Event-ID must be the id of an event: revision-position";
            Problem::bad_request("invalid_last_event_id", detail)
        })?;
        return Ok(Some(cursor));
    }
    Ok(from_revision.map(|revision| match revision.checked_sub(1) {
        None => EventCursor::default(),
        Some(before) => EventCursor::after(GlobalRevision(before)),
    }))
}

fn read_id(text: &str) -> Option<EventCursor> {
    let (revision, position) = text.split_once('-')?;
    Some(EventCursor {
        revision: GlobalRevision(revision.parse().ok()?),
        position: position.parse().ok()?,
    })
}

/// Counts a watch for as long as it lasts.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn begin(
    edge: &Edge,
    filter: EventFilter,
    from: Option<EventCursor>,
) -> Result<Response, Problem> {
    let began = Instant::now();
    let local = &edge.local;
    let Ok(permit) = local.watchers.clone().try_acquire_owned() else {
        local.metrics.overload_total.inc();
        let detail = format!("{} watches are open already", local.limits.watchers_max);
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_watchers", detail);
        return Err(problem.retry_after(Duration::from_secs(1)));
    };
    let patience = local.limits.request_timeout.saturating_sub(began.elapsed());
    let mut watch = edge.service.watch(from, filter, patience).await?;
    // What can be said now decides the status; an idle watch begins with a bookmark.
    let first = watch.next(Duration::ZERO).await?;
    let counted = Counted::new(&local.metrics.watchers);
    let stream = stream(
        Some(first),
        watch,
        local.draining.clone(),
        (permit, counted),
    );
    let headers = [
        (CONTENT_TYPE.as_str(), "text/event-stream"),
        (CACHE_CONTROL.as_str(), "no-store"),
        ("x-accel-buffering", "no"),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// The events of a watch, until it ends or the node stops. `held` is dropped with it.
fn stream(
    first: Option<Watched>,
    watch: Watch,
    draining: CancellationToken,
    held: (OwnedSemaphorePermit, Counted),
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    let open = Some((Unsaid::of(first), watch, draining, held));
    futures::stream::unfold(open, |open| async move {
        let (mut unsaid, mut watch, draining, held) = open?;
        if unsaid.is_empty() {
            let next = tokio::select! {
                () = draining.cancelled() => return None,
                next = watch.next(BOOKMARK_EVERY) => next,
            };
            unsaid = match next {
                Ok(watched) => Unsaid::of(Some(watched)),
                Err(ended) => return Some((Ok(last_words(ended, watch.cursor()).into()), None)),
            };
        }
        let text = unsaid.say(watch.cursor());
        Some((Ok(Bytes::from(text)), Some((unsaid, watch, draining, held))))
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
    fn of(watched: Option<Watched>) -> Self {
        match watched {
            None => Self::default(),
            Some(Watched::Events(events)) => Self {
                events: events.into(),
                bookmark: None,
            },
            Some(Watched::Bookmark(revision)) => Self {
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
            let data = serde_json::to_value(EventBody::from(&*event)).unwrap_or_default();
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
        "code": ended.code(),
        "detail": ended.to_string(),
        "reached": cursor.revision.0,
        "oldest_revision": ended.oldest().0,
        "resume": "read the current state, then watch with from_revision one above its revision",
    });
    // No id: a reader that resumes from it would be refused.
    say(&mut text, None, "lagged", &data);
    text
}

fn say(text: &mut String, id: Option<EventCursor>, event: &str, data: &serde_json::Value) {
    if let Some(EventCursor { revision, position }) = id {
        // Writing to a string does not fail; nor does JSON hold a line break.
        let _ = writeln!(text, "id: {revision}-{position}");
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

    fn filtered(query: &str) -> Result<EventFilter, &'static str> {
        let uri = format!("/?{query}").parse().unwrap();
        let parameters = Parameters::parse(&uri, &["machine", "instance", "prefix", "state"]);
        parameters
            .and_then(|it| filter(&it, it.name("machine")?))
            .map_err(|problem| problem.code)
    }

    #[test]
    fn an_instance_is_named_with_or_within_its_machine() {
        let whole = filtered("instance=order/42").unwrap();
        assert_eq!(whole, filtered("machine=order&instance=42").unwrap());
        assert_eq!(whole, filtered("machine=order&instance=order/42").unwrap());
        assert_eq!(whole.machine.unwrap().as_str(), "order");
        assert_eq!(filtered("instance=42"), Err("invalid_name"));
        assert_eq!(
            filtered("machine=a&instance=order/42"),
            Err("invalid_parameter")
        );
    }

    #[test]
    fn a_bookmark_and_the_last_words_are_events() {
        let cursor = EventCursor::after(GlobalRevision(7));
        assert_eq!(
            Unsaid::of(Some(Watched::Bookmark(GlobalRevision(7)))).say(cursor),
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
