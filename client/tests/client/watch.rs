//! Watches, from one scripted server to the next.

use std::time::Duration;

use lockstep_client::{Consistency, Error, EventCursor, GlobalRevision, Watch, WatchCall, Watched};
use lockstep_proto::v1;
use lockstep_proto::v1::watch_request::From;
use lockstep_scripted::watching::{
    CLUSTER, END, bookmark, cursor, ending, event, events, failing, no_longer_kept, open,
};
use lockstep_scripted::{Answer, Node, closed_port, coded};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::Code;

use crate::client;

/// For what nothing hinders.
const DEADLINE: Duration = Duration::from_secs(30);

async fn next(watch: &mut Watch) -> Option<Result<Watched, Error>> {
    tokio::time::timeout(DEADLINE, watch.next())
        .await
        .expect("the watch says something in time")
}

/// The cursors of the next `count` events, whatever comes in between.
async fn cursors(watch: &mut Watch, count: usize) -> Vec<(u64, u32)> {
    let mut cursors = Vec::new();
    while cursors.len() < count {
        match next(watch).await.expect("it goes on").expect("no error") {
            Watched::Event(event) => cursors.push((event.revision.0, event.position)),
            Watched::Bookmark(_) | Watched::Lost { .. } | Watched::Resumed { .. } => {}
        }
    }
    cursors
}

/// What comes up to the error that ends the watch.
async fn end(watch: &mut Watch) -> Error {
    loop {
        if let Err(error) = next(watch).await.expect("it ends with an error") {
            assert!(next(watch).await.is_none(), "nothing follows an error");
            return error;
        }
    }
}

fn from(node: &Node) -> Vec<Option<From>> {
    let asked = node.asked::<v1::WatchRequest>();
    asked.into_iter().map(|request| request.from).collect()
}

fn behind(revision: u64, position: u32) -> Option<From> {
    Some(From::After(cursor(revision, position)))
}

#[test]
fn watches_can_be_spawned() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&client(["127.0.0.1:1"]).watch(WatchCall::all()));
    fn watch_is_send(mut watch: Watch) {
        is_send(&watch.next());
        is_send(&watch);
    }
    let _ = watch_is_send;
}

#[tokio::test]
async fn a_watch_asks_for_what_the_call_says() {
    let node = Node::start([]).await;
    node.on(|_: v1::WatchRequest| Ok(open([bookmark(7)])));
    let client = client([&node.address]);
    let instance = "order/42".parse().expect("valid");
    let state = "paid".parse().expect("valid");
    let call = WatchCall::instance(&instance).state(state).prefix("4");
    for call in [
        call.clone(),
        call.clone().from_revision(GlobalRevision(3)),
        call.after(EventCursor::after(GlobalRevision(6))),
    ] {
        client.watch(call).await.expect("it begins");
    }
    let asked = node.asked::<v1::WatchRequest>();
    let expected = v1::WatchRequest {
        machine: Some("order".to_owned()),
        instance: Some("42".to_owned()),
        prefix: Some("4".to_owned()),
        state: Some("paid".to_owned()),
        ..Default::default()
    };
    assert_eq!(asked[0], expected);
    assert_eq!(
        from(&node),
        [None, Some(From::FromRevision(3)), behind(6, END)]
    );
}

#[tokio::test]
async fn a_watch_resumes_after_its_last_event_when_its_node_is_killed() {
    let one = Node::start([]).await;
    one.on(|_: v1::WatchRequest| Ok(open([events(&[(4, 0), (5, 0), (5, 1)])])));
    let other = Node::start([]).await;
    other.on(|_: v1::WatchRequest| Ok(open([events(&[(5, 2), (6, 0)])])));

    let call = WatchCall::all().from_revision(GlobalRevision(4));
    let client = client([&one.address, &other.address]);
    let mut watch = client.watch(call).await.expect("it begins");
    assert_eq!(cursors(&mut watch, 3).await, [(4, 0), (5, 0), (5, 1)]);
    assert_eq!(watch.endpoint().as_str(), one.address);
    let killed = one.kill().await;

    let lost = next(&mut watch)
        .await
        .expect("it goes on")
        .expect("no error");
    assert!(
        matches!(&lost, Watched::Lost { endpoint, .. } if endpoint.as_str() == killed),
        "{lost:?}"
    );
    let resumed = next(&mut watch)
        .await
        .expect("it goes on")
        .expect("no error");
    assert!(
        matches!(&resumed, Watched::Resumed { endpoint } if endpoint.as_str() == other.address),
        "{resumed:?}"
    );
    assert_eq!(cursors(&mut watch, 2).await, [(5, 2), (6, 0)]);
    assert_eq!(from(&other), [behind(5, 1)]);
    let asked = other.asked::<v1::WatchRequest>();
    assert_eq!(asked[0].cluster_id.as_deref(), Some(CLUSTER));
    assert_eq!(
        watch.reached().map(|it| (it.revision.0, it.position)),
        Some((6, 0))
    );
}

#[tokio::test]
async fn events_that_were_received_are_not_delivered_again() {
    let one = Node::start([]).await;
    one.on(|_: v1::WatchRequest| Ok(ending([events(&[(4, 0), (4, 1)])])));
    let other = Node::start([]).await;
    // It should send only events after the cursor, but also sends earlier ones.
    other.on(|_: v1::WatchRequest| {
        Ok(open([
            bookmark(3),
            events(&[(4, 0), (4, 1), (4, 2)]),
            events(&[(4, 2), (5, 0)]),
        ]))
    });
    let client = client([&one.address, &other.address]);
    let mut watch = client.watch(WatchCall::all()).await.expect("it begins");
    assert_eq!(
        cursors(&mut watch, 4).await,
        [(4, 0), (4, 1), (4, 2), (5, 0)]
    );
}

#[tokio::test]
async fn a_watch_from_now_that_saw_no_event_resumes_after_its_bookmark() {
    let one = Node::start([]).await;
    one.on(|_: v1::WatchRequest| Ok(ending([bookmark(7)])));
    let other = Node::start([]).await;
    other.on(|_: v1::WatchRequest| Ok(open([events(&[(8, 0)])])));
    let client = client([&one.address, &other.address]);
    let mut watch = client.watch(WatchCall::all()).await.expect("it begins");
    assert_eq!(cursors(&mut watch, 1).await, [(8, 0)]);
    assert_eq!(
        (from(&one), from(&other)),
        (vec![None], vec![behind(7, END)])
    );
}

#[tokio::test]
async fn a_watch_begins_at_a_node_that_can_and_not_before_it_has_a_place() {
    let full = Node::start([Answer::Overloaded { retry_after_ms: 10 }]).await;
    // It accepts the watch and ends before it said anything.
    let ends = Node::start([]).await;
    ends.on(|_: v1::WatchRequest| Ok(ending([])));
    let good = Node::start([]).await;
    good.on(|_: v1::WatchRequest| Ok(open([bookmark(7)])));
    let client = client([&closed_port(), &full.address, &ends.address, &good.address]);
    let watch = client.watch(WatchCall::all()).await.expect("it begins");
    assert_eq!(watch.endpoint().as_str(), good.address);
}

#[tokio::test]
async fn a_lagging_watch_ends_and_says_from_where_on_it_is_possible() {
    let node = Node::start([]).await;
    node.on(|_: v1::WatchRequest| Ok(failing([events(&[(4, 0)])], no_longer_kept("lagged", 90))));
    let other = Node::start([]).await;
    let client = client([&node.address, &other.address]);
    let mut watch = client.watch(WatchCall::all()).await.expect("it begins");
    let error = end(&mut watch).await;
    let Error::Lagged { oldest, reached } = error else {
        panic!("{error}")
    };
    assert_eq!(oldest, GlobalRevision(90));
    assert_eq!(reached.map(|it| it.revision.0), Some(4));
    assert!(other.requests().is_empty(), "no other node would do better");
}

#[tokio::test]
async fn a_watch_of_what_is_no_longer_kept_does_not_begin() {
    for in_stream in [false, true] {
        let node = Node::start([]).await;
        node.on(move |_: v1::WatchRequest| match in_stream {
            true => Ok(failing([], no_longer_kept("compacted", 90))),
            false => Err(no_longer_kept("compacted", 90)),
        });
        let call = WatchCall::all().from_revision(GlobalRevision(3));
        let error = client([&node.address]).watch(call).await;
        assert!(
            matches!(
                error,
                Err(Error::Compacted {
                    oldest: GlobalRevision(90)
                })
            ),
            "{error:?}"
        );
        assert_eq!(node.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_watch_that_comes_back_too_late_ends() {
    let one = Node::start([]).await;
    one.on(|_: v1::WatchRequest| Ok(ending([events(&[(4, 0)])])));
    let other = Node::start([]).await;
    other.on(|_: v1::WatchRequest| Err(no_longer_kept("compacted", 90)));
    let client = client([&one.address, &other.address]);
    let mut watch = client.watch(WatchCall::all()).await.expect("it begins");
    let error = end(&mut watch).await;
    assert!(
        matches!(
            error,
            Error::Compacted {
                oldest: GlobalRevision(90)
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_filter_that_breaks_the_rules_is_not_tried_elsewhere() {
    let node = Node::start([Answer::Invalid]).await;
    let other = Node::start([]).await;
    let error = client([&node.address, &other.address])
        .watch(WatchCall::all())
        .await;
    assert!(matches!(error, Err(Error::Invalid(_))), "{error:?}");
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn an_event_that_cannot_be_understood_ends_the_watch() {
    let node = Node::start([]).await;
    node.on(|_: v1::WatchRequest| {
        let mut odd = event((4, 0));
        odd.kind = 99;
        let odd = v1::Events { events: vec![odd] };
        let message = Some(v1::watch_response::Message::Events(odd));
        Ok(open([
            bookmark(3),
            v1::WatchResponse {
                message,
                ..Default::default()
            },
        ]))
    });
    let client = client([&node.address]);
    let mut watch = client.watch(WatchCall::all()).await.expect("it begins");
    let error = end(&mut watch).await;
    assert!(
        matches!(&error, Error::BadAnswer { reason, .. } if reason.contains("kind")),
        "{error}"
    );
}

#[tokio::test]
async fn a_watch_looks_for_a_node_for_as_long_as_its_timeout() {
    let node = Node::start([]).await;
    node.on(|_: v1::WatchRequest| Ok(open([events(&[(4, 0)])])));
    let client = client([&node.address]);
    let call = WatchCall::all().timeout(Duration::from_millis(400));
    let mut watch = client.watch(call).await.expect("it begins");
    let address = node.kill().await;
    let error = end(&mut watch).await;
    let Error::Unavailable { timeout, tried } = error else {
        panic!("{error}")
    };
    assert_eq!(timeout, Duration::from_millis(400));
    assert_eq!(tried[0].endpoint.as_str(), address);
}

#[tokio::test]
async fn a_watch_waits_for_the_only_node_to_return() {
    let node = Node::start([]).await;
    node.on(|_: v1::WatchRequest| Ok(open([events(&[(4, 0)])])));
    let client = client([&node.address]);
    let call = WatchCall::all().timeout(Duration::MAX);
    let mut watch = client.watch(call).await.expect("it begins");
    assert_eq!(cursors(&mut watch, 1).await, [(4, 0)]);
    let address = node.kill().await;
    let lost = next(&mut watch).await;
    assert!(matches!(lost, Some(Ok(Watched::Lost { .. }))), "{lost:?}");
    let returned = Node::start_at(&address, [Answer::Unavailable]).await;
    returned.on(|_: v1::WatchRequest| Ok(open([events(&[(5, 0)])])));
    assert_eq!(cursors(&mut watch, 1).await, [(5, 0)]);
    // Refused once, or until the handler was there, and then let in.
    let asked = from(&returned);
    assert!(asked.len() >= 2, "{asked:?}");
    assert!(asked.iter().all(|it| *it == behind(4, 0)), "{asked:?}");
}

/// A way to a node that can be made to swallow everything, as when a machine loses its power: no
/// connection is closed.
struct Way {
    address: String,
    open: watch::Sender<bool>,
}

impl Way {
    async fn to(node: &Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let (open, is_open) = watch::channel(true);
        let target = node.address.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (target, mut is_open) = (target.clone(), is_open.clone());
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(target).await.expect("the node is there");
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = async { let _ = is_open.wait_for(|open| !open).await; } => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, open }
    }
}

#[tokio::test]
async fn a_node_that_vanishes_without_a_word_is_noticed() {
    let one = Node::start([]).await;
    one.on(|_: v1::WatchRequest| Ok(open([events(&[(4, 0)])])));
    let way = Way::to(&one).await;
    let other = Node::start([]).await;
    other.on(|_: v1::WatchRequest| Ok(open([events(&[(5, 0)])])));
    let client = client([&way.address, &other.address]);
    let mut watch = client.watch(WatchCall::all()).await.expect("it begins");
    assert_eq!(cursors(&mut watch, 1).await, [(4, 0)]);
    way.open.send_replace(false);
    assert_eq!(cursors(&mut watch, 1).await, [(5, 0)]);
    assert_eq!(from(&other), [behind(4, 0)]);
}

#[tokio::test]
async fn a_watch_that_is_not_read_does_not_hold_up_calls() {
    use futures::{StreamExt, stream};
    let node = Node::start([]).await;
    // Far more than fits into a connection's window.
    node.on(|_: v1::WatchRequest| {
        let large = |revision| {
            let mut event = event((revision, 0));
            event.metadata = [("why".to_owned(), "x".repeat(60_000))].into();
            let events = v1::Events {
                events: vec![event],
            };
            let message = Some(v1::watch_response::Message::Events(events));
            Ok(v1::WatchResponse {
                message,
                ..Default::default()
            })
        };
        Ok(stream::iter(1..=300).map(large).boxed())
    });
    node.on(|_: v1::GetInstanceRequest| Err(coded(Code::NotFound, "unknown_instance")));
    let client = client([&node.address]);
    let mut watches = Vec::new();
    for _ in 0..8 {
        watches.push(client.watch(WatchCall::all()).await.expect("it begins"));
    }
    let instance = "triad/default".parse().expect("valid");
    let error = client.get(&instance, Consistency::Stale).await;
    assert!(
        matches!(&error, Err(Error::Rejected(rejected)) if rejected.code == "unknown_instance"),
        "{error:?}"
    );
    // And nothing of it was lost for being read late.
    assert_eq!(cursors(&mut watches[3], 300).await.last(), Some(&(300, 0)));
}
