//! The members of the cluster: list them, change them, choose who leads.

use lockstep_proto::v1;
use lockstep_proto::v1::change_members_request::Change;
use lockstep_proto::v1::{ChangeMembersResponse as QuorumChange, Member};

use crate::call::Effect;
use crate::client::{Client, required};
use crate::error::Error;

/// A change of the members. A member is named by its name, or by its id in decimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// Adds the node at this gRPC address as a learner, which is promoted once it has caught up.
    Add {
        /// `host:port` of a node that belongs to no cluster.
        grpc_address: String,
        /// Whether it stays a learner.
        learner: bool,
    },
    /// Lets a learner become a voter, once it has caught up.
    Promote(String),
    /// Makes a voter a learner, which it stays.
    Demote(String),
    /// Removes a member. Its node stops.
    Remove(String),
}

impl Client {
    /// The members, and what each says of itself.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no endpoint answers.
    pub async fn members(&self) -> Result<Vec<Member>, Error> {
        self.ask(Effect::None, v1::ListMembersRequest {}, |answer| {
            Ok(answer.members)
        })
        .await
    }

    /// Changes the members: one change at a time. `force` makes the change even if too few voters would answer
    /// to form a quorum.
    ///
    /// # Errors
    /// The code and the reason of a refusal, and those of every write: after an unknown outcome, look at
    /// the members before you retry.
    pub async fn change_members(
        &self,
        change: MemberChange,
        force: bool,
    ) -> Result<QuorumChange, Error> {
        let change = match change {
            MemberChange::Add {
                grpc_address,
                learner,
            } => Change::Add(v1::AddMember {
                grpc_address,
                learner,
            }),
            MemberChange::Promote(member) => Change::Promote(member),
            MemberChange::Demote(member) => Change::Demote(member),
            MemberChange::Remove(member) => Change::Remove(member),
        };
        let message = v1::ChangeMembersRequest {
            change: Some(change),
            force,
        };
        self.ask(Effect::Repeatable, message, Ok).await
    }

    /// Hands leadership to a voter, by name or id; by default to the one with the longest log. Returns who leads
    /// then.
    ///
    /// # Errors
    /// As for [`change_members`](Self::change_members).
    pub async fn transfer_leadership(&self, to: Option<&str>) -> Result<Member, Error> {
        let message = v1::TransferLeadershipRequest {
            to: to.map(str::to_owned),
        };
        self.ask(Effect::Repeatable, message, |answer| {
            Ok(required("leader", answer.leader)?)
        })
        .await
    }
}
