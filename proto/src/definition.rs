//! Definitions as they travel and rest: to and from the peer protocol.
//!
//! Whether one is valid is for the state machine to say; here its names are.

use lockstep_machine::{
    Definition, EventName, MachineName, Move, MoveFrom, StateDefinition, StateName, Timeout,
};

use crate::batch::parsed;
use crate::command::{entries, metadata};
use crate::{Malformed, raft};

impl From<&Definition> for raft::Definition {
    fn from(definition: &Definition) -> Self {
        Self {
            name: definition.name.to_string(),
            description: definition.description.clone(),
            labels: entries(&definition.labels),
            initial: definition.initial.to_string(),
            states: definition.states.iter().map(Into::into).collect(),
            moves: definition.transitions.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<raft::Definition> for Definition {
    type Error = Malformed;
    fn try_from(it: raft::Definition) -> Result<Self, Malformed> {
        let states = it.states.into_iter().map(TryInto::try_into);
        let moves = it.moves.into_iter().map(TryInto::try_into);
        Ok(Self {
            name: parsed("define.name", MachineName::new(it.name))?,
            description: it.description,
            labels: metadata("define.labels", it.labels)?,
            initial: parsed("define.initial", StateName::new(it.initial))?,
            states: states.collect::<Result<_, Malformed>>()?,
            transitions: moves.collect::<Result<_, Malformed>>()?,
        })
    }
}

impl From<&StateDefinition> for raft::definition::State {
    fn from(state: &StateDefinition) -> Self {
        let timeout = |it: &Timeout| raft::definition::Timeout {
            after_ms: it.after_ms,
            to: it.to.to_string(),
        };
        Self {
            name: state.name.to_string(),
            description: state.description.clone(),
            r#final: state.is_final,
            timeout: state.timeout.as_ref().map(timeout),
        }
    }
}

impl TryFrom<raft::definition::State> for StateDefinition {
    type Error = Malformed;
    fn try_from(it: raft::definition::State) -> Result<Self, Malformed> {
        let name = |name: String| parsed("define.states", StateName::new(name));
        let timeout = |it: raft::definition::Timeout| {
            let (after_ms, to) = (it.after_ms, name(it.to)?);
            Ok(Timeout { after_ms, to })
        };
        Ok(Self {
            name: name(it.name)?,
            description: it.description,
            is_final: it.r#final,
            timeout: it.timeout.map(timeout).transpose()?,
        })
    }
}

impl From<&Move> for raft::definition::Move {
    fn from(it: &Move) -> Self {
        let (from_any, from) = match &it.from {
            MoveFrom::Any => (true, vec![]),
            MoveFrom::States(states) => (false, states.iter().map(ToString::to_string).collect()),
        };
        Self {
            from_any,
            from,
            to: it.to.to_string(),
            event: it.event.as_ref().map(ToString::to_string),
            description: it.description.clone(),
        }
    }
}

impl TryFrom<raft::definition::Move> for Move {
    type Error = Malformed;
    fn try_from(it: raft::definition::Move) -> Result<Self, Malformed> {
        let name = |name: String| parsed("define.moves", StateName::new(name));
        let from = match (it.from_any, it.from) {
            (true, from) if from.is_empty() => MoveFrom::Any,
            (true, _) => {
                let reason = "a move is from any state or from those listed, not both";
                return Err(Malformed::new("define.moves", reason));
            }
            (false, from) => MoveFrom::States(
                from.into_iter()
                    .map(name)
                    .collect::<Result<_, Malformed>>()?,
            ),
        };
        let event = it
            .event
            .map(|event| parsed("define.moves", EventName::new(event)));
        Ok(Self {
            from,
            to: name(it.to)?,
            event: event.transpose()?,
            description: it.description,
        })
    }
}
