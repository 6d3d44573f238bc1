//! What a watch of a scripted node sends.

use futures::{StreamExt, stream};
use lockstep_proto::v1;
use lockstep_proto::v1::watch_response::Message;
use tonic::{Code, Status};

use super::{Watching, coded};

/// A cursor after all events of a revision.
pub const END: u32 = u32::MAX;
/// The cluster that scripted nodes are of.
pub const CLUSTER: &str = "3584844cf6683eb5";

pub fn cursor(revision: u64, position: u32) -> v1::EventCursor {
    v1::EventCursor { revision, position }
}

/// A transition of `triad/default` at a cursor.
pub fn event((revision, position): (u64, u32)) -> v1::Event {
    v1::Event {
        cursor: Some(cursor(revision, position)),
        kind: v1::EventKind::Transitioned.into(),
        machine: "triad".to_owned(),
        id: Some("triad/default".to_owned()),
        version: 1,
        from: Some("first".to_owned()),
        to: Some("second".to_owned()),
        instance_revision: revision,
        at_ms: 1_700_000_000_000,
        ..Default::default()
    }
}

pub fn events(cursors: &[(u64, u32)]) -> v1::WatchResponse {
    let events = cursors.iter().copied().map(event).collect();
    v1::WatchResponse {
        message: Some(Message::Events(v1::Events { events })),
        cluster_id: CLUSTER.to_owned(),
    }
}

pub fn bookmark(revision: u64) -> v1::WatchResponse {
    v1::WatchResponse {
        message: Some(Message::Bookmark(cursor(revision, END))),
        cluster_id: CLUSTER.to_owned(),
    }
}

/// Sends these, and then nothing for ever.
pub fn open(messages: impl IntoIterator<Item = v1::WatchResponse>) -> Watching {
    let messages: Vec<_> = messages.into_iter().map(Ok).collect();
    stream::iter(messages).chain(stream::pending()).boxed()
}

/// Sends these, and ends as a node does that stops.
pub fn ending(messages: impl IntoIterator<Item = v1::WatchResponse>) -> Watching {
    failing(messages, coded(Code::Unavailable, "not_ready"))
}

/// Sends these, and ends with a status.
pub fn failing(messages: impl IntoIterator<Item = v1::WatchResponse>, status: Status) -> Watching {
    let messages: Vec<_> = messages.into_iter().map(Ok).chain([Err(status)]).collect();
    stream::iter(messages).boxed()
}

/// Events are no longer kept.
pub fn no_longer_kept(code: &'static str, oldest: u64) -> Status {
    let mut status = coded(Code::OutOfRange, code);
    status
        .metadata_mut()
        .insert("oldest-revision", oldest.into());
    status
}
