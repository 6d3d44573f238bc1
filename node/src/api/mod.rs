//! The interfaces of a node: HTTP/JSON in [`http`], gRPC in [`grpc`].
//!
//! ```text
//! HTTP ──> routes ──> extractors ──┐                          ┌──> JSON, or a problem document
//!                                  ├──> Call ──> Service ──>──┤
//! gRPC ──> calls ───> v1 messages ─┘                          └──> v1 message, or a status
//! ```
//!
//! Both interfaces work on one [`Edge`], the parts of the node that requests reach. Each request becomes a
//! `Call` with its deadline; a handler parses the request, makes the call and encodes the
//! answer. Each error becomes a `Problem` with a code of the catalogue
//! [`lockstep_proto::errors`], which HTTP sends as problem details and gRPC as a status. Rules that both
//! interfaces share are in the service. The edges add only admission: a bound on concurrent HTTP
//! requests, on message and body sizes, and on open watches ([`Watchers`]).
//!
//! Guarantees: a request with any unknown or invalid part is rejected before anything is executed;
//! every error has a stable code; every response is sent within the request's timeout. Not here: TLS
//! and authentication, which a proxy must add.

mod call;
pub mod grpc;
pub mod http;
mod names;
mod problem;
mod watchers;

use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use tokio::sync::Semaphore;

use crate::cluster::members::Membership;
use crate::config;
use crate::service::Service;
use crate::sink::Sinks;
use crate::telemetry::{Metrics, Report};

pub use watchers::Watchers;

/// The parts of a node that requests reach.
pub struct Edge {
    pub service: Arc<Service>,
    pub members: Arc<dyn Membership>,
    pub sinks: Sinks,
    pub watchers: Watchers,
    pub metrics: Arc<Metrics>,
    pub report: Arc<Report>,
    pub started: Instant,
    /// Bounds on requests. The timeout applies to both interfaces, the others to HTTP.
    pub limits: config::Http,
    /// One permit for each HTTP request to the service: see [`admission`].
    pub admission: Semaphore,
}

/// The permits for the HTTP requests that are served at once.
pub fn admission(limits: &config::Http) -> Semaphore {
    Semaphore::new(limits.concurrency_max.min(Semaphore::MAX_PERMITS))
}

/// Whether a request is one of gRPC, on whichever port.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    kind.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
impl Edge {
    /// That of a node without a cluster.
    pub(crate) fn lone(service: Arc<Service>, sinks: Sinks, limits: config::Http) -> Arc<Self> {
        let metrics = Metrics::new().unwrap();
        Arc::new(Self {
            service,
            members: Arc::new(crate::cluster::members::NoMembers),
            sinks,
            watchers: Watchers::new(64, metrics.clone()),
            metrics,
            report: Arc::default(),
            started: Instant::now(),
            admission: admission(&limits),
            limits,
        })
    }

    /// That of a node without a cluster and without sinks.
    pub(crate) fn without_sinks(limits: config::Http) -> Arc<Self> {
        let service = Service::lone(lockstep_machine::Limits::default());
        Self::lone(Arc::new(service), Sinks::lone(&[]), limits)
    }

    /// Small limits.
    pub(crate) fn test_limits() -> config::Http {
        use std::time::Duration;
        config::Http {
            listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: String::new(),
            body_bytes_max: 4096,
            header_timeout: Duration::from_millis(200),
            request_timeout: Duration::from_secs(10),
            concurrency_max: 64,
            drain_timeout: Duration::from_secs(10),
            cors_origins: vec![],
        }
    }
}
