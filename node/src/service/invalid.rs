//! Rules for requests that hold on every interface.

use lockstep_machine::{InstanceName, InvalidName};

/// A request that breaks a rule of every interface. Nothing was read or executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A value is not valid.
    #[error("{field} {reason}")]
    Value {
        /// The parameter or field.
        field: &'static str,
        /// What is wrong with it; follows the field in the message.
        reason: String,
    },
    /// A name breaks the rules for names.
    #[error("{field}: {fault}")]
    Name {
        /// The parameter or field.
        field: &'static str,
        /// The rule that it breaks.
        fault: InvalidName,
    },
    /// The cursor belongs to another list, or was altered.
    #[error("the cursor does not belong to this list with these filters; start the list again")]
    Cursor,
}

impl Invalid {
    pub(super) fn value(field: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Value { field, reason }
    }

    pub(super) fn name(field: &'static str) -> impl Fn(InvalidName) -> Self {
        move |fault| Self::Name { field, fault }
    }
}

/// Checks a prefix of names: refused if no name can start with it.
pub(super) fn prefix(text: Option<String>) -> Result<Option<String>, Invalid> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    InstanceName::new(&text).map_err(Invalid::name("prefix"))?;
    Ok(Some(text))
}
