//! Read-only messages (statuses, lists, rejections): accessors and display text.

use std::fmt;

use crate::v1;

/// The value of an enum in lower case, without the prefix that protobuf asks for: `following`.
macro_rules! named {
    ($($type:ident: $prefix:literal),*) => {$(
        impl fmt::Display for v1::$type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if *self == v1::$type::Unspecified {
                    // Or one of a newer release.
                    return f.write_str("unknown");
                }
                let name = self.as_str_name();
                f.write_str(&name.trim_start_matches($prefix).to_lowercase())
            }
        }
    )*};
}

named!(Role: "ROLE_", SinkPhase: "SINK_PHASE_");

impl fmt::Display for v1::Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for v1::Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

impl v1::StatusResponse {
    /// The leader that the node follows or is, where it knows that member.
    pub fn leader(&self) -> Option<&v1::Member> {
        let id = self.leader_id?;
        let mut known = self.members.iter().chain(&self.node);
        known.find(|member| member.id == id)
    }
}

impl v1::CheckSinkResponse {
    /// The step that failed; none if all succeeded.
    pub fn failed(&self) -> Option<&v1::CheckStep> {
        self.steps.iter().find(|step| step.outcome().is_err())
    }
}

impl v1::CheckStep {
    /// What was seen.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub fn outcome(&self) -> Result<&str, &str> {
        use v1::check_step::Result::{Failed, Seen};
        match &self.result {
            Some(Seen(seen)) => Ok(seen),
            Some(Failed(failed)) => Err(failed),
            None => Err("the node reported no result"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sink(phase: i32) -> v1::SinkStatus {
        v1::SinkStatus {
            name: "reports".to_owned(),
            kind: "postgres".to_owned(),
            phase,
            since_ms: 1_700_000_000_000,
            cursor: Some(v1::EventCursor {
                revision: 1204,
                position: 2,
            }),
            lag_ms: 250,
            ..Default::default()
        }
    }

    #[test]
    fn a_sinks_json_names_its_phase_and_has_its_times_in_rfc_3339() {
        let shown = json!(sink(v1::SinkPhase::Following.into()));
        let expected = json!({
            "name": "reports", "kind": "postgres", "address": "", "follows": [],
            "phase": "following", "reason": null, "since": "2023-11-14T22:13:20.000Z",
            "revision": 1204, "seeded_revision": null, "lag_events": 0, "lag_ms": 250,
            "events": 0, "errors": 0, "dead_letters": 0, "written_at": null,
        });
        assert_eq!(shown, expected);
        assert_eq!(json!(sink(99))["phase"], "unknown");
    }

    #[test]
    fn a_check_succeeds_when_all_its_steps_do() {
        use v1::check_step::Result::{Failed, Seen};
        let check = |result| v1::CheckSinkResponse {
            steps: vec![v1::CheckStep {
                step: "connect".to_owned(),
                took_us: 1500,
                result,
            }],
            node: "node2".to_owned(),
        };
        let good = check(Some(Seen("17.2".to_owned())));
        let step = json!({ "step": "connect", "took_ms": 1.5, "ok": true, "detail": "17.2" });
        let expected = json!({ "ok": true, "steps": [step], "node": "node2" });
        assert_eq!((json!(good), good.failed()), (expected, None));
        for bad in [check(Some(Failed("refused".to_owned()))), check(None)] {
            assert_eq!(json!(bad)["ok"], false);
            assert_eq!(bad.failed(), bad.steps.first());
        }
        assert_eq!(json!(v1::CheckSinkResponse::default())["ok"], false);
    }

    #[test]
    fn a_status_keeps_all_digits_of_an_id() {
        let member = v1::Member {
            id: (1 << 62) + 1,
            ..Default::default()
        };
        let status = v1::StatusResponse {
            role: v1::Role::Leader.into(),
            leader_id: Some(member.id),
            node: Some(member.clone()),
            ..Default::default()
        };
        assert_eq!(status.leader(), Some(&member));
        let shown = json!(status);
        let id = "4611686018427387905";
        assert_eq!(
            (&shown["leader_id"], &shown["node"]["id"]),
            (&json!(id), &json!(id))
        );
        assert_eq!(shown["role"], "leader");
    }

    #[test]
    fn a_rejection_has_the_fields_of_a_problem_document() {
        let rejected = v1::Rejected {
            code: "definition_in_use".to_owned(),
            message: "in use".to_owned(),
            used_version: Some(1),
            used_by: Some(3),
            ..Default::default()
        };
        let expected = json!({
            "code": "definition_in_use", "detail": "in use", "current_state": null,
            "current_revision": null, "allowed": [], "version": 1, "instances": 3,
        });
        assert_eq!(json!(rejected), expected);
    }
}
