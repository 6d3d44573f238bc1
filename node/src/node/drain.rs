//! Which gRPC calls a stopping node waits for.
//!
//! A graceful shutdown of the server waits for every open stream. Replication streams stay open for
//! as long as the leader lives, so that waiting for them would take the whole drain time. Therefore
//! the calls are split: requests of clients, and those that peers forward, are waited for; the
//! streams of consensus are cut as soon as no such request is left.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::service::Routes;

/// Consensus calls, which can be cut without any client noticing.
const REPLICATION: [&str; 6] = [
    "/lockstep.raft.v1.Peer/Append",
    "/lockstep.raft.v1.Peer/StreamAppend",
    "/lockstep.raft.v1.Peer/Vote",
    "/lockstep.raft.v1.Peer/PreVote",
    "/lockstep.raft.v1.Peer/TransferLeader",
    "/lockstep.raft.v1.Peer/InstallSnapshot",
];

/// The open calls of the gRPC interface.
#[derive(Clone, Default)]
pub(super) struct Drain {
    requests: TaskTracker,
    replication_cut: CancellationToken,
}

impl Drain {
    /// Tracks every call to `routes`.
    pub(super) fn observe(&self, routes: Routes) -> Routes {
        let router = routes.into_axum_router();
        router
            .layer(from_fn_with_state(self.clone(), observe))
            .into()
    }

    /// Waits until no request is open, then cuts the streams of consensus.
    pub(super) async fn finish(&self) {
        self.requests.close();
        self.requests.wait().await;
        self.replication_cut.cancel();
    }
}

async fn observe(State(drain): State<Drain>, request: Request, next: Next) -> Response {
    if REPLICATION.contains(&request.uri().path()) {
        let cut = drain.replication_cut;
        return tokio::select! {
            response = next.run(request) => response.map(|body| {
                let frames = BodyStream::new(body).take_until(cut.cancelled_owned());
                Body::new(StreamBody::new(frames))
            }),
            () = cut.cancelled() => Status::unavailable("this node is stopping").into_http(),
        };
    }
    // The request is open until its answer has been read to the end.
    let open = drain.requests.token();
    let response = next.run(request).await;
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _open = &open;
            frame
        }))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::routing::post;
    use tokio::time::timeout;
    use tower::ServiceExt as _;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    /// Calls `path` on a server that never ends an answer, and returns the body of the answer.
    async fn call(drain: &Drain, path: &str) -> Body {
        let endless = || async {
            Body::from_stream(futures::stream::pending::<Result<String, axum::Error>>())
        };
        let router = axum::Router::new().route("/{*path}", post(endless));
        let routes = drain.observe(router.into()).into_axum_router();
        let request = Request::post(path).body(Body::empty()).unwrap();
        routes.oneshot(request).await.unwrap().into_body()
    }

    #[tokio::test]
    async fn replication_streams_end_once_no_request_is_open() {
        let drain = Drain::default();
        let stream = call(&drain, "/lockstep.raft.v1.Peer/StreamAppend").await;
        let request = call(&drain, "/lockstep.v1.Machines/Watch").await;
        let ended = stream.collect();
        tokio::pin!(ended);
        assert!(timeout(SHORT, drain.finish()).await.is_err());
        assert!(timeout(SHORT, ended.as_mut()).await.is_err());
        drop(request);
        drain.finish().await;
        assert!(ended.await.unwrap().to_bytes().is_empty());
    }

    #[test]
    fn the_paths_are_those_of_the_peer_contract() {
        let contract = include_str!("../../../proto/lockstep/raft/v1/peer.proto");
        for path in REPLICATION {
            let (_, method) = path.rsplit_once('/').expect("a method");
            assert!(contract.contains(&format!("rpc {method}(")), "{path}");
        }
    }
}
