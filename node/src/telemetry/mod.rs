//! What a node says about itself: metrics, logs and the `/report` registry.

pub mod build;
mod metrics;

pub use metrics::Metrics;
