//! Conversions between public messages and the state machine's types.
//!
//! If the fields of two types correspond one to one, a conversion is a list of them; `field` has the macros.
//! Names and ids are parsed here, and an error names its field. The state machine decides whether a request
//! is allowed; the node applies defaults for consistency, page size and generated names. Read-only
//! messages are not converted; `shown` has accessors for them.

mod event;
mod field;
mod instance;
mod machine;
mod rejected;
mod requests;
mod shown;
mod transaction;
mod written;

use std::str::FromStr;

use lockstep_machine::InvalidName;

use crate::Malformed;
use crate::parsed;

pub use written::UnexpectedOutcome;

/// A name or a key that may be left out.
///
/// # Errors
///
/// The field, if the text breaks its rules.
pub fn optional_name<T: FromStr<Err = InvalidName>>(
    field: &'static str,
    name: Option<String>,
) -> Result<Option<T>, Malformed> {
    name.map(|name| parsed(field, name.parse())).transpose()
}
