//! `lockstep.v1.Sinks`.

use std::time::Duration;

use lockstep_machine::DeadLetter;
use lockstep_proto::errors::KNOWN_KEY;
use lockstep_proto::{ErrorCode, v1};
use prost::Message as _;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use super::GrpcState;
use super::answer::{self, coded, invalid, unanswered};
use crate::service::{Invalid, page_limit};
use crate::sink::{self, CHECK_MAX, FORWARDED_KEY, Hop, SinksError, truncated};

/// Approximate bytes of dead letters in one answer: well below the default limit of clients, 4 MiB.
const PAGE_BYTES_MAX: usize = 2 << 20;

/// The service, over the sinks.
pub(super) struct Sinks(pub(super) GrpcState);

/// One call, with its deadline and its metrics.
macro_rules! call {
    ($self:ident, $name:literal, $request:ident, $does:path) => {{
        let state = &$self.0;
        let deadline = state.deadline(&$request);
        let call = $does(&state.sinks, $request.into_inner(), deadline);
        state
            .observe(concat!("lockstep.v1.Sinks/", $name), call)
            .await
    }};
}

#[tonic::async_trait]
impl v1::sinks_server::Sinks for Sinks {
    async fn list_sinks(
        &self,
        request: Request<v1::ListSinksRequest>,
    ) -> Result<Response<v1::ListSinksResponse>, Status> {
        let (hop, deadline) = (hop(&request), self.0.deadline(&request));
        let call = async {
            let listed = self.0.sinks.list(hop, deadline).await;
            listed.map_err(|error| refused(&error))
        };
        self.0.observe("lockstep.v1.Sinks/ListSinks", call).await
    }

    async fn check_sink(
        &self,
        request: Request<v1::CheckSinkRequest>,
    ) -> Result<Response<v1::CheckSinkResponse>, Status> {
        let hop = hop(&request);
        let deadline = answer::deadline(GrpcState::asked_timeout(&request), CHECK_MAX);
        let request = request.into_inner();
        let call = async {
            let checked = self.0.sinks.check(&request.sink, hop, deadline).await;
            checked.map_err(|error| refused(&error))
        };
        self.0.observe("lockstep.v1.Sinks/CheckSink", call).await
    }

    async fn reseed_sink(
        &self,
        request: Request<v1::ReseedSinkRequest>,
    ) -> Result<Response<v1::ReseedSinkResponse>, Status> {
        call!(self, "ReseedSink", request, reseed)
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        call!(self, "ListDeadLetters", request, list_dead_letters)
    }

    async fn replay_dead_letters(
        &self,
        request: Request<v1::ReplayDeadLettersRequest>,
    ) -> Result<Response<v1::ReplayDeadLettersResponse>, Status> {
        call!(self, "ReplayDeadLetters", request, replay)
    }

    async fn discard_dead_letters(
        &self,
        request: Request<v1::DiscardDeadLettersRequest>,
    ) -> Result<Response<v1::DiscardDeadLettersResponse>, Status> {
        call!(self, "DiscardDeadLetters", request, discard)
    }
}

/// Whether the request comes from a caller or from another node.
fn hop<T>(request: &Request<T>) -> Hop {
    match request.metadata().contains_key(FORWARDED_KEY) {
        true => Hop::Last,
        false => Hop::First,
    }
}

async fn reseed(
    sinks: &sink::Sinks,
    request: v1::ReseedSinkRequest,
    deadline: Duration,
) -> Result<v1::ReseedSinkResponse, Status> {
    use v1::reseed_sink_response::Outcome;
    let sink = truncated(&request.sink).to_owned();
    let outcome = Some(match sinks.reseed(&sink, deadline).await {
        Ok(()) => Outcome::Asked(v1::SeedAsked { sink }),
        Err(error) => Outcome::Rejected(rejected(error)?),
    });
    Ok(v1::ReseedSinkResponse { outcome })
}

async fn list_dead_letters(
    sinks: &sink::Sinks,
    request: v1::ListDeadLettersRequest,
    deadline: Duration,
) -> Result<v1::ListDeadLettersResponse, Status> {
    let limit = page_limit(request.limit.map(u64::from)).map_err(invalid)?;
    let after = request.cursor.as_deref().map(str::parse).transpose();
    let after = after.map_err(|_| invalid(Invalid::Cursor))?;
    let listed = sinks.dead_letters(truncated(&request.sink), after, limit, deadline);
    let (letters, next) = listed.await.map_err(|error| refused(&error))?;
    let next = next.map(|next| next.to_string());
    Ok(page(letters, next, PAGE_BYTES_MAX))
}

async fn replay(
    sinks: &sink::Sinks,
    request: v1::ReplayDeadLettersRequest,
    deadline: Duration,
) -> Result<v1::ReplayDeadLettersResponse, Status> {
    use v1::replay_dead_letters_request::Which;
    use v1::replay_dead_letters_response::Outcome;
    let which = match request.which {
        Some(Which::Event(place)) => Some(place.into()),
        Some(Which::All(true)) => None,
        _ => return Err(missing_which()),
    };
    let marked = sinks.replay(truncated(&request.sink), which, deadline);
    let outcome = Some(match marked.await {
        Ok(count) => Outcome::Marked(v1::DeadLettersMarked { count }),
        Err(error) => Outcome::Rejected(rejected(error)?),
    });
    Ok(v1::ReplayDeadLettersResponse { outcome })
}

async fn discard(
    sinks: &sink::Sinks,
    request: v1::DiscardDeadLettersRequest,
    deadline: Duration,
) -> Result<v1::DiscardDeadLettersResponse, Status> {
    use v1::discard_dead_letters_request::Which;
    use v1::discard_dead_letters_response::Outcome;
    let which = match request.which {
        Some(Which::Event(place)) => Some(place.into()),
        Some(Which::All(true)) => None,
        _ => return Err(missing_which()),
    };
    let discarded = sinks.discard(truncated(&request.sink), which, deadline);
    let outcome = Some(match discarded.await {
        Ok(count) => Outcome::Discarded(v1::DeadLettersDiscarded { count }),
        Err(error) => Outcome::Rejected(rejected(error)?),
    });
    Ok(v1::DiscardDeadLettersResponse { outcome })
}

/// All must be requested explicitly.
fn missing_which() -> Status {
    let message = "which: set either event, the cursor of one, or all";
    coded(ErrorCode::InvalidArgument, message)
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
fn rejected(error: SinksError) -> Result<v1::Rejected, Status> {
    match error {
        SinksError::Rejected(rejection) => Ok((&*rejection).into()),
        error => Err(refused(&error)),
    }
}

/// The status of an error that is not a decision of the state machine.
fn refused(error: &SinksError) -> Status {
    match error {
        SinksError::Unknown { known, .. } => {
            let mut status = coded(ErrorCode::UnknownSink, error);
            // Names of sinks are letters and digits, and valid metadata.
            if let Ok(known) = MetadataValue::try_from(known.join(",")) {
                status.metadata_mut().insert(KNOWN_KEY, known);
            }
            status
        }
        SinksError::Service(error) => unanswered(error),
        SinksError::Rejected(_) | SinksError::CheckTimeout { .. } => coded(error.code(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::tests::fixtures::event;
    use lockstep_machine::{Event, EventKind, Metadata, Rejection, Timestamp};
    use std::sync::Arc;
    use tonic::Code;

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
            buried_at: Timestamp(100),
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
        let status = rejected(unknown).unwrap_err();
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
