//! Responses about machines.

use lockstep_machine::{Definition, MachineName, Totals, Version};

use crate::v1;

impl v1::MachineSummary {
    /// A version of a machine, with how many instances the machine has.
    pub fn of(
        machine: &MachineName,
        version: Version,
        definition: &Definition,
        totals: &Totals,
    ) -> Self {
        let states = totals.states.iter();
        Self {
            machine: machine.to_string(),
            version: version.0,
            description: definition.description.clone(),
            instances: totals.instances,
            states: states.map(|(state, n)| (state.to_string(), *n)).collect(),
        }
    }
}

impl v1::VersionSummary {
    /// Every version that there is, oldest first.
    pub fn all(totals: &Totals) -> Vec<Self> {
        let summary = |(version, instances): (&Version, &u64)| Self {
            version: version.0,
            instances: *instances,
        };
        totals.versions.iter().map(summary).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::State;

    #[test]
    fn a_machine_is_shown_with_its_counts() {
        let state = State::default();
        let (machine, version, definition) = state.machines().next().unwrap();
        let totals = state.totals(machine).unwrap();
        let expected = v1::MachineSummary {
            machine: "triad".to_owned(),
            version: 1,
            description: definition.description.clone(),
            instances: 1,
            states: [("first".to_owned(), 1)].into(),
        };
        assert_eq!(
            v1::MachineSummary::of(machine, version, definition, &totals),
            expected
        );
        let versions = v1::VersionSummary::all(&totals);
        assert_eq!(
            versions,
            [v1::VersionSummary {
                version: 1,
                instances: 1
            }]
        );
    }
}
