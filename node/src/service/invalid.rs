//! What a request must not ask, over whichever interface it comes.

use lockstep_machine::{InstanceName, InvalidName};

/// A request that breaks a rule which every interface keeps. Nothing was looked up or executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A value is not possible.
    #[error("{field} {reason}")]
    Value {
        /// The parameter or field.
        field: &'static str,
        /// What is wrong with it, to be read behind its name.
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
    /// The cursor was given for another list, or was altered.
    #[error("the cursor is not one that was given for this list and these filters")]
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

/// How the names begin that are asked for, if that is said. A text that no name begins with is
/// refused.
pub(super) fn prefix(text: Option<String>) -> Result<Option<String>, Invalid> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    InstanceName::new(&text).map_err(Invalid::name("prefix"))?;
    Ok(Some(text))
}
