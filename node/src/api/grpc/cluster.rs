//! `lockstep.v1.Cluster`.

use std::time::Duration;

use lockstep_proto::v1;
use tonic::{Request, Response, Status};

use super::GrpcState;
use super::answer::coded;
use super::{reads, writes};
use crate::service::{self, Role};
use crate::telemetry::build;
use lockstep_proto::ErrorCode;
use lockstep_raft::consensus::MemberError;

/// The service, over the use cases.
pub(super) struct Cluster(pub(super) GrpcState);

#[tonic::async_trait]
impl v1::cluster_server::Cluster for Cluster {
    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let deadline = self.0.deadline(&request);
        let call = async {
            let hash = match request.into_inner().with_state_hash {
                true => Some(self.hash(deadline).await?),
                false => None,
            };
            Ok(response(
                self.0.service.status(),
                self.0.started.elapsed(),
                hash,
            ))
        };
        self.0.observe("lockstep.v1.Cluster/Status", call).await
    }

    async fn get_settings(
        &self,
        request: Request<v1::GetSettingsRequest>,
    ) -> Result<Response<v1::GetSettingsResponse>, Status> {
        let deadline = self.0.deadline(&request);
        let call = reads::get_settings(&self.0, request.into_inner(), deadline);
        self.0
            .observe("lockstep.v1.Cluster/GetSettings", call)
            .await
    }

    async fn update_settings(
        &self,
        request: Request<v1::UpdateSettingsRequest>,
    ) -> Result<Response<v1::UpdateSettingsResponse>, Status> {
        let deadline = self.0.deadline(&request);
        let call = writes::update_settings(&self.0, request.into_inner(), deadline);
        self.0
            .observe("lockstep.v1.Cluster/UpdateSettings", call)
            .await
    }

    async fn list_members(
        &self,
        _: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        let call = async { Ok(self.0.members.list().await) };
        self.0
            .observe("lockstep.v1.Cluster/ListMembers", call)
            .await
    }

    async fn change_members(
        &self,
        request: Request<v1::ChangeMembersRequest>,
    ) -> Result<Response<v1::ChangeMembersResponse>, Status> {
        let deadline = self.0.deadline(&request);
        let call = async {
            let changed = self.0.members.change(request.into_inner(), deadline);
            changed.await.map_err(|error| refused(&error))
        };
        self.0
            .observe("lockstep.v1.Cluster/ChangeMembers", call)
            .await
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        let deadline = self.0.deadline(&request);
        let call = async {
            let to = request.into_inner().to;
            let members = &self.0.members;
            let transferred = members.transfer_leadership(to.as_deref(), deadline).await;
            transferred.map_err(|error| refused(&error))
        };
        self.0
            .observe("lockstep.v1.Cluster/TransferLeadership", call)
            .await
    }
}

fn refused(error: &MemberError) -> Status {
    coded(error.code(), error)
}

impl Cluster {
    async fn hash(&self, deadline: Duration) -> Result<(u64, String), Status> {
        tokio::time::timeout(deadline, self.0.service.state_hash())
            .await
            .map_err(|_| {
                let message = format!(
                    "the state was not hashed within {} ms",
                    deadline.as_millis()
                );
                coded(ErrorCode::StateHashTimeout, message)
            })
    }
}

/// A hash belongs to the index it was taken at, which then is the answer's `applied_index`.
fn response(
    status: service::Status,
    uptime: Duration,
    hash: Option<(u64, String)>,
) -> v1::StatusResponse {
    let standing = status.standing;
    let (applied_index, state_hash) = match hash {
        Some((index, hash)) => (index, Some(hash)),
        None => (standing.applied_index, None),
    };
    let role = match standing.role {
        Role::Leader => v1::Role::Leader,
        Role::Follower => v1::Role::Follower,
        Role::Candidate => v1::Role::Candidate,
        Role::Learner => v1::Role::Learner,
    };
    v1::StatusResponse {
        cluster_id: status.cluster_id,
        node: Some(status.node.into()),
        version: build::version().to_owned(),
        build_date: build::build_date().to_owned(),
        uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
        role: role.into(),
        term: standing.term,
        leader_id: standing.leader.map(|(id, _)| id),
        leader_contact_ms: standing.leader_contact.map(|it| it.as_millis() as u64),
        members: standing.members.into_iter().map(Into::into).collect(),
        log_first_index: standing.log_first_index,
        log_last_index: standing.log_last_index,
        committed_index: standing.committed_index,
        applied_index,
        snapshot_index: standing.snapshot_index,
        state_hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Member, MemberStatus, Standing};

    #[test]
    fn a_hash_goes_with_the_index_it_was_taken_at() {
        let node = MemberStatus {
            id: 7,
            member: Member::default(),
            voter: true,
            matched_index: Some(9),
            contact: None,
        };
        let status = service::Status {
            cluster_id: "c".to_owned(),
            node: node.clone(),
            standing: Standing {
                role: Role::Follower,
                members: vec![node],
                applied_index: 9,
                ..Standing::default()
            },
        };
        let hashed = response(status.clone(), Duration::ZERO, Some((8, "ab".to_owned())));
        assert_eq!(
            (hashed.applied_index, hashed.state_hash.as_deref()),
            (8, Some("ab"))
        );
        let plain = response(status, Duration::ZERO, None);
        assert_eq!((plain.applied_index, &plain.state_hash), (9, &None));
        assert_eq!(plain.role(), v1::Role::Follower);
        assert_eq!(plain.members[0].matched_index, Some(9));
    }
}
