//! The gRPC interface: `lockstep.v1`, health and reflection.

mod answer;
mod cluster;
mod input;
mod machines;
mod reads;
mod sinks;
mod watch;
mod writes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_proto::v1;
use lockstep_proto::v1::cluster_server::ClusterServer;
use lockstep_proto::v1::machines_server::MachinesServer;
use lockstep_proto::v1::sinks_server::SinksServer;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};
use tonic_health::server::{HealthReporter, health_reporter};

use crate::api::Watchers;
use crate::cluster::members::Membership;
use crate::config;
use crate::service::Service;
use crate::sink::Sinks;
use crate::telemetry::{Metrics, Report};

/// Keepalive interval of idle connections, and the timeout of the answer.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Flow-control window of a stream in bytes: a leader's appends run at most this far ahead.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// What the gRPC interface works with.
#[derive(Clone)]
pub struct GrpcState {
    /// The use cases.
    pub service: Arc<Service>,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// The node's report.
    pub report: Arc<Report>,
    /// How long a request may take in all; a client may ask for less, not for more.
    pub request_timeout: Duration,
    /// When the node started.
    pub started: Instant,
    /// The watches that are open on the node.
    pub watchers: Watchers,
    /// The members of the cluster.
    pub members: Arc<dyn Membership>,
    /// The node's sinks.
    pub sinks: Sinks,
}

/// The public services, to be served beside the peers' on one server.
pub struct Public {
    /// For `tonic::transport::Server::add_routes`.
    pub routes: Routes,
    /// Updated through [`set_health`] when the node becomes ready or stops being ready.
    pub health: HealthReporter,
}

/// The services of `lockstep.v1`, health (not serving until [`set_health`]) and reflection.
///
/// Fails only when the descriptors built into the binary do not decode.
pub async fn public_routes(
    state: GrpcState,
    grpc: &config::Grpc,
) -> Result<Public, tonic_reflection::server::Error> {
    let (health, health_server) = health_reporter();
    set_health(&health, false).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // The limit holds for a compressed message after decompression, too.
    macro_rules! public {
        ($server:ident, $service:expr) => {
            $server::new($service)
                .max_decoding_message_size(grpc.message_bytes_max)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip)
        };
    }
    let routes = Routes::new(health_server)
        .add_service(reflection().build_v1()?)
        // What most clients still ask for.
        .add_service(reflection().build_v1alpha()?)
        .add_service(public!(MachinesServer, machines::Machines(state.clone())))
        .add_service(public!(SinksServer, sinks::Sinks(state.clone())))
        .add_service(public!(ClusterServer, cluster::Cluster(state)));
    Ok(Public { routes, health })
}

/// Says through the health service whether this node can serve, for the server as a whole and for
/// each public service.
pub async fn set_health(health: &HealthReporter, ready: bool) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    let status = if ready { Serving } else { NotServing };
    for name in [
        "",
        "lockstep.v1.Machines",
        "lockstep.v1.Cluster",
        "lockstep.v1.Sinks",
    ] {
        health.set_service_status(name, status).await;
    }
}

impl GrpcState {
    /// Counts and times one call.
    async fn observe<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<Response<T>, Status> {
        let began = Instant::now();
        let answer = call.await;
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.metrics
            .grpc_requests_total
            .with_label_values(&[method, answer::code_label(code)])
            .inc();
        let took = began.elapsed().as_secs_f64();
        self.metrics
            .grpc_request_seconds
            .with_label_values(&[method])
            .observe(took);
        answer.map(Response::new)
    }

    /// How long this call may take: what the client asks for, at most what is configured.
    fn deadline<T>(&self, request: &Request<T>) -> Duration {
        answer::deadline(Self::asked_timeout(request), self.request_timeout)
    }

    /// The client's timeout, as sent.
    fn asked_timeout<T>(request: &Request<T>) -> Option<&str> {
        request.metadata().get("grpc-timeout")?.to_str().ok()
    }
}

/// Serves `routes` until `shutdown` ends, then lets open calls end.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    grpc: &config::Grpc,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .concurrency_limit_per_connection(grpc.concurrency_max)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(2 * STREAM_WINDOW_BYTES)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
}
