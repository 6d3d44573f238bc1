//! The feature level, from the side of the nodes: what each supports, and what the leader may raise it to.
//!
//! Each node says in `Identify` which level its build supports at most. While the cluster is below what a node
//! supports, the node asks all members every second. The leader raises the level to the lowest of the answers,
//! within the setting `feature_level_max`; while a member does not answer, the level stays, because that member's
//! build is not known. No node that does not support the level can join meanwhile: changing the members and raising
//! the level are mutually exclusive
//! ([`Consensus::raise_level`]), and the leader refuses a node that does not support the
//! level of the cluster.

use std::collections::BTreeSet;

use lockstep_machine::{CodecError, FeatureLevel};
use lockstep_raft::consensus::{Consensus, MemberStatus, NodeId, Runtime};
use lockstep_raft::store::Storage;

use super::LocalNode;
use super::identify::identify;

/// For tests of upgrades: the node supports no higher level than this number, as if its build were older.
const ENV_SUPPORTED: &str = "LOCKSTEP_TEST_FEATURE_LEVEL";

/// The highest feature level that this node supports: that of its build.
pub(super) fn supported() -> FeatureLevel {
    let asked = std::env::var(ENV_SUPPORTED).ok();
    let asked = asked.and_then(|number| number.parse().ok());
    asked.map_or(FeatureLevel::NEWEST, FeatureLevel::supported_with)
}

/// Fails if the state is at a level that this node does not support: its build is older than one that has run
/// on this data folder.
pub fn check<RT: Runtime, S: Storage>(
    consensus: &Consensus<RT, S>,
    supports: FeatureLevel,
) -> Result<(), CodecError> {
    let level = consensus.state().read().state.level();
    match level > supports {
        false => Ok(()),
        true => Err(CodecError::UnknownLevel {
            what: "the data folder",
            found: level.get(),
            supported: supports.get(),
        }),
    }
}

/// What the members support.
#[derive(Debug, Default)]
pub struct Survey(Vec<Answer>);

#[derive(Debug)]
struct Answer {
    id: NodeId,
    name: String,
    /// The release, and the highest level that it supports; `None` if the member does not answer.
    build: Option<(String, FeatureLevel)>,
}

impl Survey {
    pub async fn of<RT: Runtime, S: Storage>(
        consensus: &Consensus<RT, S>,
        local: &LocalNode,
    ) -> Self {
        use lockstep_raft::consensus::server::Host as _;
        let me = consensus.node_id();
        let members = consensus.standing().members;
        let asked = members.into_iter().map(async |it: MemberStatus| {
            let answer = match it.id == me {
                true => Some(local.identify()),
                false => identify(&it.member.grpc_address, None).await.ok(),
            };
            let answer = answer.filter(|answer| answer.node_id == it.id);
            Answer {
                id: it.id,
                name: it.member.name,
                build: answer.map(|answer| {
                    let supports = FeatureLevel::supported_with(answer.feature_level_max);
                    (answer.version, supports)
                }),
            }
        });
        Self(futures::future::join_all(asked).await)
    }

    pub fn asked(&self) -> BTreeSet<NodeId> {
        self.0.iter().map(|it| it.id).collect()
    }

    /// The highest level that every member supports, but no higher than `most`; `None` if that is not known.
    pub fn allows(&self, most: u64) -> Option<FeatureLevel> {
        let supported = self.0.iter().map(|it| Some(it.build.as_ref()?.1));
        let supported = supported.collect::<Option<Vec<_>>>()?.into_iter().min()?;
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        Some(supported.min(FeatureLevel::supported_with(most)))
    }

    /// Why the cluster is not at `newest`.
    pub fn waits_for(&self, newest: FeatureLevel, most: u64) -> Vec<String> {
        let mut reasons: Vec<String> = self
            .0
            .iter()
            .filter_map(|it| match &it.build {
                Some((_, supports)) if *supports >= newest => None,
                Some((version, supports)) => Some(format!(
                    "{} runs release {version}, which supports level {supports}",
                    it.name
                )),
                None => Some(format!("{} does not answer", it.name)),
            })
            .collect();
        if !self.0.is_empty() && most < newest.get().into() {
            reasons.push(format!("the setting feature_level_max is {most}"));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(reported: &[Option<u32>]) -> Survey {
        let answer = |(id, reported): (u64, &Option<u32>)| Answer {
            id,
            name: format!("node{id}"),
            build: reported.map(|it| ("1.0.0".to_owned(), FeatureLevel::supported_with(it))),
        };
        Survey((1..).zip(reported).map(answer).collect())
    }

    #[test]
    fn the_level_may_rise_to_what_every_member_supports() {
        let (first, newest) = (FeatureLevel::FIRST, FeatureLevel::NEWEST);
        let allows = |reported: &[_]| survey(reported).allows(1000);
        assert_eq!(allows(&[Some(99), Some(99)]), Some(newest));
        // A release without levels reports 0.
        assert_eq!(allows(&[Some(99), Some(0)]), Some(first));
        assert_eq!(allows(&[Some(99), None]), None);
        assert_eq!(allows(&[]), None);
        assert_eq!(survey(&[Some(99), Some(99)]).allows(1), Some(first));
    }

    #[test]
    fn what_keeps_the_level_is_named() {
        let newest = FeatureLevel::NEWEST;
        let reasons = survey(&[Some(99), Some(1), None]).waits_for(newest, 1);
        assert_eq!(
            reasons,
            [
                "node2 runs release 1.0.0, which supports level 1",
                "node3 does not answer",
                "the setting feature_level_max is 1",
            ]
        );
        assert_eq!(survey(&[Some(99)]).waits_for(newest, 1000), [""; 0]);
        assert_eq!(Survey::default().waits_for(newest, 1), [""; 0]);
    }
}
