//! The parameters of a page of dead letters.

use lockstep_machine::EventCursor;

use crate::service::Invalid;

/// Dead letters on a page by default.
const LIMIT_DEFAULT: u64 = 100;
/// Dead letters on a page at most.
const LIMIT_MAX: u64 = 1000;

/// A requested page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeadLetterPage {
    /// After the dead letter of this event.
    pub(super) after: Option<EventCursor>,
    /// Dead letters at most.
    pub(super) limit: usize,
}

impl DeadLetterPage {
    /// Checks the limit, 1 to 1000, and the cursor, that of the last event of the previous page.
    pub(super) fn check(limit: Option<u64>, cursor: Option<&str>) -> Result<Self, Invalid> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Invalid::Value {
                field: "limit",
                reason: format!("must be a whole number from 1 to {LIMIT_MAX}"),
            });
        }
        let after = cursor.map(str::parse).transpose();
        let after = after.map_err(|_| Invalid::Cursor)?;
        let limit = limit as usize;
        Ok(Self { after, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::GlobalRevision;

    #[test]
    fn a_page_is_bounded_and_starts_after_a_cursor() {
        let first = DeadLetterPage::check(None, None);
        let expected = DeadLetterPage {
            after: None,
            limit: 100,
        };
        assert_eq!(first, Ok(expected));
        let after = Some(EventCursor {
            revision: GlobalRevision(7),
            position: 2,
        });
        let next = DeadLetterPage::check(Some(1000), Some("7-2"));
        assert_eq!(next, Ok(DeadLetterPage { after, limit: 1000 }));
        for limit in [0, 1001, u64::MAX] {
            let refused = DeadLetterPage::check(Some(limit), None);
            assert!(matches!(
                refused,
                Err(Invalid::Value { field: "limit", .. })
            ));
        }
        assert_eq!(DeadLetterPage::check(None, Some("x")), Err(Invalid::Cursor));
    }
}
