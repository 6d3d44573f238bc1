//! What a watcher saw of timeouts: each fired once and never early, and how late.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::Value;

use crate::http::Api;
use crate::watcher::Seen;

/// One timeout that fired.
#[derive(Debug, Clone, Copy)]
pub struct Firing {
    /// When it was due.
    pub due: SystemTime,
    /// How late the cluster says that it fired.
    pub late: Duration,
    /// How long after it was due the watcher saw it, by the clock of this machine.
    pub seen_late: Duration,
}

/// The timeouts that fired, by instance.
#[derive(Debug, Default)]
pub struct Fired(HashMap<String, Firing>);

impl Fired {
    /// Goes through all that happened to instances whose first state has a timeout of `after`. An
    /// error if one fired twice or early, or if its lateness is not what its times say.
    pub fn of(seen: &[Seen], after: Duration) -> Result<Self> {
        let mut due = HashMap::new();
        let mut fired = HashMap::new();
        for event in seen.iter().filter(|event| event.data["id"].is_string()) {
            let data = &event.data;
            let id = data["id"].as_str().context("no id")?.to_owned();
            let at = humantime::parse_rfc3339(data["at"].as_str().context("no time")?)?;
            if event.kind == "created" {
                ensure!(
                    due.insert(id, at + after).is_none(),
                    "created twice: {event:?}"
                );
                continue;
            }
            ensure!(data["cause"] == "timeout", "no timeout: {event:?}");
            let due = *due.get(&id).context("fired before it was created")?;
            let late = at
                .duration_since(due)
                .with_context(|| format!("fired early: {event:?}"))?;
            ensure!(
                data["late_ms"].as_u64().map(u128::from) == Some(late.as_millis()),
                "it was {late:?} late: {event:?}"
            );
            let firing = Firing {
                due,
                late,
                seen_late: event.came.duration_since(due).unwrap_or_default(),
            };
            ensure!(fired.insert(id, firing).is_none(), "fired twice: {event:?}");
        }
        Ok(Self(fired))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether that of this instance is among them.
    pub fn contains(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Firing> {
        self.0.values()
    }
}

/// What an instance remembers of what happened to it.
pub async fn changes(node: &Api, id: &str) -> Result<Vec<Value>> {
    let (machine, name) = id.split_once('/').context("an id is machine/name")?;
    let path = format!("/v1/machines/{machine}/instances/{name}/history");
    let history = node.get(&path).await?.expect(StatusCode::OK)?.json()?;
    let events = history["events"].as_array();
    Ok(events
        .with_context(|| format!("no events in {history}"))?
        .clone())
}
