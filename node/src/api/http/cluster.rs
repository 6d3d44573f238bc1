//! `/v1/cluster`: the cluster as this node sees it; `/readyz`: whether it can serve.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Edge;
use super::described::{Malformed, Unanswered};
use super::input::Call;
use super::problem::{Problem, ProblemBody};
use super::query::{Flag, Query, query};
use crate::service::{CLUSTER_TIME_AHEAD_MAX, MemberStatus, Service, Status};
use crate::sink::SinkStatus;
use crate::telemetry::build;
use lockstep_proto::ErrorCode;

/// How long a readiness probe waits: probes come often and must not pile up.
const READY_DEADLINE: Duration = Duration::from_secs(1);

/// Node ids are 63 bits wide, more than a JSON number is safe for: they are text.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct MemberBody {
    id: String,
    name: String,
    grpc_address: String,
    http_address: String,
    voter: bool,
    matched_index: Option<u64>,
}

/// The answer of `/v1/cluster`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StatusBody {
    cluster_id: String,
    node: MemberBody,
    version: &'static str,
    build_date: &'static str,
    uptime_ms: u64,
    role: &'static str,
    term: u64,
    leader_id: Option<String>,
    /// The leader's name, where the member is known.
    leader: Option<String>,
    /// How long ago this node last heard from the leader; as leader, how long ago a quorum last answered it.
    leader_contact_ms: Option<u64>,
    members: Vec<MemberBody>,
    log_first_index: u64,
    log_last_index: u64,
    committed_index: u64,
    applied_index: u64,
    snapshot_index: u64,
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
    /// What to add to the status.
    WithHash {
        /// Also return the hash of the whole state.
        state_hash: bool,
    }
}

/// `GET /v1/cluster?state_hash=true|false`.
#[utoipa::path(get, path = "/v1/cluster", operation_id = "cluster_status", tag = "cluster", params(WithHash), responses(
    (status = 200, body = StatusBody, description = "The cluster as this node sees it"),
    Malformed, Unanswered,
))]
pub(super) async fn status(
    call: Call,
    Query(with): Query<WithHash>,
) -> Result<Json<StatusBody>, Problem> {
    let edge = &call.edge;
    let state_hash = match with.state_hash {
        true => Some(hash(edge).await?),
        false => None,
    };
    let uptime = edge.local.started.elapsed();
    Ok(Json(StatusBody::new(
        edge.service.status(),
        uptime,
        state_hash,
    )))
}

async fn hash(edge: &Edge) -> Result<StateHashBody, Problem> {
    let timeout = edge.local.limits.request_timeout;
    let Ok((applied_index, hash)) = tokio::time::timeout(timeout, edge.service.state_hash()).await
    else {
        let detail = format!("the state was not hashed within {} ms", timeout.as_millis());
        return Err(
            Problem::new(ErrorCode::StateHashTimeout, detail).retry_after(Duration::from_secs(1))
        );
    };
    Ok(StateHashBody {
        applied_index,
        hash,
    })
}

query! {
    /// What to add to readiness.
    Verbose {
        /// Add what the node checks: contact with the leader, and its clock against cluster time.
        verbose: Option<Flag>,
    }
}

/// `GET /readyz`: whether this node can serve, and beside it what its sinks do.
#[utoipa::path(get, path = "/readyz", operation_id = "ready", tag = "node", params(Verbose), responses(
    (status = 200, body = Object, description = "It can serve linearizable reads now"),
    Malformed,
    (status = 503, body = ProblemBody, content_type = "application/problem+json", description = "Not now: `not_ready` or `unavailable`", headers(("Retry-After" = u64, description = "Seconds"))),
))]
pub(super) async fn ready(
    State(edge): State<Arc<Edge>>,
    Query(Verbose { verbose }): Query<Verbose>,
) -> Result<Json<Value>, Problem> {
    let ready = edge.service.ready(READY_DEADLINE).await;
    let mut answer = Map::new();
    answer.insert("sinks".to_owned(), readiness_of(edge.sinks.here()));
    if verbose.is_some_and(|it| it.0) {
        answer.insert("checks".to_owned(), checks(&edge.service));
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

/// What makes a node slow or silent before it is not ready.
fn checks(service: &Service) -> Value {
    let status = service.status();
    let ahead = service.cluster_time_ahead();
    json!({
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

impl StatusBody {
    fn new(status: Status, uptime: Duration, state_hash: Option<StateHashBody>) -> Self {
        let standing = status.standing;
        let (leader_id, leader) = standing.leader.unzip();
        Self {
            cluster_id: status.cluster_id,
            node: status.node.into(),
            version: build::version(),
            build_date: build::build_date(),
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            role: standing.role.as_str(),
            term: standing.term,
            leader_id: leader_id.map(|id| id.to_string()),
            leader: leader.map(|member| member.name),
            leader_contact_ms: standing.leader_contact.map(|it| it.as_millis() as u64),
            members: standing.members.into_iter().map(MemberBody::from).collect(),
            log_first_index: standing.log_first_index,
            log_last_index: standing.log_last_index,
            committed_index: standing.committed_index,
            applied_index: standing.applied_index,
            snapshot_index: standing.snapshot_index,
            state_hash,
        }
    }
}

impl From<MemberStatus> for MemberBody {
    fn from(member: MemberStatus) -> Self {
        Self {
            id: member.id.to_string(),
            name: member.member.name,
            grpc_address: member.member.grpc_address,
            http_address: member.member.http_address,
            voter: member.voter,
            matched_index: member.matched_index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Member, Role, Standing};

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
        let member = Member {
            name: "node1".to_owned(),
            ..Member::default()
        };
        let node = MemberStatus {
            id: (1 << 62) + 1,
            member: member.clone(),
            voter: true,
            matched_index: None,
            contact: None,
        };
        let status = Status {
            cluster_id: "c".to_owned(),
            node: node.clone(),
            standing: Standing {
                role: Role::Leader,
                leader: Some((node.id, member)),
                leader_contact: Some(Duration::from_millis(30)),
                members: vec![node],
                ..Standing::default()
            },
        };
        let body =
            serde_json::to_value(StatusBody::new(status, Duration::from_secs(1), None)).unwrap();
        assert_eq!(body["leader"], "node1");
        assert_eq!(body["leader_id"], "4611686018427387905");
        assert_eq!(body["role"], "leader");
        assert_eq!(body["leader_contact_ms"], 30);
        assert_eq!(body["uptime_ms"], 1000);
        assert!(body.get("state_hash").is_none());
    }
}
