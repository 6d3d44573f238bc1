//! Conversions between public messages and the state machine's types.
//!
//! A conversion whose fields correspond one to one is a list of them; `field` has the macros. Names
//! and ids are parsed here, and a fault is reported with its field. Whether a request is legal is
//! decided by the state machine; defaults for consistency, page size and generated names by the node.
//! Messages that only inform are not converted: `shown` has what can be read off them.

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

pub use requests::NewInstance;
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
