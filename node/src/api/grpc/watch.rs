//! `Watch`: events as a stream of messages.

use std::pin::Pin;
use std::sync::Arc;

use lockstep_machine::{Event, EventFilter, GlobalRevision};
use lockstep_proto::{optional_name, v1};
use prost::Message as _;
use tonic::Status;

use super::input::invalid;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::api::watchers::{Next, OpenWatch};
use crate::service::{EventId, WatchAsked, WatchFrom};

/// Bytes of events in one message, about: well below what clients take by default, 4 MiB, since the
/// last one may be large.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

pub(super) type Stream =
    Pin<Box<dyn futures::Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

pub(super) async fn begin(call: &Call, mut request: v1::WatchRequest) -> Result<Stream, Problem> {
    let cluster_id = request.cluster_id.take();
    let (filter, from) = asked(request)?;
    let edge = &call.edge;
    edge.service.check_cluster(cluster_id.as_deref())?;
    let open = edge.watchers.open(&edge.service, filter, from, call.left());
    let state = (Some(open.await?), edge.service.cluster_id());
    let stream = futures::stream::unfold(state, |(open, cluster_id)| async move {
        let mut open = open?;
        Some(match next(&mut open, &cluster_id).await {
            Ok(message) => (Ok(message), (Some(open), cluster_id)),
            Err(problem) => (Err(problem.into()), (None, cluster_id)),
        })
    });
    Ok(Box::pin(stream))
}

fn asked(request: v1::WatchRequest) -> Result<(EventFilter, WatchFrom), Problem> {
    use v1::watch_request::From;
    let asked = WatchAsked {
        machine: optional_name("machine", request.machine)?,
        instance: request.instance,
        prefix: request.prefix,
        state: optional_name("state", request.state)?,
    };
    let from = match request.from {
        None => WatchFrom::Now,
        Some(From::FromRevision(revision)) => WatchFrom::Revision(GlobalRevision(revision)),
        Some(From::After(cursor)) => WatchFrom::After(EventId {
            cursor: cursor.into(),
            cluster: None,
        }),
    };
    Ok((asked.filter().map_err(invalid)?, from))
}

async fn next(open: &mut OpenWatch, cluster_id: &str) -> Result<v1::WatchResponse, Problem> {
    use v1::watch_response::Message;
    let message = match open.next().await {
        Next::Events(events) => Message::Events(v1::Events {
            events: portion(events, MESSAGE_BYTES_MAX),
        }),
        Next::Bookmark(cursor) => Message::Bookmark(cursor.into()),
        Next::Ended(ended, _) => return Err(ended.into()),
        Next::Left(why) => return Err(why.into()),
    };
    Ok(v1::WatchResponse {
        message: Some(message),
        cluster_id: cluster_id.to_owned(),
    })
}

/// As many of the events as have room in a message, at least one.
fn portion(events: &mut impl Iterator<Item = Arc<Event>>, bytes_max: usize) -> Vec<v1::Event> {
    let (mut portion, mut bytes) = (vec![], 0);
    for event in events {
        let event: v1::Event = (&*event).into();
        bytes += event.encoded_len();
        portion.push(event);
        if bytes >= bytes_max {
            break;
        }
    }
    portion
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{
        Cause, EventKind, InstanceName, MachineName, Metadata, Revision, Timestamp, Version,
    };
    use tonic::Code;

    fn event(position: u32, bytes: usize) -> Arc<Event> {
        Arc::new(Event {
            revision: GlobalRevision(7),
            position,
            kind: EventKind::Created,
            machine: MachineName::new("order").unwrap(),
            name: Some(InstanceName::new("42").unwrap()),
            version: Version(1),
            from_version: None,
            from: None,
            to: None,
            event: None,
            instance_revision: Revision(0),
            at: Timestamp(99),
            cause: Cause::Request,
            metadata: Metadata::new([("why", "x".repeat(bytes))]).unwrap(),
        })
    }

    #[test]
    fn a_chunk_is_sent_in_messages_of_bounded_size_in_order() {
        let mut events = (0..10).map(|position| event(position, 400));
        let mut sent = vec![];
        loop {
            let portion = portion(&mut events, 1000);
            if portion.is_empty() {
                break;
            }
            assert!(portion.len() <= 3, "{}", portion.len());
            sent.extend(portion.into_iter().filter_map(|it| it.cursor));
        }
        let positions: Vec<_> = sent.iter().map(|cursor| cursor.position).collect();
        assert_eq!(positions, (0..10).collect::<Vec<_>>());
        let mut large = std::iter::once(event(0, 5000));
        assert_eq!(portion(&mut large, 1000).len(), 1);
    }

    #[test]
    fn a_watch_begins_at_a_revision_after_a_cursor_or_now() {
        use v1::watch_request::From;
        let begins = |from| {
            let request = v1::WatchRequest {
                from,
                ..Default::default()
            };
            asked(request).unwrap().1
        };
        assert_eq!(begins(None), WatchFrom::Now);
        let at = begins(Some(From::FromRevision(7)));
        assert_eq!(at, WatchFrom::Revision(GlobalRevision(7)));
        let cursor = v1::EventCursor {
            revision: 9,
            position: 1,
        };
        let after = begins(Some(From::After(cursor)));
        assert_eq!(after, WatchFrom::After("9-1".parse().unwrap()));
    }

    #[test]
    fn a_filter_that_cannot_be_is_an_invalid_argument() {
        let good = v1::WatchRequest {
            machine: Some("order".to_owned()),
            instance: Some("42".to_owned()),
            prefix: Some("4".to_owned()),
            state: Some("paid".to_owned()),
            ..Default::default()
        };
        let (filter, _) = asked(good.clone()).unwrap();
        assert_eq!(filter.name.unwrap().as_str(), "42");
        assert_eq!(filter.state.unwrap().as_str(), "paid");
        let fault = |damage: fn(&mut v1::WatchRequest)| {
            let mut request = good.clone();
            damage(&mut request);
            Status::from(asked(request).unwrap_err())
        };
        for status in [
            fault(|it| it.machine = Some("a b".to_owned())),
            fault(|it| it.machine = None),
            fault(|it| it.instance = Some("stock/42".to_owned())),
            fault(|it| it.prefix = Some("x".repeat(65))),
            fault(|it| it.state = Some(String::new())),
        ] {
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        }
    }
}
