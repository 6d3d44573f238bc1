//! Rules for requests that hold on every interface.

use lockstep_machine::{InstanceName, InvalidName};

/// A request that breaks a rule of every interface. Nothing was read or executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("{field} {reason}")]
    Value { field: &'static str, reason: String },
    #[error("{field}: {fault}")]
    Name {
        field: &'static str,
        fault: InvalidName,
    },
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
