//! `lockstep.v1.Sinks`.

use std::time::Duration;

use lockstep_proto::v1;
use prost::Message as _;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use super::GrpcState;
use super::answer::{self, coded, invalid, unanswered};
use crate::service::{Invalid, page_limit};
use crate::sink::{self, CHECK_MAX, FORWARDED_KEY, Hop, LeadersSinks, SinksError, truncated};
use lockstep_proto::ErrorCode;
use lockstep_proto::errors::KNOWN_KEY;

/// Approximate bytes of dead letters in one answer: well below the default limit of clients, 4 MiB.
const PAGE_BYTES_MAX: usize = 2 << 20;

/// The service, over the sinks.
pub(super) struct Sinks {
    state: GrpcState,
    leaders: LeadersSinks,
}

impl Sinks {
    pub(super) fn new(state: GrpcState) -> Self {
        let leaders = LeadersSinks::new(state.sinks.clone());
        Self { state, leaders }
    }
}

/// One call, with its deadline and its metrics.
macro_rules! call {
    ($self:ident, $name:literal, $request:ident, $does:path) => {{
        let state = &$self.state;
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
        let (hop, deadline) = (hop(&request), self.state.deadline(&request));
        let call = async {
            let listed = self.leaders.list(hop, deadline).await;
            listed.map_err(|error| refused(&error))
        };
        self.state
            .observe("lockstep.v1.Sinks/ListSinks", call)
            .await
    }

    async fn check_sink(
        &self,
        request: Request<v1::CheckSinkRequest>,
    ) -> Result<Response<v1::CheckSinkResponse>, Status> {
        let hop = hop(&request);
        let deadline = answer::deadline(GrpcState::asked_timeout(&request), CHECK_MAX);
        let request = request.into_inner();
        let call = async {
            let checked = self.leaders.check(&request.sink, hop, deadline).await;
            checked.map_err(|error| refused(&error))
        };
        self.state
            .observe("lockstep.v1.Sinks/CheckSink", call)
            .await
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
    let asked = decided(sinks.reseed(&sink, deadline).await)?;
    let outcome = Some(match asked {
        Ok(()) => Outcome::Asked(v1::SeedAsked { sink }),
        Err(rejected) => Outcome::Rejected(*rejected),
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
    Ok(page(
        &letters,
        next.map(|next| next.to_string()),
        PAGE_BYTES_MAX,
    ))
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
    let marked = sinks
        .replay(truncated(&request.sink), which, deadline)
        .await;
    let outcome = Some(match decided(marked)? {
        Ok(count) => Outcome::Marked(v1::DeadLettersMarked { count }),
        Err(rejected) => Outcome::Rejected(*rejected),
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
    let discarded = sinks
        .discard(truncated(&request.sink), which, deadline)
        .await;
    let outcome = Some(match decided(discarded)? {
        Ok(count) => Outcome::Discarded(v1::DeadLettersDiscarded { count }),
        Err(rejected) => Outcome::Rejected(*rejected),
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
    letters: &[sink::DeadLetter],
    next_cursor: Option<String>,
    bytes_max: usize,
) -> v1::ListDeadLettersResponse {
    let mut page = v1::ListDeadLettersResponse {
        dead_letters: vec![],
        next_cursor,
    };
    let mut bytes = 0;
    for (at, letter) in letters.iter().enumerate() {
        let shown = dead_letter(letter);
        bytes += shown.encoded_len();
        page.dead_letters.push(shown);
        if bytes >= bytes_max && at + 1 < letters.len() {
            page.next_cursor = Some(letter.event.cursor().to_string());
            break;
        }
    }
    page
}

fn dead_letter(it: &sink::DeadLetter) -> v1::DeadLetter {
    v1::DeadLetter {
        event: Some((&*it.event).into()),
        reason: it.reason.clone(),
        attempts: it.attempts,
        buried_at_ms: it.buried_at.0,
        tried_at_ms: it.tried_at.0,
        replay_wanted: it.replay_wanted,
    }
}

/// Decisions of the state machine, including rejections, are messages; anything else is a status.
fn decided<T>(result: Result<T, SinksError>) -> Result<Result<T, Box<v1::Rejected>>, Status> {
    match result {
        Ok(done) => Ok(Ok(done)),
        Err(SinksError::Rejected(rejection)) => Ok(Err(Box::new((&*rejection).into()))),
        Err(error @ SinksError::UnknownDeadLetter { .. }) => Ok(Err(Box::new(v1::Rejected {
            code: error.code().to_string(),
            message: error.to_string(),
            ..Default::default()
        }))),
        Err(error) => Err(refused(&error)),
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
        // On a read: it does not exist.
        SinksError::UnknownDeadLetter { .. }
        | SinksError::Rejected(_)
        | SinksError::CheckTimeout { .. } => coded(error.code(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{
        Cause, Event, EventCursor, EventKind, GlobalRevision, InstanceName, MachineName, Metadata,
        Rejection, Revision, Timestamp, Version,
    };
    use std::sync::Arc;
    use tonic::Code;

    fn letter(position: u32, bytes: usize) -> sink::DeadLetter {
        let event = Event {
            revision: GlobalRevision(7),
            position,
            kind: EventKind::Created,
            machine: MachineName::new("order").unwrap(),
            name: Some(InstanceName::new("42").unwrap()),
            version: Version(1),
            from_version: None,
            from: None,
            to: None,
            event: None,
            instance_revision: Revision(0),
            at: Timestamp(99),
            cause: Cause::Request,
            metadata: Metadata::new([("why", "x".repeat(bytes))]).unwrap(),
        };
        sink::DeadLetter {
            event: Arc::new(event),
            reason: "a column is too short".to_owned(),
            attempts: 3,
            buried_at: Timestamp(100),
            tried_at: Timestamp(200),
            replay_wanted: true,
        }
    }

    #[test]
    fn a_dead_letter_is_encoded_with_all_fields() {
        let told = dead_letter(&letter(2, 3));
        let place = told.event.as_ref().and_then(|event| event.place);
        let expected = v1::Place {
            revision: 7,
            position: 2,
        };
        assert_eq!(place, Some(expected));
        assert_eq!(
            (told.reason.as_str(), told.attempts),
            ("a column is too short", 3)
        );
        assert_eq!((told.buried_at_ms, told.tried_at_ms), (100, 200));
        assert!(told.replay_wanted);
    }

    #[test]
    fn a_page_without_room_for_all_continues_after_its_last() {
        let letters: Vec<_> = (0..5).map(|position| letter(position, 400)).collect();
        let next = || Some("9-0".to_owned());
        let whole = page(&letters, next(), usize::MAX);
        assert_eq!((whole.dead_letters.len(), whole.next_cursor), (5, next()));
        let cut = page(&letters, next(), 700);
        assert_eq!(cut.dead_letters.len(), 2);
        assert_eq!(cut.next_cursor.as_deref(), Some("7-1"));
        let last = page(&letters[..1], None, 1);
        assert_eq!((last.dead_letters.len(), last.next_cursor), (1, None));
    }

    #[test]
    fn an_unknown_sink_is_not_found_and_the_known_ones_are_named() {
        let unknown = SinksError::Unknown {
            name: "report".to_owned(),
            known: vec!["mail".to_owned(), "reports".to_owned()],
        };
        let status = decided::<()>(Err(unknown)).unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        let text = |key: &str| status.metadata().get(key).map(|it| it.to_str().unwrap());
        assert_eq!(text("lockstep-code"), Some("unknown_sink"));
        assert_eq!(text(KNOWN_KEY), Some("mail,reports"));
    }

    #[test]
    fn rejections_of_the_state_machine_are_messages() {
        let cursor = EventCursor {
            revision: GlobalRevision(7),
            position: 2,
        };
        let sink = "reports".to_owned();
        let unknown = SinksError::UnknownDeadLetter { sink, cursor };
        let refused = decided::<()>(Err(unknown)).unwrap().unwrap_err();
        assert_eq!(refused.code, "unknown_dead_letter");
        assert!(refused.message.contains("7-2"), "{}", refused.message);
        let refused = decided::<()>(Err(SinksError::Rejected(Box::new(Rejection::KeyReused))));
        assert_eq!(
            refused.unwrap().unwrap_err().code,
            Rejection::KeyReused.code()
        );
    }
}
