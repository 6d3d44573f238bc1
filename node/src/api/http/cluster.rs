//! `/v1/cluster`: the cluster as this node sees it; `/readyz`: whether it can serve.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use lockstep_proto::v1;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::query::{Flag, Query, query};
use crate::api::Edge;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::lifecycle::Phase;
use crate::service::{CLUSTER_TIME_AHEAD_MAX, Service};
use crate::sink::SinkStatus;

/// How long a readiness probe waits: probes come often and must not pile up.
const READY_DEADLINE: Duration = Duration::from_secs(1);

/// The answer of `/v1/cluster`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StatusBody {
    #[serde(flatten)]
    status: v1::StatusResponse,
    /// The leader's name, where the member is known.
    leader: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_hash: Option<StateHashBody>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct StateHashBody {
    /// The log index the hash was taken at.
    applied_index: u64,
    /// The format of the hash, a colon, 32 hexadecimal digits.
    hash: String,
}

query! {
    WithHash {
        /// Also return the hash of the whole state.
        state_hash: bool,
    }
}

pub(super) async fn status(
    call: Call,
    Query(WithHash { state_hash }): Query<WithHash>,
) -> Result<Json<StatusBody>, Problem> {
    Ok(Json(call.status(state_hash).await?.into()))
}

impl From<v1::StatusResponse> for StatusBody {
    fn from(mut status: v1::StatusResponse) -> Self {
        let applied_index = status.applied_index;
        let state_hash = status.state_hash.take();
        Self {
            leader: status.leader().map(|leader| leader.name.clone()),
            state_hash: state_hash.map(|hash| StateHashBody {
                applied_index,
                hash,
            }),
            status,
        }
    }
}

query! {
    Verbose {
        /// Add what the node checks: its start, its state against the other members', a linearizable read, contact
        /// with the leader, and its clock against cluster time.
        verbose: Option<Flag>,
    }
}

pub(super) async fn ready(
    State(edge): State<Arc<Edge>>,
    Query(Verbose { verbose }): Query<Verbose>,
) -> Result<Json<Value>, Problem> {
    let ready = edge.service.ready(READY_DEADLINE).await;
    let mut answer = Map::new();
    answer.insert("sinks".to_owned(), readiness_of(edge.sinks.here()));
    if verbose.is_some_and(|it| it.0) {
        answer.insert("checks".to_owned(), checks(&edge.service, ready.is_ok()));
    }
    match ready {
        Ok(()) => {
            answer.insert("status".to_owned(), "ready".into());
            Ok(Json(answer.into()))
        }
        Err(error) => Err(answer
            .into_iter()
            .fold(error.into(), |problem: Problem, (name, value)| {
                problem.with(&name, value)
            })),
    }
}

/// What makes a node not ready, and what makes it slow or silent before it is not.
fn checks(service: &Service, ready: bool) -> Value {
    let status = service.status();
    let ahead = service.cluster_time_ahead();
    let mut start = service.lifecycle().json();
    start["ok"] = (service.lifecycle().phase() == Phase::Serving).into();
    json!({
        "start": start,
        "state_agreement": { "ok": service.check_trust().is_ok() },
        "linearizable_read": { "ok": ready },
        "leader": {
            "id": status.standing.leader.map(|(id, _)| id.to_string()),
            "contact_ms": status.standing.leader_contact.map(|it| it.as_millis() as u64),
        },
        "cluster_time": {
            "ahead_ms": ahead.as_millis() as u64,
            "ok": ahead < CLUSTER_TIME_AHEAD_MAX,
        },
    })
}

/// The phases of this node's sinks, for information only: readiness does not depend on them.
fn readiness_of(sinks: Vec<SinkStatus>) -> Value {
    let phase = |sink: SinkStatus| json!({ "name": sink.name, "phase": sink.phase().to_string() });
    sinks.into_iter().map(phase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_each_sink_and_what_it_does() {
        use crate::sink::Phase;
        let sink = SinkStatus {
            name: "reports".to_owned(),
            phase: Phase::Seeding.into(),
            ..SinkStatus::default()
        };
        let expected = json!([{ "name": "reports", "phase": "seeding" }]);
        assert_eq!(readiness_of(vec![sink]), expected);
        assert_eq!(readiness_of(vec![]), json!([]));
    }

    #[test]
    fn the_status_names_the_leader_and_keeps_ids_whole() {
        let node = v1::Member {
            id: (1 << 62) + 1,
            name: "node1".to_owned(),
            ..Default::default()
        };
        let status = v1::StatusResponse {
            leader_id: Some(node.id),
            node: Some(node),
            role: v1::Role::Leader.into(),
            leader_contact_ms: Some(30),
            applied_index: 8,
            ..Default::default()
        };
        let shown = |status| serde_json::to_value(StatusBody::from(status)).unwrap();
        let body = shown(status.clone());
        assert_eq!(body["leader"], "node1");
        assert_eq!(body["leader_id"], "4611686018427387905");
        assert_eq!(body["node"]["id"], "4611686018427387905");
        assert_eq!(body["role"], "leader");
        assert_eq!(body["leader_contact_ms"], 30);
        assert!(body.get("state_hash").is_none());
        let hashed = v1::StatusResponse {
            state_hash: Some("1:ab".to_owned()),
            ..status
        };
        let expected = json!({ "applied_index": 8, "hash": "1:ab" });
        assert_eq!(shown(hashed)["state_hash"], expected);
    }
}
