//! Outcomes of writes.

use std::collections::BTreeMap;

use lockstep_machine::{
    Created, Defined, Definition, DefinitionDeleted, Deleted, GlobalRevision, Limits, Migrated,
    OperationResult, Outcome, Reply, Setting, StateName, Timeout, Transitioned, duration_in_words,
};

use super::field::{Field, message};
use crate::{Malformed, v1};

/// The outcome is of a kind that this build does not know, or that does not belong to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "unexpected outcome {0}: it belongs to a different kind of request, or this build is too old to know it"
)]
pub struct UnexpectedOutcome(pub &'static str);

impl v1::Written {
    /// What holds for an answer that was not stored before, as of a revision of the cluster.
    pub fn at(revision: GlobalRevision) -> Self {
        Self {
            replayed: false,
            revision: revision.0,
        }
    }
}

/// The answer to each kind of write: its own outcome, or a rejection.
macro_rules! responses {
    ($($response:ident, $module:ident, $kind:ident as $wire:ident;)*) => {$(
        impl TryFrom<Reply> for v1::$response {
            type Error = UnexpectedOutcome;

            fn try_from(reply: Reply) -> Result<Self, UnexpectedOutcome> {
                use v1::$module::Outcome as Wire;
                let outcome = match reply.outcome {
                    Outcome::$kind(it) => Wire::$wire(it.into()),
                    Outcome::Rejected(it) => Wire::Rejected((&it).into()),
                    other => return Err(UnexpectedOutcome(other.kind())),
                };
                Ok(Self {
                    outcome: Some(outcome),
                    written: Some(v1::Written {
                        replayed: reply.replayed,
                        revision: reply.revision.0,
                    }),
                })
            }
        }
    )*};
}

responses! {
    DefineResponse, define_response, Defined as Defined;
    DeleteMachineResponse, delete_machine_response, DefinitionDeleted as Deleted;
    CreateInstanceResponse, create_instance_response, Created as Created;
    TransitionResponse, transition_response, Transitioned as Transitioned;
    DeleteInstanceResponse, delete_instance_response, Deleted as Deleted;
    MigrateInstanceResponse, migrate_instance_response, Migrated as Migrated;
    TransactResponse, transact_response, Committed as Committed;
    UpdateSettingsResponse, update_settings_response, SettingsUpdated as Updated;
}

impl From<&Limits> for v1::Settings {
    fn from(limits: &Limits) -> Self {
        let values = Setting::ALL.map(|it| (it.to_string(), limits.get(it)));
        Self {
            values: values.into(),
        }
    }
}

impl From<Box<Limits>> for v1::Settings {
    fn from(limits: Box<Limits>) -> Self {
        (&*limits).into()
    }
}

impl From<Defined> for v1::Defined {
    fn from(it: Defined) -> Self {
        Self {
            machine: it.machine.to_string(),
            version: it.version.0,
            created: it.created,
            warnings: it.warnings.iter().map(Into::into).collect(),
            // The outcome does not hold them.
            timeouts: BTreeMap::new(),
        }
    }
}

impl v1::StateTimeout {
    /// Every timeout of a definition, by its state.
    pub fn all(definition: &Definition) -> BTreeMap<String, Self> {
        let shown = |(state, timeout): (&StateName, &Timeout)| {
            let after = duration_in_words(timeout.after_ms);
            let to = timeout.to.to_string();
            (state.to_string(), Self { after, to })
        };
        definition.timeouts().map(shown).collect()
    }
}

message!(DefinitionDeleted as MachineDeleted {
    machine: machine,
    versions: versions,
});

message!(Created as Created {
    instance: id,
    version: version,
    state: state,
    at: at_ms,
});

message!(Transitioned as Transitioned {
    instance: id,
    version: version,
    from: from,
    to: to,
    event: event,
    revision: revision,
    at: at_ms,
});

message!(Deleted as Deleted {
    instance: id,
    state: state,
    revision: revision,
    at: at_ms,
});

message!(Migrated as Migrated {
    instance: id,
    from_version: from_version,
    version: version,
    from: from,
    to: to,
    revision: revision,
    at: at_ms,
});

impl From<Vec<OperationResult>> for v1::Committed {
    fn from(results: Vec<OperationResult>) -> Self {
        Self {
            results: results.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Committed> for Vec<OperationResult> {
    type Error = Malformed;
    fn try_from(it: v1::Committed) -> Result<Self, Malformed> {
        it.results.into_iter().map(TryInto::try_into).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{
        EventName, InstanceId, MachineName, Rejection, Revision, StateName, Timestamp, Version,
    };

    fn state(name: &str) -> StateName {
        StateName::new(name).unwrap()
    }

    fn id() -> InstanceId {
        InstanceId::new("order", "42").unwrap()
    }

    fn reply(outcome: Outcome) -> Reply {
        Reply {
            outcome,
            replayed: true,
            revision: GlobalRevision(8),
        }
    }

    fn transitioned() -> Transitioned {
        Transitioned {
            instance: id(),
            version: Version(2),
            from: state("open"),
            to: state("paid"),
            event: Some(EventName::new("pay").unwrap()),
            revision: Revision(4),
            at: Timestamp(99),
        }
    }

    fn created() -> Created {
        Created {
            instance: id(),
            version: Version(2),
            state: state("open"),
            at: Timestamp(99),
        }
    }

    fn deleted() -> Deleted {
        Deleted {
            instance: id(),
            state: state("paid"),
            revision: Revision(4),
            at: Timestamp(99),
        }
    }

    #[test]
    fn a_transition_that_was_made_has_all_its_fields() {
        let expected = v1::TransitionResponse {
            outcome: Some(v1::transition_response::Outcome::Transitioned(
                v1::Transitioned {
                    id: "order/42".to_owned(),
                    version: 2,
                    from: "open".to_owned(),
                    to: "paid".to_owned(),
                    event: Some("pay".to_owned()),
                    revision: 4,
                    at_ms: 99,
                },
            )),
            written: Some(v1::Written {
                replayed: true,
                revision: 8,
            }),
        };
        let found = reply(Outcome::Transitioned(transitioned())).try_into();
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn every_write_returns_its_own_outcome_or_a_rejection() {
        use v1::define_response::Outcome as DefineOutcome;
        let defined = Outcome::Defined(Defined {
            machine: MachineName::new("order").unwrap(),
            version: Version(3),
            created: true,
            warnings: vec![],
        });
        let found = v1::DefineResponse::try_from(reply(defined.clone())).unwrap();
        let expected = v1::Defined {
            machine: "order".to_owned(),
            version: 3,
            created: true,
            ..Default::default()
        };
        assert_eq!(found.outcome, Some(DefineOutcome::Defined(expected)));

        let refused = reply(Outcome::Rejected(Rejection::KeyReused));
        let found = v1::DefineResponse::try_from(refused.clone()).unwrap();
        let Some(DefineOutcome::Rejected(rejected)) = found.outcome else {
            panic!("{found:?}");
        };
        assert_eq!(rejected.code, "idempotency_key_reused");
        assert!(v1::DeleteMachineResponse::try_from(refused).is_ok());

        assert_eq!(
            v1::TransitionResponse::try_from(reply(defined.clone())),
            Err(UnexpectedOutcome("defined"))
        );
        assert_eq!(
            v1::DeleteMachineResponse::try_from(reply(defined)),
            Err(UnexpectedOutcome("defined"))
        );
    }

    #[test]
    fn timeouts_are_shown_in_words() {
        let definition = serde_json::from_str::<Definition>(
            r#"{"name": "order", "initial": "open", "states": {
                "open": {"timeout": {"after": "PT1H30M", "to": "expired"}},
                "held": {"timeout": {"after": "3600ms", "to": "open"}},
                "expired": {"final": true}}}"#,
        );
        let timeout = |after: &str, to: &str| v1::StateTimeout {
            after: after.to_owned(),
            to: to.to_owned(),
        };
        let expected = [
            ("open", timeout("1 hour 30 minutes", "expired")),
            ("held", timeout("3 seconds 600 milliseconds", "open")),
        ];
        let expected = expected.map(|(state, timeout)| (state.to_owned(), timeout));
        let found = v1::StateTimeout::all(&definition.unwrap());
        assert_eq!(found, BTreeMap::from(expected));
    }

    #[test]
    fn a_transaction_returns_every_result_in_order() {
        use v1::operation_result::Result as Wire;
        let results = vec![
            OperationResult::Created(created()),
            OperationResult::Checked,
            OperationResult::Transitioned(transitioned()),
            OperationResult::Deleted(deleted()),
        ];
        let found = v1::TransactResponse::try_from(reply(Outcome::Committed(results))).unwrap();
        let Some(v1::transact_response::Outcome::Committed(committed)) = found.outcome else {
            panic!("{found:?}");
        };
        let parsed = Vec::<OperationResult>::try_from(committed.clone()).unwrap();
        assert_eq!(parsed.len(), 4);
        assert_eq!(parsed[2], OperationResult::Transitioned(transitioned()));
        let results: Vec<_> = committed.results.into_iter().map(|it| it.result).collect();
        assert_eq!(
            results,
            [
                Some(Wire::Created(created().into())),
                Some(Wire::Checked(v1::Checked {})),
                Some(Wire::Transitioned(transitioned().into())),
                Some(Wire::Deleted(deleted().into())),
            ]
        );
    }

    #[test]
    fn the_ends_of_instances_and_versions_have_all_their_fields() {
        assert_eq!(
            v1::Deleted::from(deleted()),
            v1::Deleted {
                id: "order/42".to_owned(),
                state: "paid".to_owned(),
                revision: 4,
                at_ms: 99
            }
        );
        let migrated = Migrated {
            instance: id(),
            from_version: Version(1),
            version: Version(2),
            from: state("paid"),
            to: state("settled"),
            revision: Revision(5),
            at: Timestamp(99),
        };
        assert_eq!(
            v1::Migrated::from(migrated),
            v1::Migrated {
                id: "order/42".to_owned(),
                from_version: 1,
                version: 2,
                from: "paid".to_owned(),
                to: "settled".to_owned(),
                revision: 5,
                at_ms: 99
            }
        );
        let forgotten = DefinitionDeleted {
            machine: MachineName::new("order").unwrap(),
            versions: vec![Version(1), Version(2)],
        };
        let found =
            v1::DeleteMachineResponse::try_from(reply(Outcome::DefinitionDeleted(forgotten)));
        let expected = v1::delete_machine_response::Outcome::Deleted(v1::MachineDeleted {
            machine: "order".to_owned(),
            versions: vec![1, 2],
        });
        assert_eq!(found.unwrap().outcome, Some(expected));
    }
}
