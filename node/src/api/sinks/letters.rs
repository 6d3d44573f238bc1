//! Pages of dead letters: what may be asked.

use lockstep_machine::EventCursor;

use crate::api::places;
use crate::service::Invalid;

/// Dead letters on a page, unless the caller asks for fewer or more.
const LIMIT_DEFAULT: u64 = 100;
/// Dead letters on a page at most.
const LIMIT_MAX: u64 = 1000;

/// A page that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) struct LettersAsked {
    /// Behind the letter of this event.
    pub(in crate::api) after: Option<EventCursor>,
    /// How many at most.
    pub(in crate::api) limit: usize,
}

impl LettersAsked {
    /// Checks what is asked: a limit of 1 to 1000, and the cursor of the page before, which is the
    /// place of its last event.
    pub(in crate::api) fn check(limit: Option<u64>, cursor: Option<&str>) -> Result<Self, Invalid> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Invalid::Value {
                field: "limit",
                reason: format!("must be a whole number from 1 to {LIMIT_MAX}"),
            });
        }
        let after = match cursor {
            Some(text) => Some(places::read(text).ok_or(Invalid::Cursor)?),
            None => None,
        };
        let limit = limit as usize;
        Ok(Self { after, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::GlobalRevision;

    #[test]
    fn a_page_is_bounded_and_begins_behind_a_place() {
        let first = LettersAsked::check(None, None);
        let expected = LettersAsked {
            after: None,
            limit: 100,
        };
        assert_eq!(first, Ok(expected));
        let after = Some(EventCursor {
            revision: GlobalRevision(7),
            position: 2,
        });
        let next = LettersAsked::check(Some(1000), Some("7-2"));
        assert_eq!(next, Ok(LettersAsked { after, limit: 1000 }));
        for limit in [0, 1001, u64::MAX] {
            let refused = LettersAsked::check(Some(limit), None);
            assert!(matches!(
                refused,
                Err(Invalid::Value { field: "limit", .. })
            ));
        }
        assert_eq!(LettersAsked::check(None, Some("x")), Err(Invalid::Cursor));
    }
}
