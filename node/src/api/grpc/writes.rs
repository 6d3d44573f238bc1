//! The calls that write, and their dry runs.

use std::time::Duration;

use lockstep_machine::{
    Command, Delete, DeleteDefinition, DocumentError, GlobalRevision, IdempotencyKey, Migrate,
    Outcome, Rejection, Reply, State, Transaction, Transition,
};
use lockstep_proto::ErrorCode;
use lockstep_proto::{Malformed, NewInstance, UnexpectedOutcome, optional_name, v1};
use tonic::Status;

use super::GrpcState;
use super::answer::{coded, malformed, unanswered, unknown_outcome};
use super::input::named;
use crate::api::{count_transitions, names};
use crate::service::{DefineError, Document, Language};

/// A command as a request gives it, with the caller's key.
type Keyed<T> = (T, Option<IdempotencyKey>);

/// Reads a request.
fn read<Q, T>(request: Q) -> Result<Keyed<T>, Status>
where
    Keyed<T>: TryFrom<Q, Error = Malformed>,
{
    Keyed::<T>::try_from(request).map_err(malformed)
}

/// Executes a command.
async fn execute<A>(
    state: &GrpcState,
    command: Command,
    key: Option<IdempotencyKey>,
    deadline: Duration,
) -> Result<A, Status>
where
    A: TryFrom<Reply, Error = UnexpectedOutcome>,
{
    let reply = state.service.execute(command, key, deadline).await;
    let reply = reply.map_err(|error| unanswered(&error))?;
    count_transitions(&state.report, &reply);
    answer(reply)
}

fn answer<A: TryFrom<Reply, Error = UnexpectedOutcome>>(reply: Reply) -> Result<A, Status> {
    A::try_from(reply).map_err(unknown_outcome)
}

pub(super) async fn define(
    state: &GrpcState,
    request: v1::DefineRequest,
    deadline: Duration,
) -> Result<v1::DefineResponse, Status> {
    use v1::define_request::Document as Wire;
    let key = optional_name("idempotency_key", request.idempotency_key).map_err(malformed)?;
    let (language, text) = match &request.document {
        Some(Wire::Json(text)) => (Language::Json, text),
        Some(Wire::Yaml(text)) => (Language::Yaml, text),
        None => {
            let reason = "one of `json` and `yaml` is required";
            return Err(malformed(Malformed::new("document", reason)));
        }
    };
    let document = Document { language, text };
    let defined = state
        .service
        .define(document, request.dry_run, key, deadline);
    match defined.await {
        Ok(reply) => answer(reply),
        Err(DefineError::Service(error)) => Err(unanswered(&error)),
        Err(DefineError::Document { error, revision }) => refused(&error, revision),
    }
}

/// A document with faults gets a rejection, as from the state machine; one that cannot be parsed is an invalid
/// request.
fn refused(error: &DocumentError, revision: GlobalRevision) -> Result<v1::DefineResponse, Status> {
    if let DocumentError::Syntax { .. } = error {
        return Err(coded(ErrorCode::MalformedDocument, error));
    }
    Ok(v1::DefineResponse {
        outcome: Some(v1::define_response::Outcome::Rejected(error.into())),
        written: Some(v1::Written::at(revision)),
    })
}

pub(super) async fn delete_machine(
    state: &GrpcState,
    request: v1::DeleteMachineRequest,
    deadline: Duration,
) -> Result<v1::DeleteMachineResponse, Status> {
    let (delete, key) = read::<_, DeleteDefinition>(request)?;
    execute(state, Command::DeleteDefinition(delete), key, deadline).await
}

pub(super) async fn create(
    state: &GrpcState,
    request: v1::CreateInstanceRequest,
    deadline: Duration,
) -> Result<v1::CreateInstanceResponse, Status> {
    let (new, key) = read::<_, NewInstance>(request)?;
    let name = match &new.name {
        Some(name) => name.clone(),
        None => names::made(&new.machine, key.as_ref())
            .map_err(|fault| malformed(named("id")(fault)))?,
    };
    execute(state, Command::Create(new.named(name)), key, deadline).await
}

pub(super) async fn transition(
    state: &GrpcState,
    request: v1::TransitionRequest,
    deadline: Duration,
) -> Result<v1::TransitionResponse, Status> {
    let (transition, key) = read::<_, Transition>(request)?;
    execute(state, Command::Transition(transition), key, deadline).await
}

pub(super) async fn delete(
    state: &GrpcState,
    request: v1::DeleteInstanceRequest,
    deadline: Duration,
) -> Result<v1::DeleteInstanceResponse, Status> {
    let (delete, key) = read::<_, Delete>(request)?;
    execute(state, Command::Delete(delete), key, deadline).await
}

pub(super) async fn migrate(
    state: &GrpcState,
    request: v1::MigrateInstanceRequest,
    deadline: Duration,
) -> Result<v1::MigrateInstanceResponse, Status> {
    let dry_run = request.dry_run;
    let (migrate, key) = read::<_, Migrate>(request)?;
    let command = Command::Migrate(migrate);
    if !dry_run {
        return execute(state, command, key, deadline).await;
    }
    let reply = state.service.dry_run(&command, deadline).await;
    answer(reply.map_err(|error| unanswered(&error))?)
}

pub(super) async fn transact(
    state: &GrpcState,
    request: v1::TransactRequest,
    deadline: Duration,
) -> Result<v1::TransactResponse, Status> {
    let (transaction, key) = read::<_, Transaction>(request)?;
    execute(state, Command::Transaction(transaction), key, deadline).await
}

#[allow(
    clippy::result_large_err,
    reason = "a rejection is an outcome like any other"
)]
pub(super) async fn update_settings(
    state: &GrpcState,
    request: v1::UpdateSettingsRequest,
    deadline: Duration,
) -> Result<v1::UpdateSettingsResponse, Status> {
    let key = optional_name("idempotency_key", request.idempotency_key).map_err(malformed)?;
    let values = request.values.into_iter();
    let update: Result<_, Rejection> = values.map(|(name, it)| Ok((name.parse()?, it))).collect();
    match update {
        Ok(update) => execute(state, Command::UpdateSettings(update), key, deadline).await,
        Err(unknown) => answer(Reply {
            outcome: Outcome::Rejected(unknown),
            replayed: false,
            revision: state.service.peek(State::revision),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::Limits;
    use tonic::Code;

    #[test]
    fn a_document_with_faults_is_refused_and_one_that_cannot_be_read_is_no_request() {
        let fault = |text| lockstep_document::parse_json(text, &Limits::default()).unwrap_err();
        let answer = refused(&fault("{}"), GlobalRevision(7)).unwrap();
        let Some(v1::define_response::Outcome::Rejected(rejected)) = answer.outcome else {
            panic!("{answer:?}");
        };
        assert_eq!(rejected.code, "invalid_definition");
        assert!(!rejected.faults.is_empty());
        assert_eq!(answer.written, Some(v1::Written::at(GlobalRevision(7))));

        let status = refused(&fault("{"), GlobalRevision(7)).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.metadata().get("lockstep-code").unwrap(),
            "malformed_document"
        );
    }

    #[test]
    fn a_fault_in_a_request_is_an_invalid_argument() {
        let status = read::<_, Delete>(v1::DeleteInstanceRequest::default()).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("id: "), "{status}");
    }

    #[test]
    fn an_outcome_that_answers_something_else_is_told_as_unknown() {
        let reply = Reply {
            outcome: Outcome::SettingsUpdated(Box::default()),
            replayed: false,
            revision: GlobalRevision(1),
        };
        let status = answer::<v1::TransactResponse>(reply).unwrap_err();
        assert_eq!(status.code(), Code::Unknown);
    }
}
