//! `/v1/transactions`: several operations that happen together or not at all.

use axum::Json;
use lockstep_machine::{Command, OperationResult, Outcome, Transaction};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::{Written, outcome, unknown_outcome};
use super::described::{Full, Malformed, Missing, Refused, Unanswered, Unread};
use super::input::{Call, Key};
use super::json::JsonBody;
use super::problem::Problem;
use super::query::Query;

/// The results of the operations, in the same order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CommittedBody {
    results: Vec<OperationResult>,
    #[serde(flatten)]
    written: Written,
}

/// Executes several operations atomically, in one revision. A rejection names the `operation` that failed and
/// its `reason`.
#[utoipa::path(
    post, path = "/v1/transactions", operation_id = "transact", tag = "transactions",
    params(Key),
    request_body = Transaction,
    responses(
        (status = 200, body = CommittedBody, description = "All operations were executed"),
        Malformed, Unread, Missing, Refused, Full, Unanswered,
    ),
)]
pub(super) async fn commit(
    call: Call,
    Query(()): Query<()>,
    Key(key): Key,
    JsonBody(transaction): JsonBody<Transaction>,
) -> Result<Json<CommittedBody>, Problem> {
    let command = Command::Transaction(transaction);
    let (outcome, written) = outcome(call.execute(command, key).await?)?;
    let Outcome::Committed(results) = outcome else {
        return Err(unknown_outcome());
    };
    Ok(Json(CommittedBody { results, written }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_machine::Rejection;
    use serde_json::json;

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
