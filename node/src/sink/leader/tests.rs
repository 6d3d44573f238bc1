//! A follower, and a leader behind a real connection.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::api::Watchers;
use crate::api::grpc::{GrpcState, public_routes, serve};
use crate::config;
use crate::service::Member;
use crate::sink::tests::fixtures;
use crate::telemetry::Metrics;
use parking_lot::Mutex;
use tokio::net::TcpListener;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A leader with a sink; its address.
async fn leader() -> String {
    let metrics = Metrics::new().unwrap();
    let kind = config::SinkKind::Webhook(fixtures::webhook("http://nowhere.invalid"));
    let sinks = Sinks::lone(&[fixtures::config(kind)]);
    let state = GrpcState {
        service: sinks.service.clone(),
        watchers: Watchers::new(1, metrics.clone()),
        metrics,
        report: Arc::default(),
        request_timeout: TIMEOUT,
        started: Instant::now(),
        sinks,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let grpc = config::Grpc {
        listen: address,
        advertise: address.to_string(),
        message_bytes_max: 1 << 20,
        concurrency_max: 16,
    };
    let public = public_routes(state, &grpc).await.unwrap();
    let never = std::future::pending();
    tokio::spawn(async move { serve(listener, public.routes, &grpc, never).await });
    address.to_string()
}

/// A node without sinks, with this view of the leader.
fn follower(leader: impl Fn() -> Leader + Send + Sync + 'static) -> Sinks {
    Sinks {
        leader: Arc::new(leader),
        ..Sinks::lone(&[])
    }
}

fn follower_of(address: String) -> Sinks {
    follower(move || Leader::At(2, address.clone()))
}

#[tokio::test]
async fn a_follower_returns_the_leaders_status() {
    let follower = follower_of(leader().await);
    for _ in 0..2 {
        let listed = follower.list(Hop::First, TIMEOUT).await.unwrap();
        assert_eq!((listed.sinks.len(), listed.node.as_str()), (1, "node1"));
    }
    let here = self::follower(|| Leader::Here);
    let listed = here.list(Hop::Last, TIMEOUT).await.unwrap();
    assert_eq!(listed.sinks, []);
}

#[tokio::test]
async fn a_sink_that_the_leader_does_not_know_is_unknown() {
    let follower = follower_of(leader().await);
    let long = "x".repeat(100_000);
    for name in ["report", &long, ""] {
        let refused = follower.check(name, Hop::First, TIMEOUT).await;
        let error = refused.unwrap_err();
        assert_eq!(error.code(), "unknown_sink", "{error}");
        assert!(error.to_string().len() < 300, "{error}");
        let refused = follower.status(name, TIMEOUT).await;
        assert_eq!(refused.unwrap_err().code(), "unknown_sink");
    }
}

#[tokio::test]
async fn a_forwarded_request_is_not_forwarded_again() {
    let follower = follower_of(leader().await);
    let began = Instant::now();
    let refused = follower.list(Hop::Last, TIMEOUT).await.unwrap_err();
    assert_eq!(refused.code(), "unavailable");
    let refused = follower.check("reports", Hop::Last, TIMEOUT).await;
    assert_eq!(refused.unwrap_err().code(), "unavailable");
    assert!(began.elapsed() < TIMEOUT / 2);
}

#[tokio::test]
async fn a_node_waits_for_a_leader_and_gives_up_at_its_deadline() {
    let (address, asked) = (leader().await, Mutex::new(0));
    let follower = self::follower(move || {
        let mut asked = asked.lock();
        *asked += 1;
        match *asked {
            ..3 => Leader::Unknown,
            _ => Leader::At(2, address.clone()),
        }
    });
    let listed = follower.list(Hop::First, TIMEOUT).await.unwrap();
    assert_eq!(listed.sinks.len(), 1);

    let short = Duration::from_millis(200);
    // Nothing listens there: the port stays bound until the test ends.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let dead = socket.local_addr().unwrap().to_string();
    for lost in [self::follower(|| Leader::Unknown), follower_of(dead)] {
        let refused = lost.list(Hop::First, short).await.unwrap_err();
        assert_eq!(refused.code(), "unavailable");
        let refused = lost.check("reports", Hop::First, short).await;
        assert_eq!(refused.unwrap_err().code(), "unavailable");
    }
}

#[test]
fn the_leader_is_this_node_another_one_or_unknown() {
    let leader = |role, leader: Option<NodeId>| {
        let known = |id| Member {
            grpc_address: format!("node{id}:4333"),
            ..Member::default()
        };
        Leader::of(Standing {
            node_id: 1,
            role,
            leader: leader.map(|id| (id, known(id))),
            ..Standing::default()
        })
    };
    assert_eq!(leader(Role::Leader, Some(1)), Leader::Here);
    let second = Leader::At(2, "node2:4333".to_owned());
    assert_eq!(leader(Role::Follower, Some(2)), second);
    assert_eq!(leader(Role::Candidate, None), Leader::Unknown);
    // It has stepped down and does not know of another yet.
    assert_eq!(leader(Role::Follower, Some(1)), Leader::Unknown);
}

#[test]
fn a_name_is_cut_between_characters() {
    assert_eq!(truncated("reports"), "reports");
    assert_eq!(truncated(&"é".repeat(100)), "é".repeat(32));
    assert_eq!(truncated(&format!("x{}", "é".repeat(100))).len(), 63);
}
