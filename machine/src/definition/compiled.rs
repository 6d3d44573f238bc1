//! A valid definition, indexed for lookup. Instances and events share its name strings.

use std::collections::{BTreeMap, BTreeSet};

use super::{Definition, DefinitionInvalid, StateDefinition, Timeout};
use crate::ids::{EventName, StateName};
use crate::settings::Limits;

/// A valid definition, indexed for lookup.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) definition: Definition,
    exits: BTreeMap<StateName, Exits>,
    pub(crate) size: Size,
}

/// How much of each limit the definition uses; precomputed, because metrics read it every second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) states: u64,
    pub(crate) transitions: u64,
    pub(crate) bytes: u64,
}

impl Size {
    /// Each the larger of the two.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            states: self.states.max(other.states),
            transitions: self.transitions.max(other.transitions),
            bytes: self.bytes.max(other.bytes),
        }
    }
}

/// One state, and the ways out of it.
#[derive(Debug, Default)]
pub(crate) struct Exits {
    /// Where they lead, each once, in the definition's order.
    pub(crate) allowed: Vec<StateName>,
    targets: BTreeSet<StateName>,
    events: BTreeMap<EventName, StateName>,
    pub(crate) timeout: Option<Timeout>,
}

impl Compiled {
    /// Compiles a stored definition without checking the limits, which may have changed since.
    pub(crate) fn restore(definition: Definition) -> Result<Self, DefinitionInvalid> {
        let limits = Limits {
            states_max: u64::MAX,
            transitions_max: u64::MAX,
            ..Limits::default()
        };
        Self::new(definition, &limits)
    }

    /// Fails as [`Definition::validate`] does.
    pub(crate) fn new(definition: Definition, limits: &Limits) -> Result<Self, DefinitionInvalid> {
        definition.validate(limits)?;
        let named = |state: &StateDefinition| {
            let timeout = state.timeout.clone();
            (
                state.name.clone(),
                Exits {
                    timeout,
                    ..Exits::default()
                },
            )
        };
        let mut exits: BTreeMap<_, _> = definition.states.iter().map(named).collect();
        // The one copy of each name that everything else shares.
        let names: BTreeSet<StateName> = exits.keys().cloned().collect();
        let shared = |name: &StateName| names.get(name).unwrap_or(name).clone();
        for (from, it) in definition.steps() {
            let exits = exits.entry(from.clone()).or_default();
            let to = shared(&it.to);
            if exits.targets.insert(to.clone()) {
                exits.allowed.push(to.clone());
            }
            if let Some(event) = &it.event {
                exits.events.insert(event.clone(), to);
            }
        }
        for timeout in exits
            .values_mut()
            .filter_map(|exits| exits.timeout.as_mut())
        {
            timeout.to = shared(&timeout.to);
        }
        let size = Size {
            states: definition.states.len() as u64,
            transitions: definition.step_count(),
            bytes: definition.stored_bytes(),
        };
        Ok(Self {
            definition,
            exits,
            size,
        })
    }

    /// The ways out of a state; `None` if the machine has no such state.
    pub(crate) fn exits(&self, state: &StateName) -> Option<&Exits> {
        self.exits.get(state)
    }

    /// The definition's own copy of a state's name.
    pub(crate) fn shared(&self, state: &StateName) -> Option<&StateName> {
        self.exits.get_key_value(state).map(|(name, _)| name)
    }

    /// The initial state's name, as shared.
    pub(crate) fn initial(&self) -> &StateName {
        let initial = &self.definition.initial;
        self.shared(initial).unwrap_or(initial)
    }

    pub(crate) fn state_names(&self) -> Vec<StateName> {
        self.definition.state_names().cloned().collect()
    }
}

impl Exits {
    /// The definition's own copy of the name, if a transition leads there.
    pub(crate) fn lead_to(&self, state: &StateName) -> Option<&StateName> {
        self.targets.get(state)
    }

    /// The events that lead out, in order of name.
    pub(crate) fn events(&self) -> impl Iterator<Item = &EventName> {
        self.events.keys()
    }

    pub(crate) fn by_event(&self, event: &EventName) -> Option<(&EventName, &StateName)> {
        self.events.get_key_value(event)
    }
}
