//! `lockstep.v1.Sinks`.

use lockstep_machine::{DeadLetter, EventCursor};
use lockstep_proto::{Malformed, v1};
use prost::Message as _;

use super::calls;
use super::input::invalid;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::service::{Invalid, page_limit};
use crate::sink::{CHECK_MAX, SinksError, truncated};

/// Approximate bytes of dead letters in one answer: well below the default limit of clients, 4 MiB.
const PAGE_BYTES_MAX: usize = 2 << 20;

calls! {
    "lockstep.v1.Sinks", sinks_server::Sinks for Sinks {
        list_sinks "ListSinks": ListSinksRequest => ListSinksResponse = list_sinks;
        check_sink "CheckSink": CheckSinkRequest => CheckSinkResponse = check_sink, within CHECK_MAX;
        reseed_sink "ReseedSink": ReseedSinkRequest => ReseedSinkResponse = reseed;
        list_dead_letters "ListDeadLetters": ListDeadLettersRequest => ListDeadLettersResponse = list_dead_letters;
        replay_dead_letters "ReplayDeadLetters": ReplayDeadLettersRequest => ReplayDeadLettersResponse = replay;
        discard_dead_letters "DiscardDeadLetters": DiscardDeadLettersRequest => DiscardDeadLettersResponse = discard;
    }
}

async fn list_sinks(
    call: &Call,
    _: v1::ListSinksRequest,
) -> Result<v1::ListSinksResponse, Problem> {
    Ok(call.edge.sinks.list(call.hop, call.left()).await?)
}

async fn check_sink(
    call: &Call,
    request: v1::CheckSinkRequest,
) -> Result<v1::CheckSinkResponse, Problem> {
    let sinks = &call.edge.sinks;
    Ok(sinks.check(&request.sink, call.hop, call.left()).await?)
}

async fn reseed(
    call: &Call,
    request: v1::ReseedSinkRequest,
) -> Result<v1::ReseedSinkResponse, Problem> {
    use v1::reseed_sink_response::Outcome;
    let sink = truncated(&request.sink).to_owned();
    let outcome = match call.edge.sinks.reseed(&sink, call.left()).await {
        Ok(()) => Outcome::Requested(v1::SeedRequested { sink }),
        Err(error) => Outcome::Rejected(rejected(error)?),
    };
    let outcome = Some(outcome);
    Ok(v1::ReseedSinkResponse { outcome })
}

async fn list_dead_letters(
    call: &Call,
    request: v1::ListDeadLettersRequest,
) -> Result<v1::ListDeadLettersResponse, Problem> {
    let limit = page_limit(request.limit.map(u64::from)).map_err(invalid)?;
    let after = request.cursor.as_deref().map(str::parse).transpose();
    let after = after.map_err(|_| Invalid::Cursor)?;
    let sinks = &call.edge.sinks;
    let listed = sinks.dead_letters(truncated(&request.sink), after, limit, call.left());
    let (letters, next) = listed.await?;
    let next = next.map(|next| next.to_string());
    Ok(page(letters, next, PAGE_BYTES_MAX))
}

/// Calls about one dead letter, or all, which must be requested explicitly.
macro_rules! about_dead_letters {
    ($($call:ident: $request:ident $which:ident => $response:ident $module:ident::$done:ident($count:ident);)+) => {$(
        async fn $call(call: &Call, request: v1::$request) -> Result<v1::$response, Problem> {
            use v1::$module::Outcome;
            use v1::$which::Which;
            let which: Option<EventCursor> = match request.which {
                Some(Which::Event(cursor)) => Some(cursor.into()),
                Some(Which::All(true)) => None,
                _ => {
                    let rule = "set either event, the cursor of one, or all";
                    return Err(Malformed::new("which", rule).into());
                }
            };
            let sinks = &call.edge.sinks;
            let outcome = match sinks.$call(truncated(&request.sink), which, call.left()).await {
                Ok(count) => Outcome::$done(v1::$count { count }),
                Err(error) => Outcome::Rejected(rejected(error)?),
            };
            let outcome = Some(outcome);
            Ok(v1::$response { outcome })
        }
    )+};
}

about_dead_letters! {
    replay: ReplayDeadLettersRequest replay_dead_letters_request
        => ReplayDeadLettersResponse replay_dead_letters_response::Marked(DeadLettersMarked);
    discard: DiscardDeadLettersRequest discard_dead_letters_request
        => DiscardDeadLettersResponse discard_dead_letters_response::Discarded(DeadLettersDiscarded);
}

/// A page that fits into a message; the rest is on the next one.
fn page(
    letters: Vec<DeadLetter>,
    next_cursor: Option<String>,
    bytes_max: usize,
) -> v1::ListDeadLettersResponse {
    let mut page = v1::ListDeadLettersResponse {
        dead_letters: vec![],
        next_cursor,
    };
    let mut bytes = 0;
    let mut letters = letters.into_iter();
    while let Some(letter) = letters.next() {
        let cursor = letter.event.cursor();
        let letter = v1::DeadLetter::from(letter);
        bytes += letter.encoded_len();
        page.dead_letters.push(letter);
        if bytes >= bytes_max && !letters.as_slice().is_empty() {
            page.next_cursor = Some(cursor.to_string());
            break;
        }
    }
    page
}

/// Rejections by the state machine are messages; any other error is a status.
fn rejected(error: SinksError) -> Result<v1::Rejected, Problem> {
    match error {
        SinksError::Rejected(rejection) => Ok((&*rejection).into()),
        error => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::tests::fixtures::event;
    use lockstep_machine::{Event, EventKind, Metadata, Rejection, Timestamp};
    use lockstep_proto::errors::KNOWN_KEY;
    use std::sync::Arc;
    use tonic::{Code, Status};

    fn letter(position: u32, bytes: usize) -> DeadLetter {
        let event = Event {
            position,
            metadata: Metadata::new([("why", "x".repeat(bytes))]).unwrap(),
            ..event(7, "order/42", EventKind::Created, Some("open"))
        };
        DeadLetter {
            event: Arc::new(event),
            reason: "a column is too short".to_owned(),
            attempts: 3,
            rejected_at: Timestamp(100),
            tried_at: Timestamp(200),
            replay_wanted: true,
        }
    }

    #[test]
    fn a_page_without_room_for_all_continues_after_its_last() {
        let letters: Vec<_> = (0..5).map(|position| letter(position, 400)).collect();
        let next = || Some("9-0".to_owned());
        let whole = page(letters.clone(), next(), usize::MAX);
        assert_eq!((whole.dead_letters.len(), whole.next_cursor), (5, next()));
        let cut = page(letters.clone(), next(), 700);
        assert_eq!(cut.dead_letters.len(), 2);
        assert_eq!(cut.next_cursor.as_deref(), Some("7-1"));
        let last = page(letters[..1].to_vec(), None, 1);
        assert_eq!((last.dead_letters.len(), last.next_cursor), (1, None));
    }

    #[test]
    fn an_unknown_sink_is_not_found_and_the_known_ones_are_named() {
        let unknown = SinksError::Unknown {
            name: "report".to_owned(),
            known: vec!["mail".to_owned(), "reports".to_owned()],
        };
        let status = Status::from(rejected(unknown).unwrap_err());
        assert_eq!(status.code(), Code::NotFound);
        let text = |key: &str| status.metadata().get(key).map(|it| it.to_str().unwrap());
        assert_eq!(text("lockstep-code"), Some("unknown_sink"));
        assert_eq!(text(KNOWN_KEY), Some("mail,reports"));
    }

    #[test]
    fn rejections_of_the_state_machine_are_messages() {
        let unknown = Rejection::UnknownDeadLetter {
            sink: "reports".parse().unwrap(),
            cursor: letter(2, 0).event.cursor(),
        };
        let refused = rejected(SinksError::Rejected(Box::new(unknown))).unwrap();
        assert_eq!(refused.code, "unknown_dead_letter");
        assert_eq!(refused.message, "sink reports has no dead letter 7-2");
    }
}
