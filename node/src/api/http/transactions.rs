//! `/v1/transactions`: several operations that happen together or not at all.

use axum::Json;
use lockstep_machine::{Command, OperationResult, Transaction};

use super::body::answer;
use super::input::Key;
use super::json::JsonBody;
use super::query::Query;
use crate::api::call::Call;
use crate::api::problem::Problem;

answer! {
    /// The results of the operations, in the same order.
    CommittedBody = Committed { results: Vec<OperationResult> }
}

pub(super) async fn commit(
    call: Call,
    Query(()): Query<()>,
    Key(key): Key,
    JsonBody(transaction): JsonBody<Transaction>,
) -> Result<Json<CommittedBody>, Problem> {
    let command = Command::Transaction(transaction);
    call.write(command, key).await.map(Json)
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
            (problem.status.as_u16(), problem.code.as_str()),
            (404, "operation_failed")
        );
        assert_eq!(problem.member("operation"), &json!(2));
        assert_eq!(problem.member("reason")["code"], "unknown_instance");
    }
}
