//! The two interfaces of a node. They answer from the first moment: health, and refusals that name the phase of
//! the start; the service once it is opened.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use super::drain::Drain;
use super::tasks::Tasks;
use super::{NodeError, Parts};
use crate::api;
use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::telemetry::Metrics;
use lockstep_raft::consensus::server::PeerServer;

pub(super) struct Interfaces {
    /// Cancelled when they must accept nothing more.
    stopping: CancellationToken,
    drain: Drain,
    servers: Tasks,
    http: Arc<OnceLock<Router>>,
    grpc: Arc<OnceLock<Router>>,
    health: HealthReporter,
}

impl Interfaces {
    /// Binds both ports and begins to answer.
    pub(super) async fn start(
        config: &Arc<Config>,
        metrics: &Arc<Metrics>,
        lifecycle: &Arc<Lifecycle>,
    ) -> Result<Self, NodeError> {
        let http_listener = listen("HTTP", config.http.listen).await?;
        let grpc_listener = listen("gRPC", config.grpc.listen).await?;
        let (http, grpc) = (Arc::<OnceLock<_>>::default(), Arc::<OnceLock<_>>::default());
        let http_address = &config.http.advertise;
        let (routes, health) =
            api::grpc::when_opened(lifecycle.clone(), grpc.clone(), http_address).await;
        let mut interfaces = Self {
            stopping: CancellationToken::new(),
            drain: Drain::default(),
            servers: Tasks::default(),
            http,
            grpc,
            health,
        };
        let router = api::http::when_opened(lifecycle.clone(), interfaces.http.clone());
        interfaces.serve_http(http_listener, router, config.clone(), metrics.clone());
        let routes = interfaces.drain.observe(routes);
        interfaces.serve_grpc(grpc_listener, routes, config.clone());
        Ok(interfaces)
    }

    fn serve_http(
        &mut self,
        listener: TcpListener,
        router: Router,
        config: Arc<Config>,
        metrics: Arc<Metrics>,
    ) {
        let stopping = self.stopping.clone();
        self.servers.spawn(async move {
            let Config {
                http, watchers_max, ..
            } = &*config;
            let stopped = stopping.cancelled();
            let served =
                api::http::serve(listener, router, http, *watchers_max, &metrics, stopped).await;
            ended("HTTP", served, &stopping)
        });
    }

    /// Serves clients and peers on one port.
    fn serve_grpc(
        &mut self,
        listener: TcpListener,
        routes: tonic::service::Routes,
        config: Arc<Config>,
    ) {
        let stopping = self.stopping.clone();
        self.servers.spawn(async move {
            let stopped = stopping.cancelled();
            let served = api::grpc::serve(listener, routes, &config.grpc, stopped).await;
            ended("gRPC", served, &stopping)
        });
    }

    /// Serves `parts` from now on.
    pub(super) fn open(&self, parts: &Parts) -> Result<(), NodeError> {
        let edge = parts.edge();
        let http = api::http::router(edge.clone());
        let public = api::grpc::public_routes(edge, &parts.config.grpc)
            .map_err(|error| NodeError::Start(error.to_string()))?;
        let parts = parts.clone();
        let peers = PeerServer::service(
            parts.consensus,
            parts.local.tag(),
            parts.local,
            parts.clocks,
            parts.config.cluster.auto_replace,
        );
        let grpc = public.add_service(peers).into_axum_router();
        // Opened once, by the start.
        let _ = self.http.set(http);
        let _ = self.grpc.set(grpc);
        Ok(())
    }

    pub(super) fn health(&self) -> HealthReporter {
        self.health.clone()
    }

    pub(super) async fn failure(&mut self) -> NodeError {
        self.servers.failure().await
    }

    /// Accepts nothing more, and waits for open requests, for `drain_timeout` at most.
    pub(super) async fn stop(mut self, drain_timeout: Duration) {
        self.stopping.cancel();
        let drained = async {
            tokio::join!(self.servers.finish(), self.drain.finish());
        };
        if timeout(drain_timeout, drained).await.is_err() {
            tracing::warn!("http.drain_timeout expired; open requests were aborted");
        }
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, NodeError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|reason: io::Error| NodeError::Listen {
        what,
        address,
        reason,
    })
}

/// An interface may end only while the node stops.
fn ended(
    what: &'static str,
    ended: Result<(), impl ToString>,
    stopping: &CancellationToken,
) -> Result<(), NodeError> {
    let reason = match ended {
        Ok(()) if stopping.is_cancelled() => return Ok(()),
        Ok(()) => "it stopped by itself".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(NodeError::Interface { what, reason })
}
