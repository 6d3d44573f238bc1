//! The calls that write, and their dry runs.

use std::collections::BTreeMap;

use lockstep_machine::{
    Command, Create, DocumentError, GlobalRevision, IdempotencyKey, MachineName, Migrate, Outcome,
    Reply, Setting, State,
};
use lockstep_proto::{Malformed, optional_name, v1};

use super::input::named;
use crate::api::call::Call;
use crate::api::names;
use crate::api::problem::Problem;
use crate::service::{DefineError, Document, Language};

/// A command as a request gives it, with the caller's key.
type Keyed<T> = (T, Option<IdempotencyKey>);

pub(super) async fn define(
    call: &Call,
    request: v1::DefineRequest,
) -> Result<v1::DefineResponse, Problem> {
    use v1::define_request::Document as Wire;
    use v1::define_response::Outcome;
    let key = optional_name("idempotency_key", request.idempotency_key)?;
    let (language, text) = match &request.document {
        Some(Wire::Json(text)) => (Language::Json, text),
        Some(Wire::Yaml(text)) => (Language::Yaml, text),
        None => {
            let reason = "one of `json` and `yaml` is required";
            return Err(Malformed::new("document", reason).into());
        }
    };
    let document = Document { language, text };
    let service = &call.edge.service;
    let defined = service.define(document, request.dry_run, key, call.left());
    match defined.await {
        Ok((reply, definition)) => {
            let mut response = v1::DefineResponse::try_from(reply)?;
            if let Some(Outcome::Defined(defined)) = &mut response.outcome {
                defined.timeouts = v1::StateTimeout::all(&definition);
            }
            Ok(response)
        }
        Err(DefineError::Document { error, revision }) => refused(error, revision),
        Err(error) => Err(error.into()),
    }
}

/// A document with faults gets a rejection, as from the state machine; one that cannot be parsed is an invalid
/// request.
fn refused(error: DocumentError, revision: GlobalRevision) -> Result<v1::DefineResponse, Problem> {
    if let DocumentError::Syntax { .. } = error {
        return Err(error.into());
    }
    Ok(v1::DefineResponse {
        outcome: Some(v1::define_response::Outcome::Rejected((&error).into())),
        written: Some(v1::Written::at(revision)),
    })
}

/// Calls whose request is a command.
macro_rules! commands {
    ($($call:ident: $request:ident => $command:ident -> $response:ident;)+) => {$(
        pub(super) async fn $call(
            call: &Call,
            request: v1::$request,
        ) -> Result<v1::$response, Problem> {
            let (command, key) = Keyed::try_from(request)?;
            call.write(Command::$command(command), key).await
        }
    )+};
}

commands! {
    delete_machine: DeleteMachineRequest => DeleteDefinition -> DeleteMachineResponse;
    transition: TransitionRequest => Transition -> TransitionResponse;
    delete: DeleteInstanceRequest => Delete -> DeleteInstanceResponse;
    transact: TransactRequest => Transaction -> TransactResponse;
}

pub(super) async fn create(
    call: &Call,
    mut request: v1::CreateInstanceRequest,
) -> Result<v1::CreateInstanceResponse, Problem> {
    // A machine alone: the name is made here.
    if !request.id.contains('/') {
        let machine = MachineName::new(&request.id).map_err(named("id"))?;
        let key = optional_name("idempotency_key", request.idempotency_key.clone())?;
        let name = names::made(&machine, key.as_ref()).map_err(named("id"))?;
        request.id = format!("{machine}/{name}");
    }
    let (create, key): Keyed<Create> = request.try_into()?;
    call.write(Command::Create(create), key).await
}

pub(super) async fn migrate(
    call: &Call,
    request: v1::MigrateInstanceRequest,
) -> Result<v1::MigrateInstanceResponse, Problem> {
    let dry_run = request.dry_run;
    let (migrate, key): Keyed<Migrate> = request.try_into()?;
    let command = Command::Migrate(migrate);
    match dry_run {
        true => call.dry_run(&command).await,
        false => call.write(command, key).await,
    }
}

pub(super) async fn update_settings(
    call: &Call,
    request: v1::UpdateSettingsRequest,
) -> Result<v1::UpdateSettingsResponse, Problem> {
    let key = optional_name("idempotency_key", request.idempotency_key)?;
    let mut update = BTreeMap::new();
    for (name, value) in request.values {
        match name.parse::<Setting>() {
            Ok(setting) => update.insert(setting, value),
            Err(unknown) => {
                let reply = Reply {
                    outcome: Outcome::Rejected(unknown),
                    replayed: false,
                    revision: call.edge.service.peek(State::revision),
                };
                return Ok(reply.try_into()?);
            }
        };
    }
    call.write(Command::UpdateSettings(update), key).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{Delete, Limits};
    use tonic::{Code, Status};

    #[test]
    fn a_document_with_faults_is_refused_and_one_that_cannot_be_read_is_no_request() {
        let fault = |text| lockstep_document::parse_json(text, &Limits::default()).unwrap_err();
        let answer = refused(fault("{}"), GlobalRevision(7)).unwrap();
        let Some(v1::define_response::Outcome::Rejected(rejected)) = answer.outcome else {
            panic!("{answer:?}");
        };
        assert_eq!(rejected.code, "invalid_definition");
        assert!(!rejected.faults.is_empty());
        assert_eq!(answer.written, Some(v1::Written::at(GlobalRevision(7))));

        let problem = refused(fault("{"), GlobalRevision(7)).unwrap_err();
        let status = Status::from(problem);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.metadata().get("lockstep-code").unwrap(),
            "malformed_document"
        );
    }

    #[test]
    fn a_fault_in_a_request_is_an_invalid_argument() {
        let read = Keyed::<Delete>::try_from(v1::DeleteInstanceRequest::default());
        let status = Status::from(Problem::from(read.unwrap_err()));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("id: "), "{status}");
    }

    #[test]
    fn an_outcome_of_another_kind_of_request_is_reported_as_unknown() {
        let reply = Reply {
            outcome: Outcome::SettingsUpdated(Box::default()),
            replayed: false,
            revision: GlobalRevision(1),
        };
        let answer = v1::TransactResponse::try_from(reply);
        let status = Status::from(Problem::from(answer.unwrap_err()));
        assert_eq!(status.code(), Code::Unknown);
    }
}
