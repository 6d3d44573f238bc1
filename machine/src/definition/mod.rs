//! Definitions: the states of a machine and the transitions between them. A definition is data, not code.
//!
//! A [`Definition`] is what an author wrote; [`Definition::validate`] finds every fault of it at once.
//! Reading and writing it as a document is the business of the crate `lockstep-document`. What the state keeps
//! is a [`Compiled`] one, which is valid by construction and answers "where may this go" without a search
//! through the list.

mod compiled;
mod fault;
mod validate;

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

pub(crate) use compiled::{Compiled, Exits, Size};
pub use fault::{DefinitionFault, DefinitionInvalid, DocumentError, FaultCode, Faults};
pub use validate::{TIMEOUT_MS_MAX, TIMEOUT_MS_MIN, TIMEOUT_RANGE, check_text};

use crate::duration::show_duration;
use crate::ids::{EventName, MachineName, StateName};
use crate::json::{self, Entries};
use crate::metadata::Metadata;

/// A machine as its author wrote it. Immutable once stored; a change makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The machine's name.
    #[n(0)]
    pub name: MachineName,
    /// What it is for, in the author's words; may be empty.
    #[n(1)]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The author's labels.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub labels: Metadata,
    /// The state a new instance starts in.
    #[n(3)]
    pub initial: StateName,
    /// Every state, in the author's order; in JSON an object of states by name.
    #[n(4)]
    #[serde(with = "by_name")]
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, StateDefinition>))]
    pub states: Vec<StateDefinition>,
    /// Every transition, in the author's order.
    #[n(5)]
    #[serde(default)]
    pub transitions: Vec<Move>,
}

/// One state of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StateDefinition {
    /// Its name; in JSON the key.
    #[n(0)]
    #[serde(skip, default = "unnamed")]
    pub name: StateName,
    /// What it means, in the author's words; may be empty.
    #[n(1)]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Whether it is final: no transition leaves it, not even `*` or a timeout.
    #[n(2)]
    #[serde(rename = "final", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
    /// How long an instance may stay in it, and where it goes then.
    #[n(3)]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub timeout: Option<Timeout>,
}

/// Where an instance goes when it stays in a state for too long.
///
/// A timeout needs no transition from the state to `to`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Timeout {
    /// After how many milliseconds of cluster time; in JSON a duration: `15m`, `1h 30m`.
    #[n(0)]
    #[serde(rename = "after", with = "json::duration")]
    #[cfg_attr(feature = "openapi", schema(value_type = json::duration::After))]
    pub after_ms: u64,
    /// The state it goes to.
    #[n(1)]
    pub to: StateName,
}

/// One transition of a definition, or several that differ in where they start.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The states it leaves.
    #[n(0)]
    pub from: MoveFrom,
    /// The state it leads to.
    #[n(1)]
    pub to: StateName,
    /// The event that names it, if any.
    #[n(2)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<EventName>,
    /// What it means, in the author's words; may be empty.
    #[n(3)]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// Where a transition starts; in JSON `"*"`, a state or a list of states.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(flat)]
pub enum MoveFrom {
    /// In every state that is not final, the one it leads to included: `*`. A transition that names a state
    /// and the same event wins over it in that state.
    #[n(0)]
    Any,
    /// In each of these.
    #[n(1)]
    States(#[n(0)] Vec<StateName>),
}

impl Serialize for MoveFrom {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            MoveFrom::Any => s.serialize_str("*"),
            MoveFrom::States(states) => match states.as_slice() {
                [state] => state.serialize(s),
                states => states.serialize(s),
            },
        }
    }
}

impl<'de> Deserialize<'de> for MoveFrom {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum From {
            One(String),
            Several(Vec<StateName>),
        }
        Ok(match From::deserialize(d)? {
            From::One(any) if any == "*" => MoveFrom::Any,
            From::One(state) => MoveFrom::States(vec![state.parse().map_err(de::Error::custom)?]),
            From::Several(states) => MoveFrom::States(states),
        })
    }
}

crate::schema::schema!(MoveFrom, move_from());

/// The states of a definition as an object.
mod by_name {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        states: &[StateDefinition],
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.collect_map(states.iter().map(|state| (&state.name, state)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Vec<StateDefinition>, D::Error> {
        let states = Entries::<StateName, StateDefinition>::deserialize(d)?;
        let named = |(name, state)| StateDefinition { name, ..state };
        Ok(states.0.into_iter().map(named).collect())
    }
}

/// Stands for the name of a state until its key is known.
fn unnamed() -> StateName {
    StateName::new("unnamed").expect("the literal is a valid state name")
}

impl Timeout {
    /// After how long, as people write it: `15m`, `1h 30m`.
    pub fn after(&self) -> String {
        show_duration(self.after_ms)
    }
}

impl Definition {
    /// The names of all states, in the author's order.
    pub fn state_names(&self) -> impl Iterator<Item = &StateName> {
        self.states.iter().map(|state| &state.name)
    }

    /// Each timeout and its state, in the author's order.
    pub fn timeouts(&self) -> impl Iterator<Item = (&StateName, &Timeout)> {
        let states = self.states.iter();
        states.filter_map(|state| Some((&state.name, state.timeout.as_ref()?)))
    }

    /// All transitions from one state to one state, in order, with lists and `*` expanded.
    pub fn steps(&self) -> impl Iterator<Item = (&StateName, &Move)> {
        let named = self.named_sources();
        let sources = move |it| {
            self.sources(it, &named)
                .into_iter()
                .map(move |from| (from, it))
        };
        self.transitions.iter().flat_map(sources)
    }

    /// The states that a transition with an event names, by that event.
    pub(crate) fn named_sources(&self) -> BTreeSet<(&EventName, &StateName)> {
        let mut named = BTreeSet::new();
        for it in &self.transitions {
            if let (MoveFrom::States(states), Some(event)) = (&it.from, &it.event) {
                named.extend(states.iter().map(|state| (event, state)));
            }
        }
        named
    }

    /// The states a transition starts in. `*` stands for every state that is not final and that no other
    /// transition with the same event names: the specific transition wins.
    pub(crate) fn sources<'a>(
        &'a self,
        it: &'a Move,
        named: &BTreeSet<(&EventName, &StateName)>,
    ) -> Vec<&'a StateName> {
        let is_named = |state| {
            it.event
                .as_ref()
                .is_some_and(|event| named.contains(&(event, state)))
        };
        match &it.from {
            MoveFrom::States(states) => states.iter().collect(),
            MoveFrom::Any => {
                let open = self.states.iter().filter(|state| !state.is_final);
                open.map(|state| &state.name)
                    .filter(|state| !is_named(state))
                    .collect()
            }
        }
    }

    /// Whether both define the same machine; the order of states does not matter.
    pub fn is_equal(&self, other: &Self) -> bool {
        let sorted = |it: &Self| {
            let mut it = it.clone();
            it.states.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            it
        };
        sorted(self) == sorted(other)
    }

    /// Its size as stored, in bytes: what [`Limits::document_bytes_max`](crate::Limits) bounds.
    pub fn stored_bytes(&self) -> u64 {
        crate::codec::encoded_len(self)
    }
}

const TRIAD: &str = r#"{
    "name": "triad",
    "description": "The machine that every cluster has from the start",
    "initial": "first",
    "states": {"first": {}, "second": {}, "third": {}},
    "transitions": [
        {"from": "first", "to": "second"},
        {"from": "first", "to": "third"},
        {"from": "second", "to": "third"},
        {"from": "third", "to": "first"}
    ]
}"#;

/// The machine that every cluster has from the start.
pub fn triad() -> Definition {
    serde_json::from_str(TRIAD).expect("the literal is a definition")
}
