//! Places in the stream of events, as text: `revision-position`.

use lockstep_machine::{EventCursor, GlobalRevision};

/// A place as text.
pub(super) fn text(place: EventCursor) -> String {
    let EventCursor { revision, position } = place;
    format!("{revision}-{position}")
}

/// The place that a text says.
pub(super) fn read(text: &str) -> Option<EventCursor> {
    // The parser of numbers takes a sign, too.
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
    fn a_place_survives_being_text() {
        for place in [
            EventCursor::default(),
            EventCursor::after(GlobalRevision(u64::MAX)),
        ] {
            assert_eq!(read(&text(place)), Some(place));
        }
    }

    #[test]
    fn what_is_no_place_is_none() {
        for bad in ["", "9", "-1", "9-", "9-4294967296", "a-b", "9-1-1", "+9-1"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
