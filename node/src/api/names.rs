//! Generated names, for instances created without one.

use lockstep_machine::{IdempotencyKey, InstanceName, InvalidName, MachineName};
use ulid::Ulid;
use xxhash_rust::xxh3::xxh3_128;

use crate::clock::wall_clock;

/// The name of a new instance: derived from the idempotency key, or else unique.
pub(super) fn made(
    machine: &MachineName,
    key: Option<&IdempotencyKey>,
) -> Result<InstanceName, InvalidName> {
    let id = match key {
        Some(key) => derived(machine, key),
        None => sortable(),
    };
    InstanceName::new(id.to_string().to_ascii_lowercase())
}

/// 26 characters that sort by time.
fn sortable() -> Ulid {
    Ulid::from_parts(wall_clock().0, rand::random())
}

/// The same for every repetition with the key: another name would be another request.
fn derived(machine: &MachineName, key: &IdempotencyKey) -> Ulid {
    Ulid(xxh3_128(format!("{machine}/{key}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(machine: &str, key: Option<&str>) -> InstanceName {
        let machine = MachineName::new(machine).unwrap();
        let key = key.map(|key| IdempotencyKey::new(key).unwrap());
        made(&machine, key.as_ref()).unwrap()
    }

    #[test]
    fn made_names_are_sortable_and_the_same_for_the_same_key() {
        let (one, other) = (name("a", None), name("a", None));
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), 26);
        // The first ten characters are the time.
        assert!(one.as_str()[..10] <= other.as_str()[..10]);
        assert_eq!(name("a", Some("k")), name("a", Some("k")));
        assert_ne!(name("a", Some("k")), name("a", Some("l")));
        assert_ne!(name("a", Some("k")), name("b", Some("k")));
    }
}
