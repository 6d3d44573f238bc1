//! The parts of the messages' JSON that serde does not derive. `build.rs` applies them to fields.

use lockstep_machine::Timestamp;
use serde::ser::{Serialize, Serializer};

use crate::v1;

/// A time in RFC 3339.
pub(crate) fn time<S: Serializer>(ms: &u64, s: S) -> Result<S::Ok, S::Error> {
    Timestamp(*ms).serialize(s)
}

pub(crate) fn optional_time<S: Serializer>(ms: &Option<u64>, s: S) -> Result<S::Ok, S::Error> {
    ms.map(Timestamp).serialize(s)
}

/// An id as text: it has 63 bits, and many JSON parsers keep 53.
pub(crate) fn text<S: Serializer>(id: &u64, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(id)
}

pub(crate) fn optional_text<S: Serializer>(id: &Option<u64>, s: S) -> Result<S::Ok, S::Error> {
    id.map(|id| id.to_string()).serialize(s)
}

pub(crate) fn role<S: Serializer>(role: &i32, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&v1::Role::try_from(*role).unwrap_or_default())
}

pub(crate) fn phase<S: Serializer>(phase: &i32, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&v1::SinkPhase::try_from(*phase).unwrap_or_default())
}

pub(crate) fn revision<S: Serializer>(
    cursor: &Option<v1::EventCursor>,
    s: S,
) -> Result<S::Ok, S::Error> {
    cursor.map(|cursor| cursor.revision).serialize(s)
}

/// A check, with whether every step succeeded.
#[derive(serde::Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = CheckBody))]
struct Check<'a> {
    /// Whether every step succeeded.
    ok: bool,
    /// In order; nothing follows a step that failed.
    steps: &'a [v1::CheckStep],
    /// The node that ran the check.
    node: &'a str,
}

impl Serialize for v1::CheckSinkResponse {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let Self { steps, node } = self;
        // No steps prove nothing.
        let ok = !steps.is_empty() && self.failed().is_none();
        Check { ok, steps, node }.serialize(s)
    }
}

/// A step, with what was seen or went wrong in one field.
#[derive(serde::Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = StepBody))]
struct Step<'a> {
    /// What was done.
    step: &'a str,
    /// How long it took.
    took_ms: f64,
    ok: bool,
    /// What was seen, or what failed.
    detail: &'a str,
}

impl Serialize for v1::CheckStep {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let outcome = self.outcome();
        let step = Step {
            step: &self.step,
            took_ms: self.took_us as f64 / 1e3,
            ok: outcome.is_ok(),
            detail: outcome.unwrap_or_else(|failed| failed),
        };
        step.serialize(s)
    }
}

/// A message is described as what it is written as.
#[cfg(feature = "openapi")]
mod openapi {
    use std::borrow::Cow;

    use utoipa::openapi::{RefOr, Schema};
    use utoipa::{PartialSchema, ToSchema};

    use super::{Check, Step, v1};

    macro_rules! described {
        ($($message:ident as $json:ident,)*) => {$(
            impl PartialSchema for v1::$message {
                fn schema() -> RefOr<Schema> {
                    $json::schema()
                }
            }

            impl ToSchema for v1::$message {
                fn name() -> Cow<'static, str> {
                    $json::name()
                }

                fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                    $json::schemas(schemas);
                }
            }
        )*};
    }

    described! {
        CheckSinkResponse as Check,
        CheckStep as Step,
    }
}
