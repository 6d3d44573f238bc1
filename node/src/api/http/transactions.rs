//! `/v1/transactions`: several operations that happen together or not at all.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use lockstep_machine::{
    Command, Create, Delete, EventName, Expectation, InstanceId, Operation, OperationResult,
    Outcome, Precondition, Revision, StateName, Transaction, Transition, Version, json,
};
use lockstep_proto::ErrorCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Edge;
use super::body::{Pairs, Written, outcome, unknown_outcome};
use super::described::{
    self, Full, Id, Malformed, Missing, Name, OnlyOnce, Refused, RevisionNumber, Unanswered,
    Unread, VersionNumber,
};
use super::input::{Parameters, idempotency_key};
use super::problem::Problem;
use super::transitions::trigger;

/// Operations that happen together or not at all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransactionBody {
    operations: Vec<OperationBody>,
}

/// One operation: an object with one field, which says what to do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OperationBody {
    /// Create an instance.
    #[serde(deserialize_with = "json::object")]
    Create(CreateOperation),
    /// Move an instance.
    #[serde(deserialize_with = "json::object")]
    Transition(TransitionOperation),
    /// Delete an instance.
    #[serde(deserialize_with = "json::object")]
    Delete(DeleteOperation),
    /// Change nothing, but refuse all unless this holds before.
    #[serde(deserialize_with = "json::object")]
    Check(CheckOperation),
}

/// Creates an instance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateOperation {
    /// `machine/name`.
    #[schema(value_type = Id)]
    id: String,
    #[schema(value_type = Option<VersionNumber>)]
    version: Option<Version>,
    #[schema(value_type = Option<described::Pairs>)]
    metadata: Option<Pairs>,
}

/// Moves an instance to a state or by an event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransitionOperation {
    /// `machine/name`.
    #[schema(value_type = Id)]
    id: String,
    #[schema(value_type = Option<Name>)]
    to: Option<StateName>,
    #[schema(value_type = Option<Name>)]
    event: Option<EventName>,
    #[schema(value_type = Option<Name>)]
    expect_state: Option<StateName>,
    #[schema(value_type = Option<RevisionNumber>)]
    expect_revision: Option<Revision>,
    #[schema(value_type = Option<described::Pairs>)]
    metadata: Option<Pairs>,
}

/// Deletes an instance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteOperation {
    /// `machine/name`.
    #[schema(value_type = Id)]
    id: String,
    #[schema(value_type = Option<Name>)]
    expect_state: Option<StateName>,
    #[schema(value_type = Option<RevisionNumber>)]
    expect_revision: Option<Revision>,
    #[schema(value_type = Option<described::Pairs>)]
    metadata: Option<Pairs>,
}

/// What must hold: exactly one of `exists`, `state` and `revision`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckOperation {
    /// `machine/name`.
    #[schema(value_type = Id)]
    id: String,
    exists: Option<bool>,
    #[schema(value_type = Option<Name>)]
    state: Option<StateName>,
    #[schema(value_type = Option<RevisionNumber>)]
    revision: Option<Revision>,
}

/// What every operation came to, in the same order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CommittedBody {
    results: Vec<OperationResult>,
    #[serde(flatten)]
    written: Written,
}

/// Does several things, all or none, in one revision. A refusal names the `operation` and its
/// `reason`.
#[utoipa::path(
    post, path = "/v1/transactions", operation_id = "transact", tag = "transactions",
    params(
        OnlyOnce,
    ),
    request_body = TransactionBody,
    responses(
        (status = 200, body = CommittedBody, description = "All of it happened"),
        Malformed, Unread, Missing, Refused, Full, Unanswered,
    ),
)]
pub(super) async fn commit(
    State(edge): State<Arc<Edge>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<CommittedBody>, Problem> {
    let began = Instant::now();
    Parameters::parse(&uri, &[])?;
    let key = idempotency_key(&headers)?;
    let body: TransactionBody = edge.json(&headers, body).await?;
    let command = Command::Transaction(body.into_transaction()?);
    let (outcome, written) = outcome(edge.execute(command, key, began).await?)?;
    let Outcome::Committed(results) = outcome else {
        return Err(unknown_outcome());
    };
    Ok(Json(CommittedBody { results, written }))
}

impl TransactionBody {
    fn into_transaction(self) -> Result<Transaction, Problem> {
        let operations = self.operations.into_iter().enumerate();
        let operation = |(position, it): (usize, OperationBody)| {
            it.into_operation()
                .map_err(|problem| problem.with("operation", position))
        };
        Ok(Transaction {
            operations: operations.map(operation).collect::<Result<_, _>>()?,
        })
    }
}

impl OperationBody {
    fn into_operation(self) -> Result<Operation, Problem> {
        let id = |id: String| id.parse::<InstanceId>();
        let metadata = |it: Option<Pairs>| it.unwrap_or_default().into_metadata();
        Ok(match self {
            OperationBody::Create(it) => Operation::Create(Create {
                instance: id(it.id)?,
                version: it.version,
                metadata: metadata(it.metadata)?,
            }),
            OperationBody::Transition(it) => Operation::Transition(Transition {
                instance: id(it.id)?,
                trigger: trigger(it.to, it.event)?,
                expect_state: it.expect_state,
                expect_revision: it.expect_revision,
                metadata: metadata(it.metadata)?,
            }),
            OperationBody::Delete(it) => Operation::Delete(Delete {
                instance: id(it.id)?,
                expect_state: it.expect_state,
                expect_revision: it.expect_revision,
                metadata: metadata(it.metadata)?,
            }),
            OperationBody::Check(it) => Operation::Check(Precondition {
                instance: id(it.id)?,
                expect: match (it.exists, it.state, it.revision) {
                    (Some(true), None, None) => Expectation::Exists,
                    (Some(false), None, None) => Expectation::Missing,
                    (None, Some(state), None) => Expectation::InState(state),
                    (None, None, Some(revision)) => Expectation::AtRevision(revision),
                    _ => {
                        return Err(Problem::new(
                            ErrorCode::InvalidBody,
                            "a check has exactly one of \"exists\", \"state\" and \"revision\"",
                        ));
                    }
                },
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::Rejection;
    use serde_json::json;

    fn read(operations: serde_json::Value) -> Result<Transaction, Problem> {
        serde_json::from_value::<TransactionBody>(json!({ "operations": operations }))
            .map_err(|error| Problem::new(ErrorCode::InvalidBody, error))?
            .into_transaction()
    }

    #[test]
    fn every_kind_of_operation_is_read() {
        let all = read(json!([
            {"create": {"id": "order/1", "metadata": {"by": "ann"}}},
            {"transition": {"id": "order/2", "event": "pay", "expect_revision": 3}},
            {"delete": {"id": "order/3", "expect_state": "done"}},
            {"check": {"id": "stock/7", "exists": false}},
            {"check": {"id": "stock/8", "state": "free"}},
        ]))
        .unwrap();
        let names = all.operations.iter().map(|it| it.instance().to_string());
        assert_eq!(
            names.collect::<Vec<_>>(),
            ["order/1", "order/2", "order/3", "stock/7", "stock/8"]
        );
    }

    #[test]
    fn a_fault_names_the_operation() {
        for (bad, code) in [
            (json!({"create": {"id": "order"}}), "invalid_name"),
            (json!({"transition": {"id": "order/1"}}), "invalid_body"),
            (json!({"check": {"id": "order/1"}}), "invalid_body"),
            (
                json!({"check": {"id": "order/1", "exists": true, "revision": 1}}),
                "invalid_body",
            ),
        ] {
            let good = json!({"check": {"id": "order/1", "exists": true}});
            let problem = read(json!([good, bad])).unwrap_err();
            assert_eq!(
                (problem.code, problem.member("operation")),
                (code, &json!(1))
            );
        }
        assert!(read(json!([{"creat": {"id": "order/1"}}])).is_err());
        assert!(read(json!([{"create": {"id": "order/1", "versoin": 1}}])).is_err());
        assert!(read(json!([{"create": ["order/1", null, null]}])).is_err());
    }

    #[test]
    fn a_refusal_names_the_operation_and_its_reason() {
        let reason = Box::new(Rejection::UnknownInstance {
            instance: "order/1".parse().unwrap(),
        });
        let problem = Problem::from(Rejection::OperationFailed {
            position: 2,
            reason,
        });
        assert_eq!(
            (problem.status.as_u16(), problem.code),
            (404, "operation_failed")
        );
        assert_eq!(problem.member("operation"), &json!(2));
        assert_eq!(problem.member("reason")["code"], "unknown_instance");
    }
}
