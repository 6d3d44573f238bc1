//! What a node says about itself: metrics, logs and the `/report` registry.

pub mod build;
pub mod logs;
mod metrics;
mod rate;
pub mod report;

pub use metrics::Metrics;
pub use report::Report;
