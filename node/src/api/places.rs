//! Event cursors as text: `revision-position`.

use lockstep_machine::{EventCursor, GlobalRevision};

/// A cursor as text.
pub(super) fn text(place: EventCursor) -> String {
    let EventCursor { revision, position } = place;
    format!("{revision}-{position}")
}

/// The cursor in a text.
pub(super) fn read(text: &str) -> Option<EventCursor> {
    // `parse` would accept a sign.
    if !text.bytes().all(|it| it.is_ascii_digit() || it == b'-') {
        return None;
    }
    let (revision, position) = text.split_once('-')?;
    Some(EventCursor {
        revision: GlobalRevision(revision.parse().ok()?),
        position: position.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_being_text() {
        for place in [
            EventCursor::default(),
            EventCursor::after(GlobalRevision(u64::MAX)),
        ] {
            assert_eq!(read(&text(place)), Some(place));
        }
    }

    #[test]
    fn text_that_is_not_a_cursor_is_refused() {
        for bad in ["", "9", "-1", "9-", "9-4294967296", "a-b", "9-1-1", "+9-1"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
