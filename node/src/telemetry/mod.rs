//! What a node reports about itself.
//!
//! - [`Metrics`]: every metric in one table, in the format of Prometheus under `/metrics`.
//! - [`Report`]: counters and timers, which clients can update, in the JSON of go-metrics under `/report`.
//! - [`logs`]: one event per line on standard error.
//! - [`Output`]: what is written to standard output or standard error without ever blocking.
//! - [`build`]: version and build date.
//!
//! Nothing here measures anything: [`observe`](crate::observe) and the interfaces update the metrics. The
//! registries are bounded, whatever clients send.

pub mod build;
pub mod logs;
mod metrics;
mod output;
mod rate;
pub(crate) mod report;

pub(crate) use metrics::Metrics;
pub use output::Output;
pub(crate) use report::Report;
