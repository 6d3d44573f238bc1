//! x

pub mod consul;
