//! `/v1/machines/{machine}/instances/{instance}/transitions`: moves an instance.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use lockstep_machine::{
    Command, EventName, InstanceId, Outcome, Reply, Revision, StateName, Transition, Transitioned,
    Trigger,
};
use lockstep_proto::ErrorCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Edge;
use super::body::{Pairs, Written, outcome, unknown_outcome};
use super::described::{
    self, Malformed, Missing, Name, OnlyOnce, Refused, RevisionNumber, Unanswered, Unread,
};
use super::input::{self, IdPath, Parameters, idempotency_key};
use super::problem::Problem;

/// A requested transition: to a state or by an event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransitionBody {
    /// Where to; or give `event`.
    #[schema(value_type = Option<Name>)]
    to: Option<StateName>,
    /// What happened; or give `to`.
    #[schema(value_type = Option<Name>)]
    event: Option<EventName>,
    /// Refuse unless the instance is in this state.
    #[schema(value_type = Option<Name>)]
    expect_state: Option<StateName>,
    /// Refuse unless the instance is at this revision.
    #[schema(value_type = Option<RevisionNumber>)]
    expect_revision: Option<Revision>,
    /// Who and why: kept in the history and in the event.
    #[schema(value_type = Option<described::Pairs>)]
    metadata: Option<Pairs>,
}

/// A transition that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeBody {
    transitioned: Transitioned,
    #[serde(flatten)]
    written: Written,
}

/// Moves an instance.
#[utoipa::path(
    post, path = "/v1/machines/{machine}/instances/{instance}/transitions", operation_id = "transition_instance", tag = "instances",
    params(
        ("machine" = Name, Path, example = "triad", description = "The machine"),
        ("instance" = Name, Path, example = "default", description = "The instance's name within the machine"),
        OnlyOnce,
    ),
    request_body = TransitionBody,
    responses(
        (status = 200, body = MadeBody, description = "Moved"),
        Malformed, Unread, Missing, Refused, Unanswered,
    ),
)]
pub(super) async fn transition(
    State(edge): State<Arc<Edge>>,
    path: IdPath,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<MadeBody>, Problem> {
    let began = Instant::now();
    let id = input::instance(path)?;
    Parameters::parse(&uri, &[])?;
    let key = idempotency_key(&headers)?;
    let body: TransitionBody = edge.json(&headers, body).await?;
    let command = Command::Transition(body.into_transition(id)?);
    made(edge.execute(command, key, began).await?).map(Json)
}

fn made(reply: Reply) -> Result<MadeBody, Problem> {
    let (outcome, written) = outcome(reply)?;
    let Outcome::Transitioned(transitioned) = outcome else {
        return Err(unknown_outcome());
    };
    Ok(MadeBody {
        transitioned,
        written,
    })
}

/// What names the transition to take.
pub(super) fn trigger(to: Option<StateName>, event: Option<EventName>) -> Result<Trigger, Problem> {
    match (to, event) {
        (Some(to), None) => Ok(Trigger::To(to)),
        (None, Some(event)) => Ok(Trigger::Event(event)),
        (Some(_), Some(_)) => Err(Problem::new(
            ErrorCode::InvalidBody,
            "give either \"to\" or \"event\", not both",
        )),
        (None, None) => Err(Problem::new(
            ErrorCode::InvalidBody,
            "one of \"to\" and \"event\" is missing",
        )),
    }
}

impl TransitionBody {
    fn into_transition(self, instance: InstanceId) -> Result<Transition, Problem> {
        Ok(Transition {
            instance,
            trigger: trigger(self.to, self.event)?,
            expect_state: self.expect_state,
            expect_revision: self.expect_revision,
            metadata: self.metadata.unwrap_or_default().into_metadata()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{GlobalRevision, Rejection};
    use serde_json::json;

    fn id() -> InstanceId {
        InstanceId::new("triad", "default").unwrap()
    }

    fn state(name: &str) -> StateName {
        StateName::new(name).unwrap()
    }

    fn body(value: serde_json::Value) -> Result<Transition, String> {
        let body: TransitionBody =
            serde_json::from_value(value).map_err(|error| error.to_string())?;
        body.into_transition(id()).map_err(|problem| problem.detail)
    }

    #[test]
    fn a_transition_names_a_state_or_an_event() {
        let by_state =
            body(json!({"to": "second", "expect_state": "first", "expect_revision": 3})).unwrap();
        assert_eq!(by_state.trigger, Trigger::To(state("second")));
        assert_eq!(by_state.expect_state, Some(state("first")));
        assert_eq!(by_state.expect_revision, Some(Revision(3)));
        let by_event = body(json!({"event": "pay"})).unwrap();
        assert_eq!(
            by_event.trigger,
            Trigger::Event(EventName::new("pay").unwrap())
        );
        for (bad, words) in [
            (json!({}), "is missing"),
            (json!({"to": "a", "event": "b"}), "not both"),
            (
                json!({"to": "a", "exspect_state": "b"}),
                "unknown field `exspect_state`",
            ),
            (json!({"to": "a b"}), "only letters"),
            (json!({"to": "a", "expect_revision": -1}), "-1"),
            (json!([]), "invalid length"),
        ] {
            let error = body(bad.clone()).expect_err("not a transition");
            assert!(error.contains(words), "{bad}: {error}");
        }
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
            let problem = made(Reply {
                outcome: Outcome::Rejected(rejection),
                replayed: true,
                revision: GlobalRevision(1),
            })
            .expect_err("rejected");
            assert_eq!((problem.status.as_u16(), problem.code), (status, code));
        }
    }
}
