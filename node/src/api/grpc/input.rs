//! Fields that several requests share.

use lockstep_machine::{GlobalRevision, InvalidName, MachineName};
use lockstep_proto::{ErrorCode, Malformed, v1};

use crate::api::problem::Problem;
use crate::service::{Consistency, Freshness, Invalid};

/// Names the field that a name stood in.
pub(super) fn named(field: &'static str) -> impl Fn(InvalidName) -> Malformed {
    move |invalid| Malformed::new(field, invalid)
}

pub(super) fn machine(name: String) -> Result<MachineName, Malformed> {
    MachineName::new(name).map_err(named("machine"))
}

/// A request that breaks a rule of every interface: the message names the field.
pub(super) fn invalid(error: Invalid) -> Problem {
    match error {
        Invalid::Cursor => error.into(),
        Invalid::Value { .. } | Invalid::Name { .. } => {
            Problem::new(ErrorCode::InvalidArgument, error)
        }
    }
}

/// The field `freshness`: linearizable without it.
pub(super) fn freshness(asked: Option<v1::Freshness>) -> Result<Freshness, Malformed> {
    let asked = asked.unwrap_or_default();
    let consistency = match v1::Consistency::try_from(asked.consistency) {
        Ok(v1::Consistency::Unspecified | v1::Consistency::Linearizable) => {
            Consistency::Linearizable
        }
        Ok(v1::Consistency::Stale) => Consistency::Stale,
        Err(error) => return Err(Malformed::new("freshness.consistency", error)),
    };
    Ok(Freshness {
        consistency,
        min_revision: asked.min_revision.map(GlobalRevision),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_linearizable_unless_it_says_otherwise() {
        let asked = |consistency, min_revision| {
            let asked = v1::Freshness {
                consistency,
                min_revision,
            };
            freshness(Some(asked)).map_err(|fault| fault.field)
        };
        let fresh = |consistency, min_revision: Option<u64>| {
            Ok(Freshness {
                consistency,
                min_revision: min_revision.map(GlobalRevision),
            })
        };
        assert_eq!(freshness(None), Ok(Freshness::default()));
        assert_eq!(asked(0, None), fresh(Consistency::Linearizable, None));
        assert_eq!(asked(1, Some(7)), fresh(Consistency::Linearizable, Some(7)));
        assert_eq!(asked(2, Some(0)), fresh(Consistency::Stale, Some(0)));
        assert_eq!(asked(3, None), Err("freshness.consistency"));
    }
}
