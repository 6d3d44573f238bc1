//! Version and build date.

/// The version: `LOCKSTEP_VERSION` at build time, or the crate's.
pub const fn version() -> &'static str {
    match option_env!("LOCKSTEP_VERSION") {
        Some(version) if !version.is_empty() => version,
        _ => env!("CARGO_PKG_VERSION"),
    }
}

/// The date of the commit that was built, RFC 3339 in UTC; the build script says what stands in for it.
pub const fn build_date() -> &'static str {
    env!("LOCKSTEP_BUILD_DATE")
}
