//! The shortest path from a machine's initial state to another one, along its transitions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use lockstep_client::{
    Client, Consistency, Created, Definition, MachineName, Metadata, StateName, TransitionCall,
    Version,
};
use tokio::sync::Mutex;

use crate::failure::{Exit, Failure};

/// Walks new instances to the states that others were in.
pub(super) struct Walker {
    client: Client,
    definitions: Mutex<HashMap<(MachineName, Version), Arc<Definition>>>,
}

impl Walker {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            definitions: Mutex::default(),
        }
    }

    /// Moves an instance that was just created to another state, by the fewest transitions, each of
    /// them a real one. Returns how many there were.
    pub(super) async fn walk(&self, created: &Created, to: &StateName) -> Result<usize, Failure> {
        let id = &created.instance;
        let definition = self.definition(&id.machine, created.version).await?;
        let way = shortest(&definition, &created.state, to).ok_or_else(|| {
            let from = &created.state;
            let why =
                format!("{id} is in state {from:?}, from which no transitions lead to {to:?}");
            Failure::new(Exit::Rejected, "no_way", why)
        })?;
        // Distinguishes these transitions in watches and in the history.
        let mark = Metadata::new([("import", format!("walk to {to}"))]).map_err(Failure::local)?;
        let mut at = &created.state;
        for next in &way {
            let call = TransitionCall::to(id, next.clone())
                .expect_state(at.clone())
                .metadata(mark.clone());
            self.client.transition(call).await?;
            at = next;
        }
        Ok(way.len())
    }

    async fn definition(
        &self,
        machine: &MachineName,
        version: Version,
    ) -> Result<Arc<Definition>, Failure> {
        let mut known = self.definitions.lock().await;
        let key = (machine.clone(), version);
        if let Some(definition) = known.get(&key) {
            return Ok(definition.clone());
        }
        let read = self
            .client
            .machine(machine, Some(version), Consistency::Linearizable);
        let definition = Arc::new(read.await?.found.definition);
        known.insert(key, definition.clone());
        Ok(definition)
    }
}

/// The states that lead from one to another by the fewest transitions, without the first; none if
/// there is no way.
fn shortest(definition: &Definition, from: &StateName, to: &StateName) -> Option<Vec<StateName>> {
    let mut came_from: HashMap<&StateName, &StateName> = HashMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        if at == to {
            let mut way = vec![];
            let mut at = at;
            while at != from {
                way.push(at.clone());
                at = came_from.get(at)?;
            }
            way.reverse();
            return Some(way);
        }
        for (_, step) in definition.steps().filter(|(start, _)| *start == at) {
            let next = &step.to;
            if next != from && !came_from.contains_key(next) {
                came_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::Limits;

    fn state(name: &str) -> StateName {
        StateName::new(name).expect("the name is valid")
    }

    fn way(to: &str) -> Option<Vec<String>> {
        let definition = lockstep_document::parse_json(
            r#"{"name": "order", "initial": "open",
                "states": {"open": {}, "paid": {}, "packed": {}, "shipped": {"final": true},
                           "lost": {"final": true}},
                "transitions": [
                    {"from": "open", "to": "paid"}, {"from": "paid", "to": "packed"},
                    {"from": "packed", "to": "shipped"}, {"from": "paid", "to": "shipped"},
                    {"from": "packed", "to": "open"}
                ]}"#,
            &Limits::default(),
        )
        .expect("the definition is valid");
        let way = shortest(&definition, &state("open"), &state(to))?;
        Some(way.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_way_is_the_shortest_one() {
        assert_eq!(way("open"), Some(vec![]));
        assert_eq!(way("paid"), Some(vec!["paid".to_owned()]));
        let through_paid = vec!["paid".to_owned(), "shipped".to_owned()];
        assert_eq!(way("shipped"), Some(through_paid));
    }

    #[test]
    fn where_no_transition_leads_there_is_no_way() {
        assert_eq!(way("lost"), None);
        assert_eq!(way("nowhere"), None);
    }
}
