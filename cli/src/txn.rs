//! `lockstep txn`.

use clap::Args;
use lockstep_client::{
    CreateCall, DeleteCall, Error, EventName, Expectation, InstanceId, InvalidName,
    OperationResult, Revision, StateName, Transaction, TransitionCall, Trigger, Version,
};
use serde::Deserialize;
use serde_json::json;

use super::Context;
use super::args::{Key, Maybe};
use super::failure::Failure;
use super::input::{self, Source};
use super::output::{self, Format};
use super::pairs::Pairs;
use super::shape;

const EXAMPLES: &str = r#"The document has one field, "operations": a list of objects with one field each, the operation. It
is the body of HTTP's /v1/transactions:

  operations:
    - check: {id: stock/7, state: free}        # or exists: true|false, or revision: N
    - create: {id: shipment/7, metadata: {order: "42"}}       # and version
    - transition: {id: order/42, event: pay}   # or to: paid; expect_state, expect_revision, metadata
    - delete: {id: hold/42}                    # expect_state, expect_revision, metadata

Operations are counted from 0. Each instance may be changed by one of them only.

Examples:
  lockstep txn pay.yaml
  generate | lockstep txn - --idempotency-key order-42-paid"#;

/// Do several things, all or none: creates, transitions, deletes and checks
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Txn {
    /// A document of JSON or YAML; - for standard input
    #[arg(value_name = "FILE")]
    file: Source,

    #[command(flatten)]
    key: Key,
}

impl Txn {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let (text, language) = self.file.document()?;
        let document: Document = input::decode(&self.file, &text, language)?;
        let (mut transaction, shown) = document.into_transaction(&self.file)?;
        transaction = transaction.maybe(self.key.key, Transaction::idempotency_key);
        let client = context.target.client()?;
        let written = match client.transact(transaction).await {
            Ok(written) => written,
            Err(error) => return Err(refused(error, &shown)),
        };
        Ok(match context.output {
            Format::Json => {
                let body = json!({ "results": written.made });
                output::json(&shape::written(body, &written))
            }
            _ => output::table(
                ["OPERATION", "INSTANCE", "RESULT"],
                written
                    .made
                    .iter()
                    .zip(&shown)
                    .enumerate()
                    .map(|(place, (made, shown))| {
                        [place.to_string(), shown.id.clone(), result(made)]
                    }),
            ),
        })
    }
}

/// The failure, with the operation that was rejected.
fn refused(error: Error, shown: &[Shown]) -> Failure {
    let place = match &error {
        Error::Rejected(rejected) => rejected.operation,
        _ => None,
    };
    let failure = Failure::from(error);
    let shown = place.and_then(|place| shown.get(place as usize));
    match shown {
        Some(Shown { what, id }) => failure.because(format!(
            "that is the {what} of {id}; nothing of the transaction happened"
        )),
        None => failure,
    }
}

fn result(made: &OperationResult) -> String {
    match made {
        OperationResult::Created(it) => format!("created in {}", it.state),
        OperationResult::Transitioned(it) => format!("{} to {}", it.from, it.to),
        OperationResult::Deleted(it) => format!("deleted in {}", it.state),
        OperationResult::Checked => "holds".to_owned(),
    }
}

/// What an operation is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    what: &'static str,
    id: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    operations: Vec<Item>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Item {
    Create(CreateItem),
    Transition(TransitionItem),
    Delete(DeleteItem),
    Check(CheckItem),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateItem {
    id: String,
    version: Option<u32>,
    #[serde(default)]
    metadata: Pairs,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TransitionItem {
    id: String,
    to: Option<StateName>,
    event: Option<EventName>,
    expect_state: Option<StateName>,
    expect_revision: Option<u64>,
    #[serde(default)]
    metadata: Pairs,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteItem {
    id: String,
    expect_state: Option<StateName>,
    expect_revision: Option<u64>,
    #[serde(default)]
    metadata: Pairs,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckItem {
    id: String,
    exists: Option<bool>,
    state: Option<StateName>,
    revision: Option<u64>,
}

impl Document {
    fn into_transaction(self, source: &Source) -> Result<(Transaction, Vec<Shown>), Failure> {
        let mut transaction = Transaction::new();
        let mut shown = Vec::with_capacity(self.operations.len());
        for (place, item) in self.operations.into_iter().enumerate() {
            shown.push(item.shown());
            transaction = item.add_to(transaction).map_err(|why| {
                let message = format!("{source}: operation {place}: {why}");
                Failure::input("invalid_operation", message).with("operation", place)
            })?;
        }
        Ok((transaction, shown))
    }
}

impl Item {
    fn shown(&self) -> Shown {
        let (what, id) = match self {
            Item::Create(it) => ("create", &it.id),
            Item::Transition(it) => ("transition", &it.id),
            Item::Delete(it) => ("delete", &it.id),
            Item::Check(it) => ("check", &it.id),
        };
        Shown {
            what,
            id: id.clone(),
        }
    }

    fn add_to(self, transaction: Transaction) -> Result<Transaction, String> {
        Ok(match self {
            Item::Create(it) => transaction.create(it.into_call()?),
            Item::Transition(it) => transaction.transition(it.into_call()?),
            Item::Delete(it) => transaction.delete(it.into_call()?),
            Item::Check(it) => {
                let expect = match (it.exists, it.state, it.revision) {
                    (Some(true), None, None) => Expectation::Exists,
                    (Some(false), None, None) => Expectation::Missing,
                    (None, Some(state), None) => Expectation::InState(state),
                    (None, None, Some(revision)) => Expectation::AtRevision(Revision(revision)),
                    _ => {
                        let why = "a check has exactly one of exists, state and revision";
                        return Err(why.to_owned());
                    }
                };
                transaction.check(&parsed(&it.id)?, expect)
            }
        })
    }
}

fn parsed(id: &str) -> Result<InstanceId, String> {
    id.parse().map_err(|fault: InvalidName| fault.to_string())
}

impl CreateItem {
    fn into_call(self) -> Result<CreateCall, String> {
        let call = CreateCall::new(&parsed(&self.id)?).metadata(self.metadata.0);
        Ok(match self.version {
            Some(version) => call.version(Version(version)),
            None => call,
        })
    }
}

impl TransitionItem {
    fn into_call(self) -> Result<TransitionCall, String> {
        let trigger = match (self.to, self.event) {
            (Some(to), None) => Trigger::To(to),
            (None, Some(event)) => Trigger::Event(event),
            _ => return Err("a transition has exactly one of to and event".to_owned()),
        };
        let call = TransitionCall::by(&parsed(&self.id)?, trigger)
            .metadata(self.metadata.0)
            .maybe(self.expect_state, TransitionCall::expect_state)
            .maybe(
                self.expect_revision.map(Revision),
                TransitionCall::expect_revision,
            );
        Ok(call)
    }
}

impl DeleteItem {
    fn into_call(self) -> Result<DeleteCall, String> {
        let call = DeleteCall::new(&parsed(&self.id)?)
            .metadata(self.metadata.0)
            .maybe(self.expect_state, DeleteCall::expect_state)
            .maybe(
                self.expect_revision.map(Revision),
                DeleteCall::expect_revision,
            );
        Ok(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Language;

    fn read(text: &str, language: Language) -> Result<(Transaction, Vec<Shown>), String> {
        input::decode::<Document>(&Source::Stdin, text, language)
            .and_then(|document| document.into_transaction(&Source::Stdin))
            .map_err(|failure| {
                failure.json()["message"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
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
        assert_eq!(from_yaml.as_ref().map(|(it, _)| it.len()), Ok(4));
        assert_eq!(from_yaml, from_json);
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
                ["duplicate", "line 1"],
            ),
            (
                "{\"operations\": [{\"create\": {\"id\": \"a\"}}]}",
                ["operation 0", "machine/name"],
            ),
            (
                "{\"operations\": [{\"transition\": {\"id\": \"a/1\"}}]}",
                ["operation 0", "exactly one"],
            ),
            (
                "{\"operations\": [{\"check\": {\"id\": \"a/1\"}}]}",
                ["operation 0", "exactly one"],
            ),
            ("{\"operatons\": []}", ["operatons", "operations"]),
            ("{", ["EOF", "line 1"]),
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
                ["duplicate", "line 2"],
            ),
            ("operations: [&x 1, *x]\n", ["standard input", "line 1"]),
        ] {
            let said = read(text, Language::Yaml).expect_err(text);
            assert!(
                parts.iter().all(|part| said.contains(part)),
                "{text}: {said}"
            );
        }
    }
}
