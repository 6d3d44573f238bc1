//! Validates a definition: reports all errors at once, and warnings about what is allowed but suspicious.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::{DefinitionFault, DefinitionInvalid, FaultCode, Faults};
use super::{Definition, Move, MoveFrom, Timeout};
use crate::duration::show_duration;
use crate::ids::StateName;
use crate::settings::Limits;

/// The longest description accepted, in bytes.
pub(crate) const DESCRIPTION_LEN_MAX: usize = 1024;
/// The shortest timeout, in milliseconds: below it, firing would be noise.
pub const TIMEOUT_MS_MIN: u64 = 10;
/// The longest timeout, in milliseconds: a hundred years.
pub const TIMEOUT_MS_MAX: u64 = 100 * 365 * 24 * 60 * 60 * 1000;

impl Definition {
    /// Checks the whole definition.
    ///
    /// # Errors
    ///
    /// Every fault at once, in the order of the document: too many states or transitions, an
    /// initial state that is not listed, a state listed twice, a transition or timeout between
    /// states that are not listed, one that leaves a final state, the same transition twice (`*`
    /// and lists written out), an event that would lead from one state to two, a text that is too
    /// long or holds control characters, and a timeout that is too short or too long.
    pub fn validate(&self, limits: &Limits) -> Result<(), DefinitionInvalid> {
        let mut faults = Faults::default();
        let positions: Vec<_> = (0..self.transitions.len()).collect();
        self.check(limits, &positions, &mut faults);
        faults.into_result()
    }

    /// As [`Definition::validate`], for a document from which not every transition could be read:
    /// `positions` holds each one's position there.
    pub fn check(&self, limits: &Limits, positions: &[usize], faults: &mut Faults) {
        check_text("description", &self.description, faults);
        let states = self.check_states(limits, faults);
        if !states.contains_key(&self.initial) && !states.is_empty() {
            faults.add("initial", FaultCode::UnknownState, unknown(&self.initial));
        }
        // Above the limit, expanding `*` could take long, so only the count is reported.
        let count = self.step_count();
        if count > limits.transitions_max {
            let message = too_many(count, limits.transitions_max);
            faults.add("transitions", FaultCode::TooManyTransitions, message);
            return;
        }
        self.check_transitions(&states, positions, faults);
    }

    /// Whether each state is final, by name.
    fn check_states(&self, limits: &Limits, faults: &mut Faults) -> BTreeMap<&StateName, bool> {
        let count = self.states.len() as u64;
        if count == 0 {
            let message = "a machine has at least one state";
            faults.add("states", FaultCode::NoStates, message);
        }
        if count > limits.states_max {
            let message = too_many(count, limits.states_max);
            faults.add("states", FaultCode::TooManyStates, message);
        }
        let mut states = BTreeMap::new();
        for state in &self.states {
            let path = format!("states.{}", state.name);
            if states.insert(&state.name, state.is_final).is_some() {
                let message = format!("state {:?} is listed twice", state.name);
                faults.add(&path, FaultCode::DuplicateState, message);
            }
            check_text(format!("{path}.description"), &state.description, faults);
        }
        for state in &self.states {
            let Some(timeout) = &state.timeout else {
                continue;
            };
            let path = format!("states.{}.timeout", state.name);
            if state.is_final {
                let message = "a final state cannot have a timeout";
                faults.add(&path, FaultCode::FinalHasTimeout, message);
            }
            if !(TIMEOUT_MS_MIN..=TIMEOUT_MS_MAX).contains(&timeout.after_ms) {
                let message = format!("it is {}; {TIMEOUT_RANGE}", timeout.after());
                faults.add(format!("{path}.after"), FaultCode::InvalidDuration, message);
            }
            if !states.contains_key(&timeout.to) {
                let message = unknown(&timeout.to);
                faults.add(format!("{path}.to"), FaultCode::UnknownState, message);
            }
        }
        states
    }

    fn check_transitions(
        &self,
        states: &BTreeMap<&StateName, bool>,
        positions: &[usize],
        faults: &mut Faults,
    ) {
        let mut seen = BTreeSet::new();
        let mut events = BTreeMap::new();
        let named = self.named_sources();
        for (&i, it) in positions.iter().zip(&self.transitions) {
            let path = format!("transitions[{i}]");
            check_text(format!("{path}.description"), &it.description, faults);
            check_ends(i, it, states, faults);
            for from in self.sources(it, &named) {
                let (to, event) = (&it.to, &it.event);
                if !seen.insert((from, to, event)) {
                    let message = format!("the transition from {from:?} to {to:?} is listed twice");
                    faults.add(&path, FaultCode::DuplicateTransition, message);
                    continue;
                }
                let Some(event) = event else { continue };
                if let Some(first) = events.insert((from, event), to) {
                    let message = format!(
                        "event {event:?} leads from {from:?} to both {first:?} and {to:?}; an event may lead to only one state"
                    );
                    let path = format!("{path}.event");
                    faults.add(path, FaultCode::ConflictingEvent, message);
                }
            }
        }
    }

    /// How many transitions there are, lists and `*` written out.
    pub(crate) fn step_count(&self) -> u64 {
        let open = self.states.iter().filter(|state| !state.is_final).count();
        let count = |it: &Move| match &it.from {
            MoveFrom::Any => open as u64,
            MoveFrom::States(states) => states.len() as u64,
        };
        self.transitions.iter().map(count).sum()
    }

    /// What is odd about a valid definition, but allowed: unreachable states, non-final states without
    /// outgoing transitions, and timeouts that form a short cycle.
    pub fn warnings(&self) -> Vec<DefinitionFault> {
        let mut ways: BTreeMap<&StateName, Vec<&StateName>> = BTreeMap::new();
        for (from, it) in self.steps() {
            ways.entry(from).or_default().push(&it.to);
        }
        for (state, timeout) in self.timeouts() {
            ways.entry(state).or_default().push(&timeout.to);
        }
        let timeouts: BTreeMap<_, _> = self.timeouts().collect();
        let mut reached = BTreeSet::from([&self.initial]);
        let mut next = vec![&self.initial];
        while let Some(state) = next.pop() {
            let ways = ways.get(state).into_iter().flatten();
            next.extend(ways.filter(|to| reached.insert(**to)));
        }
        let mut warnings = Faults::default();
        for state in &self.states {
            let path = format!("states.{}", state.name);
            if !reached.contains(&state.name) {
                let message = format!("this state cannot be reached from {:?}", self.initial);
                warnings.add(&path, FaultCode::Unreachable, message);
            }
            if let Some(ms) = short_cycle_ms(&state.name, &timeouts) {
                let message = format!(
                    "timeouts alone lead back to this state every {}: each instance makes that many transitions for ever",
                    show_duration(ms)
                );
                warnings.add(format!("{path}.timeout"), FaultCode::ShortCycle, message);
            }
            if !state.is_final && !ways.contains_key(&state.name) {
                let message =
                    "no transition leads out of this state; if that is intended, mark it as final";
                warnings.add(&path, FaultCode::NoWayOut, message);
            }
        }
        warnings.into_list()
    }
}

/// How long timeouts alone take to lead from a state back to it, if that is a short time.
fn short_cycle_ms(start: &StateName, timeouts: &BTreeMap<&StateName, &Timeout>) -> Option<u64> {
    let (mut state, mut ms) = (start, 0);
    // A timeout has at least 10 ms: this takes at most 10 steps.
    loop {
        let timeout = timeouts.get(state)?;
        ms += timeout.after_ms.max(TIMEOUT_MS_MIN);
        state = &timeout.to;
        match ms < TIMEOUT_CYCLE_MS_MIN {
            true if state == start => return Some(ms),
            true => {}
            false => return None,
        }
    }
}

/// A cycle of timeouts shorter than this, in milliseconds, causes a warning.
const TIMEOUT_CYCLE_MS_MIN: u64 = 100;

/// The range of a timeout, for error messages.
pub const TIMEOUT_RANGE: &str = "it must be from 10 milliseconds to 100 years";

fn unknown(state: &StateName) -> String {
    format!("{state:?} is not one of the machine's states")
}

fn too_many(count: u64, max: u64) -> String {
    format!("{count} exceed the maximum of {max}")
}

fn check_ends(i: usize, it: &Move, states: &BTreeMap<&StateName, bool>, faults: &mut Faults) {
    if let MoveFrom::States(from) = &it.from {
        if from.is_empty() {
            let message = "the list is empty: name at least one state";
            let path = format!("transitions[{i}].from");
            faults.add(path, FaultCode::EmptyFrom, message);
        }
        for (j, state) in from.iter().enumerate() {
            let path = || match from.len() {
                1 => format!("transitions[{i}].from"),
                _ => format!("transitions[{i}].from[{j}]"),
            };
            match states.get(state) {
                None => faults.add(path(), FaultCode::UnknownState, unknown(state)),
                Some(true) => {
                    let message = format!("{state:?} is final: it cannot have transitions");
                    faults.add(path(), FaultCode::FinalHasExit, message);
                }
                Some(false) => {}
            }
        }
    }
    if !states.contains_key(&it.to) {
        let path = format!("transitions[{i}].to");
        faults.add(path, FaultCode::UnknownState, unknown(&it.to));
    }
}

/// Adds a fault if a description is too long or holds control characters.
pub fn check_text(path: impl Into<String>, text: &str, faults: &mut Faults) {
    if text.len() > DESCRIPTION_LEN_MAX {
        let message = format!(
            "it has {} bytes; at most {DESCRIPTION_LEN_MAX} are allowed",
            text.len()
        );
        faults.add(path, FaultCode::InvalidText, message);
    } else if text
        .chars()
        .any(|c| c.is_control() && c != '\n' && c != '\t')
    {
        faults.add(
            path,
            FaultCode::InvalidText,
            "it contains a control character",
        );
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
