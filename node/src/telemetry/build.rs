//! What is running: version and build date, set when the binary is built.

/// The version: `LOCKSTEP_VERSION` at build time, or the crate's.
pub const fn version() -> &'static str {
    match option_env!("LOCKSTEP_VERSION") {
        Some(version) if !version.is_empty() => version,
        _ => env!("CARGO_PKG_VERSION"),
    }
}

/// When it was built: `LOCKSTEP_BUILD_DATE` at build time, or `unknown`.
pub const fn build_date() -> &'static str {
    match option_env!("LOCKSTEP_BUILD_DATE") {
        Some(date) if !date.is_empty() => date,
        _ => "unknown",
    }
}
