//! Fields that several requests and responses share.

use lockstep_machine::{GlobalRevision, InvalidName, MachineName, Version};
use lockstep_proto::{Malformed, v1};

use crate::service::{Consistency, Freshness, View};

/// Names the field that a name stood in.
pub(super) fn named(field: &'static str) -> impl Fn(InvalidName) -> Malformed {
    move |invalid| Malformed::new(field, invalid)
}

/// The field `machine`.
pub(super) fn machine(name: String) -> Result<MachineName, Malformed> {
    MachineName::new(name).map_err(named("machine"))
}

/// The field `version`.
pub(super) fn version(version: Option<u32>) -> Option<Version> {
    version.map(Version)
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

/// How fresh an answer is.
pub(super) fn read_at(view: &View) -> Option<v1::ReadAt> {
    Some(v1::ReadAt {
        applied_index: view.applied_index,
        revision: view.state.revision().0,
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
