//! The cluster as the nodes report it over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use crate::probe;

const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) ready: bool,
    pub(super) name: Option<String>,
    pub(super) role: Option<String>,
    pub(super) term: u64,
    /// Its answer to `/readyz`, for people.
    pub(super) said: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) name: String,
    pub(super) term: u64,
}

/// Asks all nodes side by side.
pub(super) async fn statuses(addresses: &[SocketAddr]) -> Vec<Status> {
    futures::future::join_all(addresses.iter().map(|address| status(*address))).await
}

async fn status(address: SocketAddr) -> Status {
    let (ready, cluster) = tokio::join!(
        probe::get(address, "/readyz", PROBE_TIMEOUT),
        probe::get(address, "/v1/cluster", PROBE_TIMEOUT)
    );
    let mut status = match cluster {
        Ok(answer) if answer.status == 200 => parse(&answer.body),
        _ => Status::default(),
    };
    status.ready = ready.as_ref().is_ok_and(|answer| answer.status == 200);
    status.said = match ready {
        Ok(answer) if status.ready && status.role.is_none() => {
            format!("answers {}, but does not report its role", answer.status)
        }
        Ok(answer) => format!(
            "answers {} {}",
            answer.status,
            answer.body.trim().chars().take(200).collect::<String>()
        ),
        Err(error) => format!("does not answer ({error})"),
    };
    status
}

fn parse(body: &str) -> Status {
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    Status {
        name: json["node"]["name"].as_str().map(String::from),
        role: json["role"].as_str().map(str::to_lowercase),
        term: json["term"].as_u64().unwrap_or_default(),
        ..Status::default()
    }
}

/// The node that leads in the highest term: a node that was cut off may still report that it leads.
pub(super) fn leader(statuses: &[Status]) -> Option<Leader> {
    let leads = |status: &&Status| status.role.as_deref() == Some("leader");
    let status = statuses
        .iter()
        .filter(leads)
        .max_by_key(|status| status.term)?;
    Some(Leader {
        name: status.name.clone()?,
        term: status.term,
    })
}

/// A line for people if the leader changed. A time without a leader is not a change, nor is an old
/// leader that does not know of the new one yet.
pub(super) fn change(before: Option<&Leader>, now: Option<&Leader>) -> Option<String> {
    let now = now?;
    match before {
        Some(before) if now.term <= before.term => None,
        Some(before) if now.name == before.name => {
            Some(format!("leader: {} (term {}), again", now.name, now.term))
        }
        Some(before) => Some(format!(
            "leader: {} (term {}), was {}",
            now.name, now.term, before.name
        )),
        None => Some(format!("leader: {} (term {})", now.name, now.term)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(name: &str, role: &str, term: u64) -> Status {
        parse(&format!(
            r#"{{"role":"{role}","term":{term},"leader_id":7,"node":{{"name":"{name}"}}}}"#
        ))
    }

    fn leads(name: &str, term: u64) -> Leader {
        Leader {
            name: name.into(),
            term,
        }
    }

    #[test]
    fn the_leader_is_the_one_of_the_highest_term() {
        let statuses = [
            says("node1", "leader", 1),
            says("node2", "Leader", 3),
            says("node3", "follower", 3),
        ];
        assert_eq!(leader(&statuses), Some(leads("node2", 3)));
        assert_eq!(
            leader(&[says("node1", "follower", 1), parse("garbage"), parse("[]")]),
            None
        );
    }

    #[test]
    fn a_change_of_leader_names_both() {
        let old = leads("node1", 1);
        assert_eq!(
            change(Some(&old), Some(&leads("node2", 3))).as_deref(),
            Some("leader: node2 (term 3), was node1")
        );
        assert_eq!(
            change(Some(&old), Some(&leads("node1", 2))).as_deref(),
            Some("leader: node1 (term 2), again")
        );
        assert_eq!(change(Some(&old), Some(&old)), None);
        assert_eq!(change(Some(&old), None), None);
        assert_eq!(change(Some(&leads("node2", 3)), Some(&old)), None);
    }
}
