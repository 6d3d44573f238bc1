//! What a node reports about itself.
//!
//! - [`Metrics`]: every metric in one table, in the format of Prometheus under `/metrics`.
//! - [`Report`]: counters and timers that clients may feed, in the JSON of go-metrics under `/report`.
//! - [`logs`]: one event per line on standard error.
//! - [`build`]: version and build date.
//!
//! Nothing here measures by itself: [`observe`](crate::observe) and the interfaces feed the metrics.
//! The registries are bounded, so that no client can grow them.

pub mod build;
pub mod logs;
mod metrics;
mod rate;
pub mod report;

pub use metrics::Metrics;
pub use report::Report;
