//! The gRPC interface: `lockstep.v1`, health and reflection.

mod backup;
mod cluster;
mod deadline;
mod input;
mod machines;
mod reads;
mod sinks;
mod starting;
mod transitions;
mod watch;
mod writes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::middleware::map_response;
use lockstep_proto::errors::CODE_KEY;
use lockstep_proto::v1::cluster_server::ClusterServer;
use lockstep_proto::v1::machines_server::MachinesServer;
use lockstep_proto::v1::sinks_server::SinksServer;
use lockstep_proto::{ErrorCode, v1};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};
use tonic_health::server::HealthReporter;

use super::Edge;
use super::call::Call;
use super::problem::Problem;
use crate::config;
use crate::sink::{FORWARDED_KEY, Hop};
use crate::telemetry::Metrics;

pub use starting::when_opened;

/// Keepalive interval of idle connections, and the timeout of the answer.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Flow-control window of a stream in bytes: a leader's appends run at most this far ahead.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// Makes a service accept and send compressed messages. A client may compress whatever it sends.
macro_rules! compressed {
    ($server:expr) => {
        $server
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
            .send_compressed(tonic::codec::CompressionEncoding::Gzip)
    };
}

use compressed;

/// The services of `lockstep.v1` and reflection.
///
/// Fails only when the descriptors built into the binary do not decode.
pub fn public_routes(
    edge: Arc<Edge>,
    grpc: &config::Grpc,
) -> Result<Routes, tonic_reflection::server::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // The limit holds for a compressed message after decompression, too.
    macro_rules! public {
        ($server:ident, $service:expr) => {
            compressed!($server::new($service)).max_decoding_message_size(grpc.message_bytes_max)
        };
    }
    let routes = Routes::new(compressed!(reflection().build_v1()?))
        // What most clients still ask for.
        .add_service(compressed!(reflection().build_v1alpha()?))
        .add_service(public!(MachinesServer, machines::Machines(edge.clone())))
        .add_service(public!(SinksServer, sinks::Sinks(edge.clone())))
        .add_service(public!(ClusterServer, cluster::Cluster(edge)));
    let routes = routes.into_axum_router();
    let routes = routes.layer(map_response(with_code)).into();
    Ok(routes)
}

/// Gives a status by which tonic refuses a message the form of the catalogue.
async fn with_code(response: axum::response::Response) -> axum::response::Response {
    let status = Status::from_header_map(response.headers());
    match status.as_ref().and_then(unreadable) {
        Some(problem) => Status::from(problem).into_http(),
        None => response,
    }
}

/// What a status without a code says about a message of the client: tonic sends it before the message reaches its
/// service. The status of a method has a code.
fn unreadable(status: &Status) -> Option<Problem> {
    let (code, detail) = match status.code() {
        _ if status.metadata().contains_key(CODE_KEY) => return None,
        // The second if only the decompressed message is too large.
        Code::OutOfRange | Code::ResourceExhausted => (
            ErrorCode::BodyTooLarge,
            "the message is larger than grpc.message_bytes_max, as sent or decompressed",
        ),
        Code::Internal => (
            ErrorCode::InvalidArgument,
            "the bytes are not a message of this method, or are not compressed as declared; generate the client from the definitions of lockstep.v1",
        ),
        _ => return None,
    };
    Some(Problem::new(code, detail))
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

/// A request as a call, to be answered within what the client asks for, at most within `max`.
fn call<T>(edge: &Arc<Edge>, request: &Request<T>, max: Duration) -> Call {
    let metadata = request.metadata();
    let asked = metadata.get("grpc-timeout").and_then(|it| it.to_str().ok());
    let mut call = Call::within(edge, deadline::deadline(asked, max));
    if metadata.contains_key(FORWARDED_KEY) {
        call.hop = Hop::Last;
    }
    call
}

/// Counts and times one call.
async fn observe<T>(
    metrics: &Metrics,
    method: &'static str,
    call: impl Future<Output = Result<T, Problem>>,
) -> Result<Response<T>, Status> {
    let began = Instant::now();
    let answer = call.await.map_err(Status::from);
    let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
    metrics
        .grpc_requests_total
        .with_label_values(&[method, deadline::code_label(code)])
        .inc();
    let took = began.elapsed().as_secs_f64();
    metrics
        .grpc_request_seconds
        .with_label_values(&[method])
        .observe(took);
    answer.map(Response::new)
}

/// A service: for each method its name, its messages and the function that answers it, with another bound
/// on its time than `http.request_timeout` where one is given.
macro_rules! calls {
    (
        $service:literal, $module:ident::$server:ident for $type:ident {
            $($method:ident $name:literal: $request:ident => $response:ident = $does:path $(, within $max:expr)?;)+
        }
        $(stream $stream:ident: $watch:ident $watch_name:literal: $watched:ident => $items:ty = $begins:path;)?
        $(exchange $results:ident: $each:ident $each_name:literal: $part:ident => $answers:ty = $opens:path;)?
    ) => {
        pub(super) struct $type(pub(super) std::sync::Arc<$crate::api::Edge>);

        #[tonic::async_trait]
        impl lockstep_proto::v1::$module::$server for $type {
            $(
                async fn $method(
                    &self,
                    request: tonic::Request<lockstep_proto::v1::$request>,
                ) -> Result<tonic::Response<lockstep_proto::v1::$response>, tonic::Status> {
                    let max = None$(.or(Some($max)))?;
                    let max = max.unwrap_or(self.0.limits.request_timeout);
                    let call = super::call(&self.0, &request, max);
                    let does = $does(&call, request.into_inner());
                    super::observe(&self.0.metrics, concat!($service, "/", $name), does).await
                }
            )+

            $(
                type $stream = $items;

                async fn $watch(
                    &self,
                    request: tonic::Request<lockstep_proto::v1::$watched>,
                ) -> Result<tonic::Response<$items>, tonic::Status> {
                    let call = super::call(&self.0, &request, self.0.limits.request_timeout);
                    let begins = $begins(&call, request.into_inner());
                    super::observe(&self.0.metrics, concat!($service, "/", $watch_name), begins).await
                }
            )?

            $(
                type $results = $answers;

                async fn $each(
                    &self,
                    requests: tonic::Request<tonic::Streaming<lockstep_proto::v1::$part>>,
                ) -> Result<tonic::Response<$answers>, tonic::Status> {
                    let opens = $opens(self.0.clone(), requests.into_inner());
                    super::observe(&self.0.metrics, concat!($service, "/", $each_name), opens).await
                }
            )?
        }
    };
}

use calls;

/// Serves `routes` until `shutdown` ends, then lets open calls end.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    grpc: &config::Grpc,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        // For an answer that names the HTTP port.
        .accept_http1(true)
        .concurrency_limit_per_connection(grpc.concurrency_max)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(2 * STREAM_WINDOW_BYTES)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_that_cannot_be_read_is_refused_with_a_code_in_the_products_words() {
        let coded = async |status: Status| {
            let response = with_code(status.into_http()).await;
            let status = Status::from_header_map(response.headers()).unwrap();
            let word = lockstep_machine::library_words(status.message());
            assert_eq!(word, None, "{status}");
            let code = status.metadata().get(CODE_KEY);
            (
                status.code(),
                code.map(|it| it.to_str().unwrap().to_owned()),
            )
        };
        for (status, code, name) in [
            (
                Status::out_of_range("4 KiB"),
                Code::OutOfRange,
                Some("body_too_large"),
            ),
            (
                Status::resource_exhausted("Error decompressing: size limit"),
                Code::OutOfRange,
                Some("body_too_large"),
            ),
            (
                Status::internal("failed to decode Protobuf message: buffer underflow"),
                Code::InvalidArgument,
                Some("invalid_argument"),
            ),
            (
                Status::internal("Error decompressing: corrupt deflate stream"),
                Code::InvalidArgument,
                Some("invalid_argument"),
            ),
            (
                Problem::new(ErrorCode::Compacted, "no longer kept").into(),
                Code::OutOfRange,
                Some("compacted"),
            ),
            (
                Problem::new(ErrorCode::Internal, "aborted").into(),
                Code::Internal,
                Some("internal"),
            ),
            (Status::unimplemented(""), Code::Unimplemented, None),
        ] {
            let shown = format!("{status}");
            let expected = (code, name.map(str::to_owned));
            assert_eq!(coded(status).await, expected, "{shown}");
        }
    }
}
