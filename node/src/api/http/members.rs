//! `/v1/cluster/members`: list and change the members; `/v1/cluster/transfer-leadership`.

use axum::Json;
use lockstep_proto::v1;
use lockstep_proto::v1::change_members_request::Change;
use lockstep_raft::consensus::MemberError;
use serde::Deserialize;
use utoipa::ToSchema;

use super::described::{Malformed, Missing, Unanswered, Unread};
use super::input::{Call, MemberPath};
use super::json::JsonBody;
use super::problem::{Problem, ProblemBody};
use super::query::{Flag, Query, query};

/// The node to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddMemberBody {
    /// `host:port` of the gRPC interface of a node that belongs to no cluster.
    grpc_address: String,
    /// Whether it stays a learner. Otherwise it is promoted once it has caught up.
    #[serde(default)]
    learner: bool,
}

/// Who is to lead.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferBody {
    /// A voter's name, or its id in decimal. By default, the voter with the longest log of those that answer.
    to: Option<String>,
}

query! {
    /// Whether to check the quorum.
    Forced {
        /// Make the change even if too few voters would answer to form a quorum.
        force: Option<Flag>,
    }
}

impl Forced {
    fn is_forced(&self) -> bool {
        self.force.as_ref().is_some_and(|it| it.0)
    }
}

impl From<MemberError> for Problem {
    fn from(error: MemberError) -> Self {
        Problem::new(error.code(), error)
    }
}

async fn change(
    call: Call,
    change: Change,
    force: bool,
) -> Result<Json<v1::ChangeMembersResponse>, Problem> {
    let change = v1::ChangeMembersRequest {
        change: Some(change),
        force,
    };
    Ok(Json(call.edge.members.change(change, call.left()).await?))
}

/// The members, as the answering node knows them, and what each says of itself.
#[utoipa::path(
    get, path = "/v1/cluster/members", operation_id = "list_members", tag = "cluster",
    responses(
        (status = 200, body = v1::ListMembersResponse, description = "The members, in order of name"),
        Malformed, Unanswered,
    ),
)]
pub(super) async fn list(
    call: Call,
    Query(()): Query<()>,
) -> Result<Json<v1::ListMembersResponse>, Problem> {
    Ok(Json(call.edge.members.list().await))
}

/// Adds a node as a learner; it is promoted once it has caught up.
#[utoipa::path(
    post, path = "/v1/cluster/members", operation_id = "add_member", tag = "cluster",
    request_body = AddMemberBody,
    responses(
        (status = 200, body = v1::ChangeMembersResponse, description = "It was added"),
        Malformed, Unread, Unanswered,
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`member_name_taken`, `node_in_cluster` or `membership_change_in_progress`"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json", description = "`node_unreachable`"),
    ),
)]
pub(super) async fn add(
    call: Call,
    Query(()): Query<()>,
    JsonBody(AddMemberBody {
        grpc_address,
        learner,
    }): JsonBody<AddMemberBody>,
) -> Result<Json<v1::ChangeMembersResponse>, Problem> {
    let add = v1::AddMember {
        grpc_address,
        learner,
    };
    change(call, Change::Add(add), false).await
}

/// Removes a member. Its node stops.
#[utoipa::path(
    delete, path = "/v1/cluster/members/{member}", operation_id = "remove_member", tag = "cluster",
    params(MemberPath, Forced),
    responses(
        (status = 200, body = v1::ChangeMembersResponse, description = "It was removed"),
        Malformed, Missing, Unanswered,
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`quorum_lost`, `last_voter` or `membership_change_in_progress`"),
    ),
)]
pub(super) async fn remove(
    call: Call,
    MemberPath(member): MemberPath,
    Query(forced): Query<Forced>,
) -> Result<Json<v1::ChangeMembersResponse>, Problem> {
    change(call, Change::Remove(member), forced.is_forced()).await
}

/// Lets a learner become a voter, once it has caught up.
#[utoipa::path(
    post, path = "/v1/cluster/members/{member}/promote", operation_id = "promote_member", tag = "cluster",
    params(MemberPath),
    responses(
        (status = 200, body = v1::ChangeMembersResponse, description = "The leader promotes it once it has caught up"),
        Malformed, Missing, Unanswered,
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`membership_change_in_progress`"),
    ),
)]
pub(super) async fn promote(
    call: Call,
    MemberPath(member): MemberPath,
    Query(()): Query<()>,
) -> Result<Json<v1::ChangeMembersResponse>, Problem> {
    change(call, Change::Promote(member), false).await
}

/// Makes a voter a learner, which it stays.
#[utoipa::path(
    post, path = "/v1/cluster/members/{member}/demote", operation_id = "demote_member", tag = "cluster",
    params(MemberPath, Forced),
    responses(
        (status = 200, body = v1::ChangeMembersResponse, description = "It does not vote any more"),
        Malformed, Missing, Unanswered,
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`quorum_lost`, `last_voter` or `membership_change_in_progress`"),
    ),
)]
pub(super) async fn demote(
    call: Call,
    MemberPath(member): MemberPath,
    Query(forced): Query<Forced>,
) -> Result<Json<v1::ChangeMembersResponse>, Problem> {
    change(call, Change::Demote(member), forced.is_forced()).await
}

/// Hands leadership over to another voter.
#[utoipa::path(
    post, path = "/v1/cluster/transfer-leadership", operation_id = "transfer_leadership", tag = "cluster",
    request_body = TransferBody,
    responses(
        (status = 200, body = v1::TransferLeadershipResponse, description = "The node that leads now"),
        Malformed, Unread, Missing, Unanswered,
        (status = 409, body = ProblemBody, content_type = "application/problem+json", description = "`no_successor`"),
    ),
)]
pub(super) async fn transfer_leadership(
    call: Call,
    Query(()): Query<()>,
    JsonBody(TransferBody { to }): JsonBody<TransferBody>,
) -> Result<Json<v1::TransferLeadershipResponse>, Problem> {
    let members = &call.edge.members;
    let transferred = members.transfer_leadership(to.as_deref(), call.left());
    Ok(Json(transferred.await?))
}
