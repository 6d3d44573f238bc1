//! A consistent view of the state, and lookups in it.

use lockstep_machine::{
    Command, Definition, Instance, InstanceId, MachineName, Rejection, Reply, State, Version,
};

/// The state at one moment. A cheap clone: it shares its structure with the current state.
#[derive(Debug, Clone)]
pub struct View {
    pub state: State,
    /// The last log index applied to it.
    pub applied_index: u64,
}

impl View {
    /// A version of a machine; the newest by default.
    pub fn machine(
        &self,
        machine: &MachineName,
        version: Option<Version>,
    ) -> Result<(Version, &Definition), Box<Rejection>> {
        let unknown = || {
            let machine = machine.clone();
            Box::new(Rejection::UnknownMachine { machine })
        };
        let (newest, definition) = self.state.newest(machine).ok_or_else(unknown)?;
        let Some(version) = version.filter(|version| *version != newest) else {
            return Ok((newest, definition));
        };
        let unknown = || {
            let machine = machine.clone();
            Box::new(Rejection::UnknownVersion {
                machine,
                version,
                newest,
            })
        };
        let definition = self
            .state
            .definition(machine, version)
            .ok_or_else(unknown)?;
        Ok((version, definition))
    }

    /// An instance.
    pub fn instance(&self, id: &InstanceId) -> Result<&Instance, Box<Rejection>> {
        self.state.instance(id).ok_or_else(|| {
            let instance = id.clone();
            Box::new(Rejection::UnknownInstance { instance })
        })
    }

    /// The outcome a command would have now. Changes nothing.
    pub fn dry_run(&self, command: &Command) -> Reply {
        Reply {
            outcome: self.state.dry_run(command),
            replayed: false,
            revision: self.state.revision(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{DeleteDefinition, Outcome};

    fn view() -> View {
        View {
            state: State::default(),
            applied_index: 9,
        }
    }

    fn machine(name: &str) -> MachineName {
        MachineName::new(name).unwrap()
    }

    #[test]
    fn a_machine_is_found_by_its_name_and_version() {
        let view = view();
        let found = |name, version: Option<u32>| {
            let found = view.machine(&machine(name), version.map(Version));
            found
                .map(|(version, _)| version.0)
                .map_err(|unknown| unknown.code())
        };
        assert_eq!(found("triad", None), Ok(1));
        assert_eq!(found("triad", Some(1)), Ok(1));
        assert_eq!(found("triad", Some(2)), Err("unknown_version"));
        assert_eq!(found("order", Some(2)), Err("unknown_machine"));
    }

    #[test]
    fn a_missing_instance_is_a_refusal() {
        let id = InstanceId::new("triad", "none").unwrap();
        assert!(view().instance(&id).is_err());
        let id = InstanceId::new("triad", "default").unwrap();
        assert_eq!(view().instance(&id).unwrap().state.as_str(), "first");
    }

    #[test]
    fn a_dry_run_reports_the_outcome_at_the_views_revision() {
        let delete = Command::DeleteDefinition(DeleteDefinition {
            machine: machine("order"),
            version: None,
        });
        let reply = view().dry_run(&delete);
        assert!(matches!(reply.outcome, Outcome::Rejected(_)), "{reply:?}");
        assert_eq!((reply.replayed, reply.revision.0), (false, 0));
    }
}
