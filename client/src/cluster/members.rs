//! The members of the cluster: list them, change them, choose who leads.

use lockstep_proto::v1;
use lockstep_proto::v1::change_members_request::Change as MemberChange;
use lockstep_proto::v1::{ChangeMembersResponse as QuorumChange, Member};

use crate::call::Effect;
use crate::client::{Client, required};
use crate::error::Error;

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

    /// Changes the members: one change at a time. A member is named by its name, or by its id in decimal.
    /// `force` makes the change even if too few voters would answer to form a quorum.
    ///
    /// # Errors
    /// The code and the reason of a refusal, and those of every write: after an unknown outcome, look at
    /// the members before you retry.
    pub async fn change_members(
        &self,
        change: MemberChange,
        force: bool,
    ) -> Result<QuorumChange, Error> {
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
