//! Changing and listing the members, from any node: the leader does it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_machine::FeatureLevel;
use lockstep_proto::raft::peer_client::PeerClient;
use lockstep_proto::v1::cluster_client::ClusterClient;
use lockstep_proto::{ErrorCode, raft as pb, v1};
use lockstep_raft::Deadline;
use lockstep_raft::consensus::membership::quorum;
use lockstep_raft::consensus::peer_members::{change_out, changed_in, handed_over_in};
use lockstep_raft::consensus::{
    Consensus, Member, MemberChange, MemberError, NodeId, QuorumChange,
};
use lockstep_raft::store::DiskStore;
use openraft_rt_tokio::TokioRuntime;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::LocalNode;
use super::identify::identify;
use crate::service::peers::GrpcPeers;

/// Pause before the leader is looked for again.
const PAUSE: Duration = Duration::from_millis(100);
/// For the leader to say who answers.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// An answer needs this much longer than the work.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);

/// What the interfaces ask of the membership.
#[async_trait]
pub trait Membership: Send + Sync + 'static {
    /// The members, and what each says of itself.
    async fn list(&self) -> v1::ListMembersResponse;

    /// Changes the membership.
    async fn change(
        &self,
        asked: v1::ChangeMembersRequest,
        timeout: Duration,
    ) -> Result<v1::ChangeMembersResponse, MemberError>;

    /// Hands leadership to the member of this name or id, or to the best voter.
    async fn transfer_leadership(
        &self,
        to: Option<&str>,
        timeout: Duration,
    ) -> Result<v1::TransferLeadershipResponse, MemberError>;
}

/// The members of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Members {
    local: Arc<LocalNode>,
    consensus: Consensus<TokioRuntime, DiskStore>,
    peers: GrpcPeers,
}

impl Members {
    pub fn new(
        local: Arc<LocalNode>,
        consensus: Consensus<TokioRuntime, DiskStore>,
        peers: GrpcPeers,
    ) -> Self {
        Self {
            local,
            consensus,
            peers,
        }
    }

    /// The member of that name, or with that id in decimal.
    pub fn find(&self, name_or_id: &str) -> Result<NodeId, MemberError> {
        let members = self.consensus.standing().members;
        let named: Vec<NodeId> = members
            .iter()
            .filter(|it| it.member.name == name_or_id)
            .map(|it| it.id)
            .collect();
        let id = name_or_id.parse().ok();
        match named[..] {
            [id] => Ok(id),
            [] if members.iter().any(|it| Some(it.id) == id) => Ok(id.unwrap_or_default()),
            [] => {
                let names: Vec<&str> = members.iter().map(|it| it.member.name.as_str()).collect();
                Err(MemberError::Refused {
                    code: ErrorCode::UnknownMember,
                    message: format!(
                        "no member has the name or id {name_or_id:?}; the members are {}",
                        names.join(", ")
                    ),
                })
            }
            [first, second, ..] => Err(MemberError::Refused {
                code: ErrorCode::UnknownMember,
                message: format!(
                    "two members have the name {name_or_id}: use the id, {first} or {second}"
                ),
            }),
        }
    }

    /// The change that adds the node at `grpc_address`, which must belong to no cluster.
    pub async fn addition(
        &self,
        grpc_address: &str,
        learner: bool,
    ) -> Result<MemberChange, MemberError> {
        let refused = |code, message| MemberError::Refused { code, message };
        let answer = identify(grpc_address, None).await.map_err(|silence| {
            let message = format!("no node answers at {grpc_address}: {silence}");
            refused(ErrorCode::NodeUnreachable, message)
        })?;
        let own = self.local.announcement().cluster_id.unwrap_or_default();
        if !answer.cluster_id.is_empty() && answer.cluster_id != own {
            let message = format!(
                "{} at {grpc_address} belongs to cluster {}, this is cluster {own}",
                answer.name, answer.cluster_id
            );
            return Err(refused(ErrorCode::NodeInCluster, message));
        }
        Ok(MemberChange::Add {
            id: answer.node_id,
            member: Member {
                name: answer.name,
                grpc_address: answer.grpc_address,
                http_address: answer.http_address,
                learner,
            },
            supports: FeatureLevel::supported_with(answer.feature_level_max),
        })
    }

    /// Changes the membership. `force` skips the check of the quorum.
    pub async fn change(
        &self,
        change: &MemberChange,
        force: bool,
        timeout: Duration,
    ) -> Result<QuorumChange, MemberError> {
        let here = |deadline: Deadline<TokioRuntime>| async move {
            let changed = self.consensus.change_members(change, force);
            let changed = deadline.bound(changed).await;
            changed.unwrap_or(Err(MemberError::Unknown))
        };
        let there = |leader, deadline: Deadline<TokioRuntime>| async move {
            let message = change_out(change, force, deadline.left());
            let (mut peer, request) = self.call(leader, message, deadline)?;
            changed_in(answered(peer.change_members(request).await)?)
        };
        self.on_the_leader(timeout, here, there).await
    }

    /// Hands leadership to `to`, or to the best voter. Returns who leads then.
    pub async fn hand_over(
        &self,
        to: Option<NodeId>,
        timeout: Duration,
    ) -> Result<NodeId, MemberError> {
        let here = |deadline: Deadline<TokioRuntime>| async move {
            self.consensus.hand_over(to, deadline.left()).await
        };
        let there = |leader, deadline: Deadline<TokioRuntime>| async move {
            let timeout_ms = deadline.left().as_millis() as u64;
            let message = pb::HandOverRequest { to, timeout_ms };
            let (mut peer, request) = self.call(leader, message, deadline)?;
            handed_over_in(answered(peer.hand_over(request).await)?)
        };
        self.on_the_leader(timeout, here, there).await
    }

    /// Runs `here` if this node leads, and else `there`, which asks the leader; again, if that one leads no more.
    async fn on_the_leader<T, H, L>(
        &self,
        timeout: Duration,
        here: impl Fn(Deadline<TokioRuntime>) -> H,
        there: impl Fn((NodeId, Member), Deadline<TokioRuntime>) -> L,
    ) -> Result<T, MemberError>
    where
        H: Future<Output = Result<T, MemberError>>,
        L: Future<Output = Result<T, MemberError>>,
    {
        let deadline = Deadline::after(timeout);
        loop {
            let done = match self.consensus.leader() {
                Some((id, _)) if id == self.consensus.node_id() => here(deadline).await,
                Some(leader) => there(leader, deadline).await,
                None => Err(NOT_SENT),
            };
            match done {
                Err(MemberError::NotLeader { .. }) if deadline.sleep(PAUSE).await => {}
                done => return done,
            }
        }
    }

    /// The members as another node, which leads, knows them: only it knows who answers.
    async fn known_to_the_leader(&self) -> Option<Vec<v1::Member>> {
        let (id, leader) = self.consensus.leader()?;
        if id == self.consensus.node_id() {
            return None;
        }
        let mut leader = ClusterClient::new(self.peers.channel(id, &leader.grpc_address).ok()?);
        let asked = leader.status(v1::StatusRequest::default());
        let status = tokio::time::timeout(ASK_TIMEOUT, asked).await.ok()?.ok()?;
        Some(status.into_inner().members).filter(|members| !members.is_empty())
    }

    fn member(&self, id: NodeId) -> Option<v1::Member> {
        let members = self.consensus.standing().members;
        members.into_iter().find(|it| it.id == id).map(Into::into)
    }

    fn call<M>(
        &self,
        leader: (NodeId, Member),
        message: M,
        deadline: Deadline<TokioRuntime>,
    ) -> Result<(PeerClient<Channel>, Request<M>), MemberError> {
        let timeout = deadline.left() + ANSWER_MARGIN;
        let call = self.peers.call(leader, message, timeout);
        call.map_err(|_| NOT_SENT)
    }
}

const NOT_SENT: MemberError = MemberError::NotLeader { leader: None };

/// The leader's answer. It may refuse because it leads no more; if it did not answer, what it did is unknown.
fn answered<A>(answer: Result<Response<A>, Status>) -> Result<A, MemberError> {
    match answer {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) if status.code() == Code::FailedPrecondition => Err(NOT_SENT),
        Err(_) => Err(MemberError::Unknown),
    }
}

#[async_trait]
impl Membership for Members {
    async fn list(&self) -> v1::ListMembersResponse {
        let members = match self.known_to_the_leader().await {
            Some(members) => members,
            None => {
                let members = self.consensus.standing().members;
                members.into_iter().map(Into::into).collect()
            }
        };
        let asked = members.into_iter().map(|member: v1::Member| async move {
            let answer = identify(&member.grpc_address, None).await.ok();
            let answer = answer.filter(|it| it.node_id == member.id);
            v1::Member {
                report: answer.map(report),
                ..member
            }
        });
        let members = futures::future::join_all(asked).await;
        v1::ListMembersResponse { members }
    }

    async fn change(
        &self,
        asked: v1::ChangeMembersRequest,
        timeout: Duration,
    ) -> Result<v1::ChangeMembersResponse, MemberError> {
        use v1::change_members_request::Change;
        let deadline = Deadline::<TokioRuntime>::after(timeout);
        let change = match asked.change {
            Some(Change::Add(add)) => self.addition(&add.grpc_address, add.learner).await?,
            Some(Change::Promote(member)) => MemberChange::Promote(self.find(&member)?),
            Some(Change::Demote(member)) => MemberChange::Demote(self.find(&member)?),
            Some(Change::Remove(member)) => MemberChange::Remove(self.find(&member)?),
            None => {
                return Err(MemberError::Refused {
                    code: ErrorCode::InvalidArgument,
                    message: "change: must be one of add, promote, demote, remove".to_owned(),
                });
            }
        };
        let change = Members::change(self, &change, asked.force, deadline.left()).await?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(v1::ChangeMembersResponse {
            voters_before: count(change.voters_before),
            quorum_before: count(quorum(change.voters_before)),
            voters_after: count(change.voters_after),
            quorum_after: count(quorum(change.voters_after)),
            answering_after: count(change.answering_after),
        })
    }

    async fn transfer_leadership(
        &self,
        to: Option<&str>,
        timeout: Duration,
    ) -> Result<v1::TransferLeadershipResponse, MemberError> {
        let to = to.map(|to| self.find(to)).transpose()?;
        let leader = self.hand_over(to, timeout).await?;
        Ok(v1::TransferLeadershipResponse {
            leader: self.member(leader),
        })
    }
}

fn report(answer: pb::IdentifyResponse) -> v1::MemberReport {
    let role = v1::Role::from_str_name(&format!("ROLE_{}", answer.role.to_uppercase()));
    v1::MemberReport {
        version: answer.version,
        role: role.unwrap_or_default().into(),
        applied_index: answer.applied_index,
        log_last_index: answer.log_last_index,
        disk_free_bytes: answer.disk_free_bytes,
        disk_used_bytes: answer.disk_used_bytes,
        memory_bytes: answer.memory_bytes,
        feature_level_max: answer.feature_level_max.max(FeatureLevel::FIRST.get()),
    }
}

/// The membership of a service without a cluster, for tests.
#[cfg(test)]
pub(crate) struct NoMembers;

#[cfg(test)]
#[async_trait]
impl Membership for NoMembers {
    async fn list(&self) -> v1::ListMembersResponse {
        v1::ListMembersResponse::default()
    }

    async fn change(
        &self,
        _: v1::ChangeMembersRequest,
        _: Duration,
    ) -> Result<v1::ChangeMembersResponse, MemberError> {
        Err(MemberError::InProgress)
    }

    async fn transfer_leadership(
        &self,
        _: Option<&str>,
        _: Duration,
    ) -> Result<v1::TransferLeadershipResponse, MemberError> {
        Err(MemberError::NoSuccessor)
    }
}
