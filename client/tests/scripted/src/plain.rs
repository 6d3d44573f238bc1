//! Plain answers: what a test gets that does not say more than [`Answer`].

use lockstep_proto::v1;
use tonic::Status;

use super::{Answer, Scriptable};

pub const AT_MS: u64 = 1_700_000_000_000;

/// A kind of request that has no plain answer.
pub(super) fn unscripted<M: Scriptable>(_: M, _: Answer) -> Result<M::Response, Status> {
    Err(Status::unimplemented("the test says no answer"))
}

fn written(answer: Answer) -> Option<v1::Written> {
    Some(v1::Written {
        replayed: matches!(answer, Answer::Replayed),
        revision: 17,
    })
}

/// The rejections that an answer stands for.
fn rejection(answer: Answer) -> Option<v1::Rejected> {
    match answer {
        Answer::Rejected => Some(v1::Rejected {
            code: "illegal_transition".to_owned(),
            message: "it cannot go from \"third\" to \"second\"; allowed from \"third\": first"
                .to_owned(),
            current_state: Some("third".to_owned()),
            current_revision: Some(9),
            allowed: vec!["first".to_owned()],
            ..Default::default()
        }),
        Answer::Expired => Some(v1::Rejected {
            code: "request_expired".to_owned(),
            message: "a duplicate of this request arrived late and was not executed".to_owned(),
            ..Default::default()
        }),
        _ => None,
    }
}

macro_rules! write {
    ($name:ident($request:ident) -> $response:ident, $module:ident::$variant:ident, |$it:ident| $made:expr) => {
        pub(super) fn $name($it: v1::$request, answer: Answer) -> Result<v1::$response, Status> {
            use v1::$module::Outcome;
            let outcome = match (answer, rejection(answer)) {
                (Answer::Nonsense, _) => None,
                (_, Some(rejected)) => Some(Outcome::Rejected(rejected)),
                _ => Some(Outcome::$variant($made)),
            };
            let written = written(answer);
            Ok(v1::$response { outcome, written })
        }
    };
}

write!(define(DefineRequest) -> DefineResponse, define_response::Defined, |_it| v1::Defined {
    machine: "order".to_owned(),
    version: 1,
    created: true,
    ..Default::default()
});

write!(delete_machine(DeleteMachineRequest) -> DeleteMachineResponse, delete_machine_response::Deleted, |it| {
    v1::MachineDeleted { machine: it.machine, versions: vec![1, 2] }
});

write!(create(CreateInstanceRequest) -> CreateInstanceResponse, create_instance_response::Created, |it| created(it));

write!(delete(DeleteInstanceRequest) -> DeleteInstanceResponse, delete_instance_response::Deleted, |it| deleted(it));

write!(migrate(MigrateInstanceRequest) -> MigrateInstanceResponse, migrate_instance_response::Migrated, |it| v1::Migrated {
    id: it.id,
    from_version: 1,
    version: it.version.unwrap_or(2),
    from: "first".to_owned(),
    to: "second".to_owned(),
    revision: 5,
    at_ms: AT_MS,
});

write!(transact(TransactRequest) -> TransactResponse, transact_response::Committed, |it| v1::Committed {
    results: it.operations.into_iter().map(result).collect(),
});

fn created(it: v1::CreateInstanceRequest) -> v1::Created {
    let id = match it.id.contains('/') {
        true => it.id,
        false => format!("{}/01hx", it.id),
    };
    v1::Created {
        id,
        version: it.version.unwrap_or(1),
        state: "first".to_owned(),
        at_ms: AT_MS,
    }
}

fn deleted(it: v1::DeleteInstanceRequest) -> v1::Deleted {
    v1::Deleted {
        id: it.id,
        state: "first".to_owned(),
        revision: 5,
        at_ms: AT_MS,
    }
}

fn result(operation: v1::Operation) -> v1::OperationResult {
    use v1::operation::Operation;
    use v1::operation_result::Result;
    let result = operation.operation.map(|operation| match operation {
        Operation::Create(it) => Result::Created(created(it)),
        Operation::Transition(it) => {
            let to = target(it.trigger);
            Result::Transitioned(transitioned(it.id, to))
        }
        Operation::Delete(it) => Result::Deleted(deleted(it)),
        Operation::Check(_) => Result::Checked(v1::Checked {}),
    });
    v1::OperationResult { result }
}

/// An event leads to the state `second`.
fn target(trigger: Option<v1::transition_request::Trigger>) -> String {
    match trigger {
        Some(v1::transition_request::Trigger::To(to)) => to,
        _ => "second".to_owned(),
    }
}

fn transitioned(id: String, to: String) -> v1::Transitioned {
    v1::Transitioned {
        id,
        version: 1,
        from: "first".to_owned(),
        to,
        event: None,
        revision: 5,
        at_ms: AT_MS,
    }
}

write!(transition(TransitionRequest) -> TransitionResponse, transition_response::Transitioned, |it| {
    let to = target(it.trigger);
    transitioned(it.id, to)
});

pub(super) fn get(
    request: v1::GetInstanceRequest,
    _: Answer,
) -> Result<v1::GetInstanceResponse, Status> {
    Ok(v1::GetInstanceResponse {
        instance: Some(v1::Instance {
            id: request.id,
            version: 1,
            state: "second".to_owned(),
            revision: 4,
            created_at_ms: 0,
            changed_at_ms: AT_MS,
            allowed: vec!["third".to_owned()],
            ..Default::default()
        }),
        read_at: Some(v1::ReadAt {
            applied_index: 42,
            revision: 17,
        }),
    })
}
