//! `/v1/machines/{machine}/instances/{instance}`: reads and moves any instance.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use lockstep_machine::{
    EventName, InstanceId, Metadata, Outcome, Reply, Revision, StateName, Timestamp, Transition,
    Transitioned, Trigger,
};
use serde::{Deserialize, Serialize};

use super::Edge;
use super::input::{Parameters, idempotency_key, json};
use super::problem::Problem;
use crate::api::count_transition;
use crate::service::{Consistency, InstanceView, ReadReply};

/// An instance, and how fresh it is.
#[derive(Debug, Serialize)]
pub(super) struct InstanceBody {
    id: String,
    version: u32,
    state: StateName,
    revision: u64,
    /// RFC 3339, in cluster time; null for a built-in instance.
    created_at: Option<String>,
    /// The same; null until a built-in instance moves.
    changed_at: Option<String>,
    allowed: Vec<StateName>,
    applied_index: u64,
}

/// A transition that is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransitionBody {
    to: Option<StateName>,
    event: Option<EventName>,
    expect_state: Option<StateName>,
    expect_revision: Option<u64>,
}

/// A transition that was made.
#[derive(Debug, Serialize)]
pub(super) struct MadeBody {
    transitioned: TransitionedBody,
    replayed: bool,
}

#[derive(Debug, Serialize)]
struct TransitionedBody {
    id: String,
    version: u32,
    from: StateName,
    to: StateName,
    event: Option<EventName>,
    revision: u64,
    at: Option<String>,
}

type IdPath = Result<Path<(String, String)>, PathRejection>;

/// `GET /v1/machines/{machine}/instances/{instance}?consistency=linearizable|stale`.
pub(super) async fn show(
    State(edge): State<Arc<Edge>>,
    path: IdPath,
    uri: Uri,
) -> Result<Json<InstanceBody>, Problem> {
    let id = parse_id(path)?;
    let consistency = parse_consistency(&Parameters::parse(&uri, &["consistency"])?)?;
    let deadline = edge.local.limits.request_timeout;
    let read = edge
        .service
        .instance(id.clone(), consistency, deadline)
        .await?;
    shown(&id, read).map(Json)
}

/// `POST /v1/machines/{machine}/instances/{instance}/transitions`.
pub(super) async fn transition(
    State(edge): State<Arc<Edge>>,
    path: IdPath,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<MadeBody>, Problem> {
    let began = Instant::now();
    let limits = &edge.local.limits;
    let id = parse_id(path)?;
    Parameters::parse(&uri, &[])?;
    let key = idempotency_key(&headers)?;
    let body = json::<TransitionBody>(
        &headers,
        body,
        limits.body_bytes_max,
        limits.request_timeout,
    )
    .await?;
    let transition = body.into_transition(id)?;
    let deadline = limits.request_timeout.saturating_sub(began.elapsed());
    let reply = edge.service.transition(transition, key, deadline).await?;
    count_transition(&edge.local.report, &reply);
    answered(reply).map(Json)
}

fn parse_id(path: IdPath) -> Result<InstanceId, Problem> {
    let Path((machine, instance)) =
        path.map_err(|error| Problem::bad_request("invalid_path", error.body_text()))?;
    Ok(InstanceId::new(machine, instance)?)
}

fn parse_consistency(parameters: &Parameters) -> Result<Consistency, Problem> {
    match parameters.get("consistency") {
        None | Some("linearizable") => Ok(Consistency::Linearizable),
        Some("stale") => Ok(Consistency::Stale),
        Some(_) => {
            let detail = "parameter \"consistency\" must be linearizable or stale";
            Err(Problem::bad_request("invalid_parameter", detail))
        }
    }
}

impl TransitionBody {
    fn into_transition(self, instance: InstanceId) -> Result<Transition, Problem> {
        let trigger = match (self.to, self.event) {
            (Some(to), None) => Trigger::To(to),
            (None, Some(event)) => Trigger::Event(event),
            (Some(_), Some(_)) => {
                return Err(Problem::bad_request(
                    "invalid_body",
                    "give either \"to\" or \"event\", not both",
                ));
            }
            (None, None) => {
                return Err(Problem::bad_request(
                    "invalid_body",
                    "one of \"to\" and \"event\" is missing",
                ));
            }
        };
        Ok(Transition {
            instance,
            trigger,
            expect_state: self.expect_state,
            expect_revision: self.expect_revision.map(Revision),
            metadata: Metadata::default(),
        })
    }
}

fn shown(id: &InstanceId, read: ReadReply) -> Result<InstanceBody, Problem> {
    let ReadReply {
        view,
        applied_index,
    } = read;
    let Some(InstanceView {
        id,
        instance,
        allowed,
    }) = view
    else {
        return Err(
            Problem::not_found("unknown_instance", format!("there is no instance {id:?}"))
                .with("applied_index", applied_index),
        );
    };
    Ok(InstanceBody {
        id: id.to_string(),
        version: instance.version.0,
        state: instance.state,
        revision: instance.revision.0,
        created_at: rfc3339(instance.created_at),
        changed_at: rfc3339(instance.changed_at),
        allowed,
        applied_index,
    })
}

fn answered(reply: Reply) -> Result<MadeBody, Problem> {
    let Reply {
        outcome, replayed, ..
    } = reply;
    match outcome {
        Outcome::Transitioned(Transitioned {
            instance,
            version,
            from,
            to,
            event,
            revision,
            at,
        }) => Ok(MadeBody {
            transitioned: TransitionedBody {
                id: instance.to_string(),
                version: version.0,
                from,
                to,
                event,
                revision: revision.0,
                at: rfc3339(at),
            },
            replayed,
        }),
        Outcome::Rejected(rejection) => Err(Problem::from(rejection).with("replayed", replayed)),
        _ => Err(Problem::new(
            StatusCode::BAD_GATEWAY,
            "unknown_outcome",
            "the cluster gave an answer unknown to this node; it may be older than the others",
        )),
    }
}

/// None for 0, which marks what was always there, and for times beyond the year 9999.
fn rfc3339(at: Timestamp) -> Option<String> {
    const YEAR_10000_MS: u64 = 253_402_300_800_000;
    if at.0 == 0 || at.0 >= YEAR_10000_MS {
        return None;
    }
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(at.0))?;
    Some(humantime::format_rfc3339_millis(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{GlobalRevision, Rejection, State};
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
    fn a_read_shows_the_instance_and_its_age() {
        let built_in = State::default();
        let mut instance = built_in.instance(&id()).unwrap().clone();
        instance.state = state("second");
        instance.revision = Revision(4);
        instance.changed_at = Timestamp(1_700_000_000_123);
        let view = InstanceView {
            id: id(),
            instance,
            allowed: vec![state("third")],
        };
        let shown = shown(
            &id(),
            ReadReply {
                view: Some(view),
                applied_index: 9,
            },
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(shown).unwrap(),
            json!({
                "id": "triad/default", "version": 1, "state": "second", "revision": 4, "created_at": null,
                "changed_at": "2023-11-14T22:13:20.123Z", "allowed": ["third"], "applied_index": 9
            })
        );
    }

    #[test]
    fn a_missing_instance_is_not_found() {
        let problem = shown(
            &id(),
            ReadReply {
                view: None,
                applied_index: 9,
            },
        )
        .unwrap_err();
        assert_eq!(
            (problem.status.as_u16(), problem.code),
            (404, "unknown_instance")
        );
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
            let problem = answered(Reply {
                outcome: Outcome::Rejected(rejection),
                replayed: true,
                revision: GlobalRevision(1),
            })
            .expect_err("rejected");
            assert_eq!((problem.status.as_u16(), problem.code), (status, code));
        }
    }

    #[test]
    fn times_out_of_range_are_left_out() {
        assert_eq!(rfc3339(Timestamp(0)), None);
        assert_eq!(rfc3339(Timestamp(u64::MAX)), None);
        assert_eq!(
            rfc3339(Timestamp(253_402_300_799_999)).as_deref(),
            Some("9999-12-31T23:59:59.999Z")
        );
        assert_eq!(rfc3339(Timestamp(253_402_300_800_000)), None);
    }
}
