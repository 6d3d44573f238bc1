//! `lockstep txn`.

use clap::Args;
use lockstep_client::{Error, Operation, OperationResult, Transaction};
use lockstep_machine::Transaction as Operations;
use serde_json::json;

use super::args::Key;
use super::input::{self, Source};
use super::{Context, Failure, output, shape};

const EXAMPLES: &str = r#"The document has one field, "operations": a list of objects, each with exactly one field that names
the operation. POST /v1/transactions takes the same document:

  operations:
    - check: {id: stock/7, state: free}        # or exists: true|false, or revision: N
    - create: {id: shipment/7, metadata: {order: "42"}}       # and version
    - transition: {id: order/42, event: pay}   # or to: paid; expect_state, expect_revision, metadata
    - delete: {id: hold/42}                    # expect_state, expect_revision, metadata

Operations are numbered from 0. Only one operation may change a given instance.

Examples:
  lockstep txn pay.yaml
  generate | lockstep txn - --idempotency-key order-42-paid"#;

/// Execute several operations atomically: create, transition, delete and check
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Txn {
    /// A JSON or YAML file; - for standard input
    #[arg(value_name = "FILE")]
    file: Source,

    #[command(flatten)]
    key: Key,
}

impl Txn {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let (text, language) = self.file.document()?;
        let document: Operations = input::decode(&self.file, &text, language)?;
        let operations = document.operations;
        let call: Transaction = operations.iter().cloned().collect();
        let client = context.target.client()?;
        let written = client.transact(self.key.on(call)).await;
        let written = written.map_err(|error| rejected(error, &operations))?;
        let json = || shape::written(json!({ "results": written.made }), &written);
        Ok(context.show(json, || {
            let results = written.made.iter().zip(&operations).enumerate();
            output::columns!(results, |(number, (made, operation))| {
                "OPERATION": number,
                "INSTANCE": operation.instance(),
                "RESULT": result(made),
            })
        }))
    }
}

/// The failure, with the operation that was rejected.
fn rejected(error: Error, operations: &[Operation]) -> Failure {
    let number = match &error {
        Error::Rejected(rejected) => rejected.operation,
        _ => None,
    };
    let failure = Failure::from(error);
    let Some(operation) = number.and_then(|number| operations.get(number as usize)) else {
        return failure;
    };
    let (what, id) = match operation {
        Operation::Create(it) => ("create", &it.instance),
        Operation::Transition(it) => ("transition", &it.instance),
        Operation::Delete(it) => ("delete", &it.instance),
        Operation::Check(it) => ("check", &it.instance),
    };
    failure.because(format!(
        "that operation is the {what} of {id}; no operation of the transaction was executed"
    ))
}

fn result(made: &OperationResult) -> String {
    match made {
        OperationResult::Created(it) => format!("created in {}", it.state),
        OperationResult::Transitioned(it) => format!("{} to {}", it.from, it.to),
        OperationResult::Deleted(it) => format!("deleted in {}", it.state),
        OperationResult::Checked => "holds".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Language;

    fn read(text: &str, language: Language) -> Result<Operations, String> {
        input::decode(&Source::Stdin, text, language)
            .map_err(|failure| failure.json()["message"].to_string())
    }

    #[test]
    fn both_languages_say_the_same() {
        let from_yaml = read(
            "operations:\n  - create: {id: order/1, version: 2, metadata: {by: ann}}\n  \
             - transition: {id: order/2, event: pay, expect_revision: 3}\n  \
             - delete: {id: order/3, expect_state: done}\n  - check: {id: stock/7, exists: false}\n",
            Language::Yaml,
        );
        let from_json = read(
            r#"{"operations": [
                {"create": {"id": "order/1", "version": 2, "metadata": {"by": "ann"}}},
                {"transition": {"id": "order/2", "event": "pay", "expect_revision": 3}},
                {"delete": {"id": "order/3", "expect_state": "done"}},
                {"check": {"id": "stock/7", "exists": false}}
            ]}"#,
            Language::Json,
        );
        assert_eq!(from_yaml.as_ref().map(|it| it.operations.len()), Ok(4));
        assert_eq!(from_yaml, from_json);
    }

    #[test]
    fn aliases_merges_and_markers_are_read_as_in_definitions() {
        let plain = "operations:\n  - create: {id: order/1, metadata: {by: ann}}\n  \
                     - create: {id: order/2, metadata: {by: ann}}\n";
        let expected = read(plain, Language::Yaml).expect("it is valid");
        for text in [
            "operations:\n  - create: {id: order/1, metadata: &who {by: ann}}\n  \
             - create: {id: order/2, metadata: *who}\n",
            "operations:\n  - create: &first {id: order/1, metadata: {by: ann}}\n  \
             - create: {<<: *first, id: order/2}\n",
            &format!("%YAML 1.2\n---\n{plain}...\n"),
            &format!("# all at once\n---\n{plain}---\n"),
        ] {
            assert_eq!(read(text, Language::Yaml).as_ref(), Ok(&expected), "{text}");
        }
        let levels =
            (1..9).map(|n| format!("l{n}: &l{n} [{}]\n", format!("*l{}, ", n - 1).repeat(10)));
        let bomb = format!("l0: &l0 [x]\n{}", levels.collect::<String>());
        let twice = format!("{plain}---\n{plain}");
        for (text, words) in [
            (bomb.as_str(), ""),
            ("operations: *nowhere\n", "anchor that is not defined"),
            (
                &twice,
                "2 documents; write all operations in one (line 4, column 1)",
            ),
            ("# x\n---\n# y\noperations: 7\n", "line 4"),
        ] {
            let said = read(text, Language::Yaml).expect_err(text);
            assert!(said.contains(words), "{text}: {said}");
            assert_eq!(lockstep_machine::library_words(&said), None, "{said}");
        }
    }

    #[test]
    fn a_fault_has_its_place() {
        for (text, parts) in [
            (
                "{\"operations\": [\n  {\"creat\": {}}]}",
                ["creat", "line 2"],
            ),
            (
                "{\"operations\": [\n{\"create\": {\"id\": \"a/1\", \"versoin\": 1}}]}",
                ["versoin", "line 2"],
            ),
            (
                "{\"operations\": [{\"create\": {\"id\": \"a/1\", \"id\": \"a/2\"}}]}",
                ["appears twice", "line 1"],
            ),
            (
                "{\"operations\": [{\"create\": {\"id\": \"a\"}}]}",
                ["operations[0].create.id", "machine/name"],
            ),
            (
                "{\"operations\": [{\"transition\": {\"id\": \"a/1\"}}]}",
                ["operations[0].transition", "is missing"],
            ),
            (
                "{\"operations\": [{\"check\": {\"id\": \"a/1\"}}]}",
                ["operations[0].check", "exactly one"],
            ),
            ("{\"operatons\": []}", ["operatons", "operations"]),
            ("{", ["ends", "line 1"]),
        ] {
            let said = read(text, Language::Json).expect_err(text);
            assert!(
                parts.iter().all(|part| said.contains(part)),
                "{text}: {said}"
            );
        }
        for (text, parts) in [
            ("operations:\n  - creat: {}\n", ["creat", "line 2"]),
            (
                "operations:\n  - create: {id: a/1, id: a/2}\n",
                ["appears twice", "line 2"],
            ),
            ("operations: [&x 1, *x]\n", ["operations[0]", "line 1"]),
        ] {
            let said = read(text, Language::Yaml).expect_err(text);
            assert!(
                parts.iter().all(|part| said.contains(part)),
                "{text}: {said}"
            );
        }
    }
}
