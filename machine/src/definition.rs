//! What a machine is: its states and the moves between them. A definition is data, not code.
//!
//! A [`Definition`] is what an author wrote; [`Definition::validate`] finds every fault of it at
//! once. What the state keeps is a [`Compiled`] one, which is valid by construction and answers
//! "where may this go" without a search through the list.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{EventName, MachineName, StateName};

/// A machine as its author wrote it. Immutable once stored; a change makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The machine's name.
    pub name: MachineName,
    /// The state a new instance starts in.
    pub initial: StateName,
    /// Every state.
    pub states: Vec<StateName>,
    /// Every transition.
    pub moves: Vec<Move>,
}

/// One transition of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The state it leaves.
    pub from: StateName,
    /// The state it leads to.
    pub to: StateName,
    /// The event that names it, if any.
    pub event: Option<EventName>,
}

/// One thing wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct DefinitionFault {
    /// Where in the document, for example `transitions[3].to`.
    pub path: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// Every fault of a definition, at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the definition has {} fault(s): {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct DefinitionInvalid(pub Vec<DefinitionFault>);

impl Definition {
    /// The most states a definition may have.
    pub const STATES_MAX: usize = 256;
    /// The most transitions a definition may have.
    pub const TRANSITIONS_MAX: usize = 4096;

    /// Checks the whole definition.
    ///
    /// # Errors
    ///
    /// Every fault at once, in the order of the document: too many states or transitions, an
    /// initial state that is not listed, a state listed twice, a transition between states that
    /// are not listed, the same transition twice, and an event that would lead from one state to
    /// two.
    pub fn validate(&self) -> Result<(), DefinitionInvalid> {
        let mut faults = Faults::default();
        faults.count("states", self.states.len(), Self::STATES_MAX);
        faults.count("transitions", self.moves.len(), Self::TRANSITIONS_MAX);

        let mut states = BTreeSet::new();
        for (i, state) in self.states.iter().enumerate() {
            if !states.insert(state) {
                faults.add(
                    format!("states[{i}]"),
                    format!("state {state:?} is listed twice"),
                );
            }
        }
        if !states.contains(&self.initial) {
            let message = format!("{:?} is not one of the machine's states", self.initial);
            faults.add("initial".to_owned(), message);
        }

        let mut seen = BTreeSet::new();
        let mut events = BTreeMap::new();
        for (i, Move { from, to, event }) in self.moves.iter().enumerate() {
            for (end, state) in [("from", from), ("to", to)] {
                if !states.contains(state) {
                    let message = format!("{state:?} is not one of the machine's states");
                    faults.add(format!("transitions[{i}].{end}"), message);
                }
            }
            if !seen.insert((from, to, event)) {
                let message = format!("the transition from {from:?} to {to:?} is listed twice");
                faults.add(format!("transitions[{i}]"), message);
                continue;
            }
            let Some(event) = event else { continue };
            if let Some(first) = events.insert((from, event), to) {
                let message = format!(
                    "event {event:?} leads from {from:?} to {to:?} and to {first:?}; it may lead to one state only"
                );
                faults.add(format!("transitions[{i}].event"), message);
            }
        }
        faults.into_result()
    }
}

#[derive(Default)]
struct Faults(Vec<DefinitionFault>);

impl Faults {
    fn add(&mut self, path: String, message: String) {
        self.0.push(DefinitionFault { path, message });
    }

    fn count(&mut self, path: &str, count: usize, max: usize) {
        if count > max {
            self.add(
                path.to_owned(),
                format!("there are {count}; at most {max} are allowed"),
            );
        }
    }

    fn into_result(self) -> Result<(), DefinitionInvalid> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DefinitionInvalid(self.0))
        }
    }
}

/// A valid definition, indexed for lookup.
#[derive(Debug)]
pub(crate) struct Compiled {
    definition: Definition,
    exits: BTreeMap<StateName, Exits>,
}

/// The ways out of one state.
#[derive(Debug, Default)]
pub(crate) struct Exits {
    /// Where they lead, each once, in the definition's order.
    allowed: Vec<StateName>,
    targets: BTreeSet<StateName>,
    events: BTreeMap<EventName, StateName>,
}

impl Compiled {
    pub(crate) fn new(definition: Definition) -> Result<Self, DefinitionInvalid> {
        definition.validate()?;
        let mut exits: BTreeMap<_, _> = definition
            .states
            .iter()
            .map(|state| (state.clone(), Exits::default()))
            .collect();
        for Move { from, to, event } in &definition.moves {
            let exits = exits.entry(from.clone()).or_default();
            if exits.targets.insert(to.clone()) {
                exits.allowed.push(to.clone());
            }
            if let Some(event) = event {
                exits.events.insert(event.clone(), to.clone());
            }
        }
        Ok(Self { definition, exits })
    }

    pub(crate) fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The ways out of a state; `None` if the machine has no such state.
    pub(crate) fn exits(&self, state: &StateName) -> Option<&Exits> {
        self.exits.get(state)
    }
}

impl Exits {
    pub(crate) fn allowed(&self) -> &[StateName] {
        &self.allowed
    }

    pub(crate) fn lead_to(&self, state: &StateName) -> bool {
        self.targets.contains(state)
    }

    pub(crate) fn by_event(&self, event: &EventName) -> Option<&StateName> {
        self.events.get(event)
    }
}

/// The machine that every cluster has from the start.
pub(crate) fn triad() -> Definition {
    let state = |name| StateName::new(name).expect("the literal is a valid state name");
    let step = |from, to| Move {
        from: state(from),
        to: state(to),
        event: None,
    };
    Definition {
        name: MachineName::new("triad").expect("the literal is a valid machine name"),
        initial: state("first"),
        states: vec![state("first"), state("second"), state("third")],
        moves: vec![
            step("first", "second"),
            step("first", "third"),
            step("second", "third"),
            step("third", "first"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str) -> StateName {
        StateName::new(name).unwrap()
    }

    fn step(from: &str, to: &str, event: Option<&str>) -> Move {
        let event = event.map(|event| EventName::new(event).unwrap());
        Move {
            from: state(from),
            to: state(to),
            event,
        }
    }

    fn definition(initial: &str, states: &[&str], moves: Vec<Move>) -> Definition {
        Definition {
            name: MachineName::new("m").unwrap(),
            initial: state(initial),
            states: states.iter().map(|name| state(name)).collect(),
            moves,
        }
    }

    fn paths(definition: &Definition) -> Vec<String> {
        let DefinitionInvalid(faults) = definition.validate().unwrap_err();
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn the_built_in_machine_is_valid() {
        triad().validate().unwrap();
    }

    #[test]
    fn every_fault_is_listed_at_once() {
        let faulty = definition(
            "nowhere",
            &["a", "b", "a"],
            vec![
                step("a", "b", Some("go")),
                step("a", "b", Some("go")),
                step("a", "a", Some("go")),
                step("x", "y", None),
            ],
        );
        assert_eq!(
            paths(&faulty),
            [
                "states[2]",
                "initial",
                "transitions[1]",
                "transitions[2].event",
                "transitions[3].from",
                "transitions[3].to"
            ]
        );
        let text = faulty.validate().unwrap_err().to_string();
        assert!(
            text.starts_with("the definition has 6 fault(s): states[2]: "),
            "{text}"
        );
    }

    #[test]
    fn a_definition_without_states_has_no_initial_one() {
        assert_eq!(paths(&definition("a", &[], vec![])), ["initial"]);
    }

    #[test]
    fn one_more_state_or_transition_than_allowed_is_a_fault() {
        let names: Vec<String> = (0..=Definition::STATES_MAX)
            .map(|i| format!("s{i}"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        definition(
            "s0",
            &names[1..]
                .iter()
                .chain(&["s0"])
                .copied()
                .collect::<Vec<_>>()[1..],
            vec![],
        )
        .validate()
        .unwrap();
        assert_eq!(paths(&definition("s0", &names, vec![])), ["states"]);

        let moves = |count: usize| {
            (0..count)
                .map(|i| step("a", "a", Some(&format!("e{i}"))))
                .collect::<Vec<_>>()
        };
        let max = Definition::TRANSITIONS_MAX;
        definition("a", &["a"], moves(max)).validate().unwrap();
        assert_eq!(
            paths(&definition("a", &["a"], moves(max + 1))),
            ["transitions"]
        );
    }

    #[test]
    fn two_events_may_lead_to_the_same_state_which_is_then_listed_once() {
        let moves = vec![
            step("a", "b", Some("pay")),
            step("a", "a", None),
            step("a", "b", Some("gift")),
        ];
        let compiled = Compiled::new(definition("a", &["a", "b"], moves)).unwrap();
        let exits = compiled.exits(&state("a")).unwrap();
        assert_eq!(exits.allowed(), [state("b"), state("a")]);
        assert_eq!(
            exits.by_event(&EventName::new("gift").unwrap()),
            Some(&state("b"))
        );
        assert!(compiled.exits(&state("b")).unwrap().allowed().is_empty());
        assert!(compiled.exits(&state("c")).is_none());
    }
}
