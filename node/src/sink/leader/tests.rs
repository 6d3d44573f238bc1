//! A follower, and a leader behind a real connection.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::api::Edge;
use crate::api::grpc::{public_routes, serve};
use crate::config;
use crate::service::{Member, Standing};
use crate::sink::tests::fixtures;
use lockstep_raft::consensus::NodeId;
use parking_lot::Mutex;
use tokio::net::TcpListener;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A leader with a sink; its address.
async fn leader() -> String {
    let kind = config::SinkKind::Webhook;
    let sinks = Sinks::lone(&[fixtures::config(kind, "http://nowhere.invalid")]);
    let limits = config::Http {
        request_timeout: TIMEOUT,
        ..Edge::test_limits()
    };
    let edge = Edge::lone(sinks.service.clone(), sinks, limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let grpc = config::Grpc {
        listen: address,
        advertise: address.to_string(),
        message_bytes_max: 1 << 20,
        concurrency_max: 16,
    };
    let routes = public_routes(edge, &grpc).unwrap();
    let never = std::future::pending();
    tokio::spawn(async move { serve(listener, routes, &grpc, never).await });
    address.to_string()
}

/// A node without sinks that stands like this.
fn node(standing: impl Fn() -> Standing + Send + Sync + 'static) -> Sinks {
    Sinks {
        standing: Arc::new(standing),
        ..Sinks::lone(&[])
    }
}

/// Where node 1 stands, and the leader that it knows.
fn standing(role: Role, leader: Option<(NodeId, &str)>) -> Standing {
    let known = |(id, address): (NodeId, &str)| {
        let member = Member {
            grpc_address: address.to_owned(),
            ..Member::default()
        };
        (id, member)
    };
    Standing {
        node_id: 1,
        role,
        leader: leader.map(known),
        ..Standing::default()
    }
}

fn follower_of(address: String) -> Sinks {
    node(move || standing(Role::Follower, Some((2, &address))))
}

#[tokio::test]
async fn a_follower_returns_the_leaders_status() {
    let follower = follower_of(leader().await);
    for _ in 0..2 {
        let listed = follower.list(Hop::First, TIMEOUT).await.unwrap();
        assert_eq!((listed.sinks.len(), listed.node.as_str()), (1, "node1"));
    }
    let here = node(|| standing(Role::Leader, Some((1, ""))));
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
    let follower = node(move || {
        let mut asked = asked.lock();
        *asked += 1;
        match *asked {
            ..3 => standing(Role::Candidate, None),
            _ => standing(Role::Follower, Some((2, &address))),
        }
    });
    let listed = follower.list(Hop::First, TIMEOUT).await.unwrap();
    assert_eq!(listed.sinks.len(), 1);

    let short = Duration::from_millis(200);
    // Nothing listens there: the port stays bound until the test ends.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let dead = socket.local_addr().unwrap().to_string();
    let alone = node(|| standing(Role::Candidate, None));
    let itself = leader().await;
    // It has stepped down and does not know of another yet.
    let deposed = node(move || standing(Role::Follower, Some((1, &itself))));
    for lost in [alone, deposed, follower_of(dead)] {
        let refused = lost.list(Hop::First, short).await.unwrap_err();
        assert_eq!(refused.code(), "unavailable");
        let refused = lost.check("reports", Hop::First, short).await;
        assert_eq!(refused.unwrap_err().code(), "unavailable");
    }
}

#[test]
fn a_name_is_cut_between_characters() {
    assert_eq!(truncated("reports"), "reports");
    assert_eq!(truncated(&"é".repeat(100)), "é".repeat(32));
    assert_eq!(truncated(&format!("x{}", "é".repeat(100))).len(), 63);
}
