//! Rejections, and errors in definitions.

use lockstep_machine::{DefinitionFault, DefinitionInvalid, DocumentError, Rejection, Setting};

use crate::v1;

impl From<&Rejection> for v1::Rejected {
    fn from(rejection: &Rejection) -> Self {
        fn names<N: ToString>(names: &[N]) -> Vec<String> {
            names.iter().map(N::to_string).collect()
        }
        let current = rejection.current();
        let mut rejected = Self {
            code: rejection.code().to_owned(),
            message: rejection.to_string(),
            current_state: current.map(|(state, _)| state.to_string()),
            current_revision: current.map(|(_, revision)| revision.0),
            allowed: names(rejection.allowed()),
            events: names(rejection.events().unwrap_or_default()),
            ..Default::default()
        };
        match rejection {
            Rejection::UnknownState { known, .. } | Rejection::UnmappedState { known, .. } => {
                rejected.known = names(known);
            }
            Rejection::UnknownVersion { newest, .. } => rejected.newest_version = Some(newest.0),
            Rejection::InvalidDefinition(DefinitionInvalid(faults)) => {
                rejected.faults = faults.iter().map(Into::into).collect();
            }
            Rejection::DefinitionInUse {
                version, instances, ..
            } => {
                rejected.used_version = Some(version.0);
                rejected.used_by = Some(*instances);
            }
            Rejection::QuotaExceeded { requested, max, .. } => {
                rejected.requested = Some(*requested);
                rejected.max = Some(*max);
            }
            Rejection::UnknownSetting { .. } => {
                rejected.known = Setting::ALL.iter().map(ToString::to_string).collect();
            }
            Rejection::InvalidSetting { setting, value } => {
                let range = &setting.info().range;
                rejected.requested = Some(*value);
                rejected.min = Some(*range.start());
                rejected.max = Some(*range.end());
            }
            Rejection::InstanceTwice { first, second, .. } => {
                rejected.operations = vec![*first, *second];
            }
            Rejection::OperationFailed { position, reason } => {
                rejected.operation = Some(*position);
                rejected.reason = Some(Box::new((&**reason).into()));
            }
            Rejection::UnknownMachine { .. }
            | Rejection::UnknownInstance { .. }
            | Rejection::UnknownEvent { .. }
            | Rejection::IllegalTransition { .. }
            | Rejection::StateMismatch { .. }
            | Rejection::RevisionMismatch { .. }
            | Rejection::KeyReused
            | Rejection::RequestExpired
            | Rejection::BuiltIn { .. }
            | Rejection::InstanceExists { .. }
            | Rejection::AlreadyAtVersion { .. }
            | Rejection::EmptyTransaction
            | Rejection::SinkFenced { .. }
            | Rejection::UnknownDeadLetter { .. }
            | Rejection::MalformedRequest => {}
        }
        rejected
    }
}

impl From<&DefinitionFault> for v1::Fault {
    fn from(fault: &DefinitionFault) -> Self {
        Self {
            path: fault.path.clone(),
            code: fault.code.name().to_owned(),
            message: fault.message.clone(),
        }
    }
}

/// A document that was refused before the state machine saw it, as a rejection.
impl From<&DocumentError> for v1::Rejected {
    fn from(error: &DocumentError) -> Self {
        let mut rejected = Self {
            code: error.code().to_owned(),
            message: error.to_string(),
            ..Default::default()
        };
        match error {
            DocumentError::TooLarge { bytes, max } => {
                rejected.requested = Some(*bytes);
                rejected.max = Some(*max);
            }
            DocumentError::Invalid(DefinitionInvalid(faults)) => {
                rejected.faults = faults.iter().map(Into::into).collect();
            }
            DocumentError::Syntax { .. } => {}
        }
        rejected
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::{
        EventName, InstanceId, Limits, MachineName, Quota, Revision, StateName, Version,
    };

    fn state(name: &str) -> StateName {
        StateName::new(name).unwrap()
    }

    fn id() -> InstanceId {
        InstanceId::new("triad", "default").unwrap()
    }

    fn machine() -> MachineName {
        MachineName::new("triad").unwrap()
    }

    #[test]
    fn a_rejection_has_its_code_its_text_and_the_current_state() {
        let illegal = Rejection::IllegalTransition {
            instance: id(),
            from: state("second"),
            to: state("first"),
            allowed: vec![state("third")],
            revision: Revision(1),
            events: Some(Box::new([EventName::new("pay").unwrap()])),
        };
        let expected = v1::Rejected {
            code: "illegal_transition".to_owned(),
            message:
                r#"triad/default cannot go from "second" to "first"; allowed from "second": third; allowed events: pay"#
                    .to_owned(),
            current_state: Some("second".to_owned()),
            current_revision: Some(1),
            allowed: vec!["third".to_owned()],
            events: vec!["pay".to_owned()],
            ..Default::default()
        };
        assert_eq!(v1::Rejected::from(&illegal), expected);

        let unknown = Rejection::UnknownMachine { machine: machine() };
        let expected = v1::Rejected {
            code: "unknown_machine".to_owned(),
            message: r#"there is no machine "triad""#.to_owned(),
            ..Default::default()
        };
        assert_eq!(v1::Rejected::from(&unknown), expected);
    }

    #[test]
    fn a_rejection_lists_the_alternatives() {
        let found = |rejection: Rejection| v1::Rejected::from(&rejection);
        let unknown = found(Rejection::UnknownState {
            machine: machine(),
            state: state("x"),
            known: vec![state("first"), state("second")],
            current: state("first"),
            revision: Revision(0),
        });
        assert_eq!(unknown.known, ["first", "second"]);
        let unmapped = found(Rejection::UnmappedState {
            instance: id(),
            version: Version(2),
            state: state("paid"),
            known: vec![state("settled")],
            current: state("paid"),
            revision: Revision(0),
        });
        assert_eq!(unmapped.known, ["settled"]);
        let version = found(Rejection::UnknownVersion {
            machine: machine(),
            version: Version(9),
            newest: Version(1),
        });
        assert_eq!(version.newest_version, Some(1));
        let full = found(Rejection::QuotaExceeded {
            quota: Quota::Instances,
            requested: 11,
            max: 10,
        });
        assert_eq!(
            (full.code.as_str(), full.requested, full.max),
            ("too_many_instances", Some(11), Some(10))
        );
        let used = found(Rejection::DefinitionInUse {
            machine: machine(),
            version: Version(1),
            instances: 3,
        });
        assert_eq!((used.used_version, used.used_by), (Some(1), Some(3)));
        let twice = found(Rejection::InstanceTwice {
            instance: id(),
            first: 0,
            second: 4,
        });
        assert_eq!(twice.operations, [0, 4]);
    }

    #[test]
    fn a_failed_operation_is_named_with_its_reason() {
        let reason = Rejection::UnknownInstance { instance: id() };
        let failed = v1::Rejected::from(&Rejection::OperationFailed {
            position: 2,
            reason: Box::new(reason.clone()),
        });
        assert_eq!(
            (failed.code.as_str(), failed.operation),
            ("operation_failed", Some(2))
        );
        assert_eq!(*failed.reason.unwrap(), v1::Rejected::from(&reason));
    }

    #[test]
    fn the_faults_of_a_document_and_of_a_definition_have_one_form() {
        let text = r#"{"name": "m", "initial": "x", "states": {"a": {}}, "transitions": []}"#;
        let error = lockstep_document::parse_json(text, &Limits::default()).unwrap_err();
        let found = v1::Rejected::from(&error);
        assert_eq!(found.code, "invalid_definition");
        let [fault] = &found.faults[..] else {
            panic!("{found:?}");
        };
        assert_eq!(
            (fault.path.as_str(), fault.code.as_str()),
            ("initial", "unknown_state")
        );
        let DocumentError::Invalid(invalid) = error else {
            panic!("{error}");
        };
        assert_eq!(
            v1::Rejected::from(&Rejection::InvalidDefinition(invalid)),
            found
        );

        let limits = Limits {
            document_bytes_max: 10,
            ..Limits::default()
        };
        let large = v1::Rejected::from(&lockstep_document::parse_json(text, &limits).unwrap_err());
        assert_eq!(
            (large.code.as_str(), large.requested, large.max),
            ("definition_too_large", Some(text.len() as u64), Some(10))
        );
    }
}
