//! `lockstep.v1.Cluster`.

use lockstep_proto::v1;

use super::{backup, calls, reads, writes};
use crate::api::call::Call;
use crate::api::problem::Problem;

calls! {
    "lockstep.v1.Cluster", cluster_server::Cluster for Cluster {
        status "Status": StatusRequest => StatusResponse = status;
        get_settings "GetSettings": GetSettingsRequest => GetSettingsResponse = reads::get_settings;
        update_settings "UpdateSettings": UpdateSettingsRequest => UpdateSettingsResponse = writes::update_settings;
        list_members "ListMembers": ListMembersRequest => ListMembersResponse = list_members;
        change_members "ChangeMembers": ChangeMembersRequest => ChangeMembersResponse = change_members;
        transfer_leadership "TransferLeadership": TransferLeadershipRequest => TransferLeadershipResponse
            = transfer_leadership;
    }
    stream BackupStream: backup "Backup": BackupRequest => backup::Stream = backup::begin;
}

async fn status(call: &Call, request: v1::StatusRequest) -> Result<v1::StatusResponse, Problem> {
    call.status(request.with_state_hash).await
}

async fn list_members(
    call: &Call,
    _: v1::ListMembersRequest,
) -> Result<v1::ListMembersResponse, Problem> {
    Ok(call.edge.members.list().await)
}

async fn change_members(
    call: &Call,
    request: v1::ChangeMembersRequest,
) -> Result<v1::ChangeMembersResponse, Problem> {
    Ok(call.edge.members.change(request, call.left()).await?)
}

async fn transfer_leadership(
    call: &Call,
    request: v1::TransferLeadershipRequest,
) -> Result<v1::TransferLeadershipResponse, Problem> {
    let members = &call.edge.members;
    let transferred = members.transfer_leadership(request.to.as_deref(), call.left());
    Ok(transferred.await?)
}
