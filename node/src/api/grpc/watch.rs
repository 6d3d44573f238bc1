//! `Watch`: events as a stream of messages.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{Event, EventFilter, GlobalRevision};
use lockstep_proto::{optional_name, v1};
use prost::Message as _;
use tonic::Status;

use super::GrpcState;
use super::answer::{coded, invalid, malformed, out_of_range, unwatched};
use crate::api::watchers::{Next, OpenWatch};
use crate::service::{EventId, WatchAsked, Watched, from_revision};

/// Bytes of events in one message, about: well below what clients take by default, 4 MiB, since the
/// last one may be large.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// What a watch sends until it ends.
pub(super) type Stream =
    Pin<Box<dyn futures::Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

pub(super) async fn begin(
    state: &GrpcState,
    request: v1::WatchRequest,
    deadline: Duration,
) -> Result<Stream, Status> {
    let (filter, from) = asked(request)?;
    let open = state
        .watchers
        .open(&state.service, filter, from, deadline)
        .await
        .map_err(|refused| unwatched(&refused))?;
    let cluster_id = state.service.cluster_id();
    Ok(Box::pin(stream(open, cluster_id)))
}

fn asked(request: v1::WatchRequest) -> Result<(EventFilter, Option<EventId>), Status> {
    use v1::watch_request::From;
    let asked = WatchAsked {
        machine: optional_name("machine", request.machine).map_err(malformed)?,
        instance: request.instance,
        prefix: request.prefix,
        state: optional_name("state", request.state).map_err(malformed)?,
    };
    let from = request.from.map(|from| match from {
        From::FromRevision(revision) => from_revision(GlobalRevision(revision)),
        From::After(place) => EventId {
            cursor: place.into(),
            cluster: request.cluster_id,
        },
    });
    Ok((asked.filter().map_err(invalid)?, from))
}

fn stream(
    open: OpenWatch,
    cluster_id: String,
) -> impl futures::Stream<Item = Result<v1::WatchResponse, Status>> {
    let following = Following {
        open,
        events: vec![].into_iter(),
        cluster_id,
    };
    futures::stream::unfold(Some(following), |following| async move {
        let mut following = following?;
        match following.next().await {
            Ok(message) => Some((Ok(message), Some(following))),
            Err(status) => Some((Err(status), None)),
        }
    })
}

/// A watch, and what of its last chunk has not been sent yet.
struct Following {
    open: OpenWatch,
    events: std::vec::IntoIter<Arc<Event>>,
    cluster_id: String,
}

impl Following {
    /// The next message, or why there is none.
    async fn next(&mut self) -> Result<v1::WatchResponse, Status> {
        use v1::watch_response::Message;
        let response = |message| v1::WatchResponse {
            message: Some(message),
            cluster_id: self.cluster_id.clone(),
        };
        if self.events.as_slice().is_empty() {
            match self.open.next().await {
                Next::Watched(Watched::Events(events), _) => self.events = events.into_iter(),
                Next::Watched(Watched::Bookmark(_), cursor) => {
                    return Ok(response(Message::Bookmark(cursor.into())));
                }
                Next::Ended(ended, _) => return Err(out_of_range(ended)),
                Next::Left(why) => return Err(coded(why.code(), why)),
            }
        }
        let events = portion(&mut self.events, MESSAGE_BYTES_MAX);
        Ok(response(Message::Events(v1::Events { events })))
    }
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
            sent.extend(portion.into_iter().filter_map(|it| it.place));
        }
        let positions: Vec<_> = sent.iter().map(|place| place.position).collect();
        assert_eq!(positions, (0..10).collect::<Vec<_>>());
        let mut large = std::iter::once(event(0, 5000));
        assert_eq!(portion(&mut large, 1000).len(), 1);
    }

    #[test]
    fn a_watch_begins_at_a_revision_behind_a_place_or_now() {
        use v1::watch_request::From;
        let begins = |from| {
            let request = v1::WatchRequest {
                from,
                ..Default::default()
            };
            asked(request).unwrap().1
        };
        let begins = |from| begins(from).map(|id: EventId| id.to_string());
        assert_eq!(begins(None), None);
        let before = begins(Some(From::FromRevision(7)));
        assert_eq!(before.as_deref(), Some("6-4294967295"));
        let after = v1::Place {
            revision: 9,
            position: 1,
        };
        assert_eq!(begins(Some(From::After(after))).as_deref(), Some("9-1"));
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
            asked(request).unwrap_err()
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
