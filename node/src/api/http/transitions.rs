//! `/v1/machines/{machine}/instances/{instance}/transitions`: moves an instance.

use axum::Json;
use lockstep_machine::{Command, Transition, Transitioned};

use super::body::answer;
use super::input::{IfMatch, Key};
use super::json::InstanceBody;
use super::query::Query;
use crate::api::call::Call;
use crate::api::problem::Problem;

answer! {
    /// A transition that was made.
    MadeBody = Transitioned { transitioned: Transitioned }
}

pub(super) async fn transition(
    call: Call,
    Query(()): Query<()>,
    Key(key): Key,
    if_match: IfMatch,
    InstanceBody(mut transition): InstanceBody<Transition>,
) -> Result<Json<MadeBody>, Problem> {
    if_match.add_to(&mut transition.expect_revision)?;
    let made = call.write(Command::Transition(transition), key).await;
    made.map(Json).map_err(|it| if_match.refusal(it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{
        EventName, GlobalRevision, InstanceId, Outcome, Rejection, Reply, Revision, StateName,
    };

    fn id() -> InstanceId {
        InstanceId::new("triad", "default").unwrap()
    }

    fn state(name: &str) -> StateName {
        StateName::new(name).unwrap()
    }

    #[test]
    fn every_rejection_has_its_status() {
        let (current, revision) = (state("first"), Revision(1));
        let machine = id().machine;
        for (rejection, status) in [
            (
                Rejection::UnknownMachine {
                    machine: machine.clone(),
                },
                404,
            ),
            (Rejection::UnknownInstance { instance: id() }, 404),
            (
                Rejection::UnknownState {
                    machine,
                    state: state("x"),
                    known: vec![],
                    current: current.clone(),
                    revision,
                },
                422,
            ),
            (
                Rejection::UnknownEvent {
                    instance: id(),
                    event: EventName::new("e").unwrap(),
                    current: current.clone(),
                    revision,
                    events: None,
                },
                422,
            ),
            (
                Rejection::IllegalTransition {
                    instance: id(),
                    from: current.clone(),
                    to: state("x"),
                    allowed: vec![],
                    revision,
                    events: None,
                },
                409,
            ),
            (
                Rejection::StateMismatch {
                    instance: id(),
                    expected: state("x"),
                    current: current.clone(),
                    revision,
                },
                409,
            ),
            (
                Rejection::RevisionMismatch {
                    instance: id(),
                    expected: Revision(0),
                    current,
                    revision,
                },
                409,
            ),
            (Rejection::KeyReused, 422),
            (Rejection::RequestExpired, 409),
        ] {
            let code = rejection.code();
            let problem = MadeBody::try_from(Reply {
                outcome: Outcome::Rejected(rejection),
                replayed: true,
                revision: GlobalRevision(1),
            })
            .expect_err("rejected");
            assert_eq!(
                (problem.status.as_u16(), problem.code.as_str()),
                (status, code)
            );
        }
    }
}
