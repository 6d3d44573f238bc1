//! The public messages to and from the state machine's own types.
//!
//! What a request may ask is decided by the state machine; here its names are read, and what breaks
//! their rules is told with its field. How fresh a read must be, how many instances a page has, or
//! what an instance without a name is called is for the node to say.

mod event;
mod instance;
mod machine;
mod rejected;
mod requests;
mod transaction;
mod written;

use std::str::FromStr;

use lockstep_machine::{IdempotencyKey, InvalidName};

use crate::Malformed;
use crate::batch::parsed;

pub use requests::NewInstance;
pub use written::UnexpectedOutcome;

/// The caller's own key for a write, which every write has under the same name.
///
/// # Errors
///
/// `idempotency_key`, if it is not 1 to 128 printable ASCII characters.
pub fn idempotency_key(key: Option<String>) -> Result<Option<IdempotencyKey>, Malformed> {
    key.map(|key| parsed("idempotency_key", IdempotencyKey::new(key)))
        .transpose()
}

/// A name that may be left out.
///
/// # Errors
///
/// The field, if the name breaks the rules for names.
pub fn optional_name<T: FromStr<Err = InvalidName>>(
    field: &'static str,
    name: Option<String>,
) -> Result<Option<T>, Malformed> {
    name.map(|name| parsed(field, name.parse())).transpose()
}
