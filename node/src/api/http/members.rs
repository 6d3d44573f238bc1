//! `/v1/cluster/members`: list and change the members; `/v1/cluster/transfer-leadership`.

use axum::Json;
use lockstep_proto::v1;
use lockstep_proto::v1::change_members_request::Change;

use super::input::MemberPath;
use super::json::JsonBody;
use super::query::{Flag, Query, query};
use crate::api::call::Call;
use crate::api::problem::Problem;

query! {
    Forced {
        /// Make the change even if too few voters would answer to form a quorum.
        force: Option<Flag>,
    }
}

async fn change(
    call: Call,
    change: Change,
    force: Option<Flag>,
) -> Result<Json<v1::ChangeMembersResponse>, Problem> {
    let change = v1::ChangeMembersRequest {
        change: Some(change),
        force: force.is_some_and(|it| it.0),
    };
    Ok(Json(call.edge.members.change(change, call.left()).await?))
}

pub(super) async fn list(
    call: Call,
    Query(()): Query<()>,
) -> Result<Json<v1::ListMembersResponse>, Problem> {
    Ok(Json(call.edge.members.list().await))
}

pub(super) async fn add(
    call: Call,
    Query(()): Query<()>,
    JsonBody(node): JsonBody<v1::AddMember>,
) -> Result<Json<v1::ChangeMembersResponse>, Problem> {
    change(call, Change::Add(node), None).await
}

pub(super) async fn remove(
    call: Call,
    MemberPath(member): MemberPath,
    Query(Forced { force }): Query<Forced>,
) -> Result<Json<v1::ChangeMembersResponse>, Problem> {
    change(call, Change::Remove(member), force).await
}

pub(super) async fn promote(
    call: Call,
    MemberPath(member): MemberPath,
    Query(()): Query<()>,
) -> Result<Json<v1::ChangeMembersResponse>, Problem> {
    change(call, Change::Promote(member), None).await
}

pub(super) async fn demote(
    call: Call,
    MemberPath(member): MemberPath,
    Query(Forced { force }): Query<Forced>,
) -> Result<Json<v1::ChangeMembersResponse>, Problem> {
    change(call, Change::Demote(member), force).await
}

pub(super) async fn transfer_leadership(
    call: Call,
    Query(()): Query<()>,
    JsonBody(asked): JsonBody<v1::TransferLeadershipRequest>,
) -> Result<Json<v1::TransferLeadershipResponse>, Problem> {
    let members = &call.edge.members;
    let transferred = members.transfer_leadership(asked.to.as_deref(), call.left());
    Ok(Json(transferred.await?))
}
