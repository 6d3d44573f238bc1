//! The wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use lockstep_machine::Timestamp;

/// The time of this machine, in milliseconds since 1970.
pub(crate) fn wall_clock() -> Timestamp {
    // A clock before 1970 reads as 1970: cluster time only moves forward.
    Timestamp(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64),
    )
}
