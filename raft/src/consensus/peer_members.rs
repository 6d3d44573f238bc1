//! Membership changes between peers: the messages, both directions, and how a leader answers.

use std::time::Duration;

use lockstep_machine::FeatureLevel;
use lockstep_proto::raft as pb;
use lockstep_proto::{ErrorCode, Malformed};
use openraft_rt_tokio::TokioRuntime;
use tonic::Status;

use super::membership::{MemberChange, MemberError, QuorumChange};
use super::node::Consensus;
pub use super::wire::member_out;
use super::wire::{member_in, required};
use crate::store::DiskStore;

/// The longest that a change may take here.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// For a node that asks to join; it asks again.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

type Node = Consensus<TokioRuntime, DiskStore>;

/// A change as sent to the leader.
pub fn change_out(
    change: &MemberChange,
    force: bool,
    timeout: Duration,
) -> pb::ChangeMembersRequest {
    use pb::change_members_request::Change;
    let mut feature_level_max = 0;
    let change = match change {
        MemberChange::Add {
            id,
            member,
            supports,
        } => {
            feature_level_max = supports.get();
            Change::Add(member_out(*id, member))
        }
        MemberChange::Promote(id) => Change::Promote(*id),
        MemberChange::Demote(id) => Change::Demote(*id),
        MemberChange::Remove(id) => Change::Remove(*id),
    };
    pb::ChangeMembersRequest {
        change: Some(change),
        force,
        timeout_ms: timeout.as_millis() as u64,
        feature_level_max,
    }
}

fn change_in(request: pb::ChangeMembersRequest) -> Result<MemberChange, Malformed> {
    use pb::change_members_request::Change;
    Ok(match required(request.change, "change")? {
        Change::Add(member) => {
            let (id, member) = member_in(member);
            MemberChange::Add {
                id,
                member,
                supports: FeatureLevel::supported_with(request.feature_level_max),
            }
        }
        Change::Promote(id) => MemberChange::Promote(id),
        Change::Demote(id) => MemberChange::Demote(id),
        Change::Remove(id) => MemberChange::Remove(id),
    })
}

/// The leader's answer to a change.
pub fn changed_in(answer: pb::ChangeMembersResponse) -> Result<QuorumChange, MemberError> {
    use pb::change_members_response::Result as In;
    match answer.result {
        Some(In::Changed(quorum)) => Ok(QuorumChange {
            voters_before: quorum.voters_before as usize,
            voters_after: quorum.voters_after as usize,
            answering_after: quorum.answering_after as usize,
        }),
        Some(In::Failure(failure)) => Err(failure_in(failure)),
        None => Err(MemberError::Unknown),
    }
}

/// The leader's answer to a request to hand over: who leads now.
pub fn handed_over_in(answer: pb::HandOverResponse) -> Result<u64, MemberError> {
    use pb::hand_over_response::Result as In;
    match answer.result {
        Some(In::Leader(id)) => Ok(id),
        Some(In::Failure(failure)) => Err(failure_in(failure)),
        None => Err(MemberError::Unknown),
    }
}

/// A peer's refusal.
pub fn failure_in(failure: pb::MemberFailure) -> MemberError {
    let pb::MemberFailure { code, message } = failure;
    if code.is_empty() {
        return MemberError::NotLeader { leader: None };
    }
    match ErrorCode::find(&code) {
        Some(ErrorCode::OutcomeUnknown) => MemberError::Unknown,
        Some(code) => MemberError::Refused { code, message },
        // A newer release has more codes.
        None => MemberError::Refused {
            code: ErrorCode::Internal,
            message,
        },
    }
}

fn failure_out(error: &MemberError) -> pb::MemberFailure {
    let code = match error {
        MemberError::NotLeader { .. } => "",
        error => error.code().as_str(),
    };
    pb::MemberFailure {
        code: code.to_owned(),
        message: error.to_string(),
    }
}

pub(super) async fn change(
    node: &Node,
    request: pb::ChangeMembersRequest,
) -> Result<pb::ChangeMembersResponse, Status> {
    use pb::change_members_response::Result as Out;
    let timeout = Duration::from_millis(request.timeout_ms).min(TIMEOUT_MAX);
    let force = request.force;
    let change = change_in(request).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let result = Some(match change_within(timeout, node, change, force).await {
        Ok(quorum) => Out::Changed(pb::QuorumChange {
            voters_before: quorum.voters_before as u32,
            voters_after: quorum.voters_after as u32,
            answering_after: quorum.answering_after as u32,
        }),
        Err(error) => Out::Failure(failure_out(&error)),
    });
    Ok(pb::ChangeMembersResponse { result })
}

async fn change_within(
    timeout: Duration,
    node: &Node,
    change: MemberChange,
    force: bool,
) -> Result<QuorumChange, MemberError> {
    let changed = tokio::time::timeout(timeout, node.change_members(&change, force)).await;
    changed.unwrap_or(Err(MemberError::Unknown))
}

pub(super) async fn hand_over(node: &Node, request: pb::HandOverRequest) -> pb::HandOverResponse {
    use pb::hand_over_response::Result as Out;
    let timeout = Duration::from_millis(request.timeout_ms).min(TIMEOUT_MAX);
    let result = Some(match node.hand_over(request.to, timeout).await {
        Ok(leader) => Out::Leader(leader),
        Err(error) => Out::Failure(failure_out(&error)),
    });
    pb::HandOverResponse { result }
}

/// Answers a node that asks to join: it is added, or told who leads.
pub(super) async fn join(
    node: &Node,
    member: pb::Member,
    supports: FeatureLevel,
    auto_replace: bool,
) -> pb::JoinResponse {
    use pb::join_response::{Accepted, Result as Out};
    let added = match (node.leads(), node.leader()) {
        (true, _) => add(node, member, supports, auto_replace).await,
        (false, Some((id, leader))) => {
            let result = Some(Out::Leader(member_out(id, &leader)));
            return pb::JoinResponse { result };
        }
        (false, None) => Err(MemberError::Refused {
            code: ErrorCode::Unavailable,
            message: "the cluster has no leader".to_owned(),
        }),
    };
    let result = Some(match added {
        Ok(_) => Out::Accepted(Accepted {}),
        Err(error) => Out::Failure(failure_out(&error)),
    });
    pb::JoinResponse { result }
}

/// Adds a node. A silent member of the same name is replaced once the new one has caught up, unless
/// `auto_replace` is off.
async fn add(
    node: &Node,
    member: pb::Member,
    supports: FeatureLevel,
    auto_replace: bool,
) -> Result<QuorumChange, MemberError> {
    let (id, member) = member_in(member);
    let mut members = node.standing().members.into_iter();
    let former = members.find(|it| it.id != id && it.member.name == member.name);
    if let Some(former) = former.filter(|_| !auto_replace) {
        return Err(MemberError::Refused {
            code: ErrorCode::MemberNameTaken,
            message: format!(
                "the name belongs to member {}, which does not answer, and cluster.auto_replace is off: remove that member, or replace it by this node ({id})",
                former.id
            ),
        });
    }
    let change = MemberChange::Add {
        id,
        member,
        supports,
    };
    change_within(JOIN_TIMEOUT, node, change, false).await
}
