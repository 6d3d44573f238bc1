//! The program `lockstep` as a user runs it, against servers that answer by script.

mod backup;
mod basics;
mod bench;
mod bulk;
mod instance;
mod machine;
mod man;
mod send;
mod sink;
mod txn;
mod watch;

use std::process::{Output, Stdio};

use lockstep_proto::v1;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The program, with times in UTC and no settings from outside.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    for variable in ["LOCKSTEP_ENDPOINTS", "LOCKSTEP_CONSUL", "CONSUL_HTTP_TOKEN"] {
        command.env_remove(variable);
    }
    command
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs it with these arguments, with one blank between any two.
async fn lockstep(arguments: &str) -> Output {
    let mut command = command();
    if !arguments.is_empty() {
        command.args(arguments.split(' '));
    }
    command.output().await.expect("the program starts")
}

/// Runs it with something on its standard input.
async fn fed(arguments: &str, input: &str) -> Output {
    let mut command = command();
    command
        .args(arguments.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    let input = input.to_owned();
    // Apart: it may have to print before it reads on; and it may not want to read all.
    let feeding = tokio::spawn(async move {
        let _ = stdin.write_all(input.as_bytes()).await;
    });
    let output = child.wait_with_output().await.expect("the program ends");
    feeding.await.expect("feeding does not panic");
    output
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("stderr is UTF-8")
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

/// What it printed, if it was done and had nothing else to say.
fn done(output: &Output) -> String {
    assert_eq!((code(output), stderr(output).as_str()), (Some(0), ""));
    stdout(output)
}

/// Its stderr, if it failed with this exit code and printed no data.
fn failed(output: &Output, exit: i32) -> String {
    let said = stderr(output);
    assert_eq!(
        (code(output), stdout(output).as_str()),
        (Some(exit), ""),
        "{said}"
    );
    said
}

fn read_at() -> Option<v1::ReadAt> {
    Some(v1::ReadAt {
        applied_index: 42,
        revision: 17,
    })
}

fn written() -> Option<v1::Written> {
    Some(v1::Written {
        replayed: false,
        revision: 17,
    })
}

/// A rejection with nothing but a code and a message.
fn rejection(code: &str, message: &str) -> v1::Rejected {
    v1::Rejected {
        code: code.to_owned(),
        message: message.to_owned(),
        ..Default::default()
    }
}

fn metadata(pairs: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// The order machine that these tests speak of, as a node gives it.
const ORDER: &str = r#"{"name": "order", "initial": "open",
    "description": "What a customer wants",
    "states": {"open": {"timeout": {"after": "15m", "to": "expired"}}, "paid": {},
               "shipped": {"final": true}, "expired": {"final": true}},
    "transitions": [{"from": "open", "to": "paid", "event": "pay"},
                    {"from": "paid", "to": "shipped", "event": "ship"}]}"#;

fn order_machine() -> v1::GetMachineResponse {
    v1::GetMachineResponse {
        summary: Some(order_summary()),
        definition: ORDER.to_owned(),
        versions: [(1, 3), (2, 4)]
            .map(|(version, instances)| v1::VersionSummary { version, instances })
            .to_vec(),
        read_at: read_at(),
    }
}

fn order_summary() -> v1::MachineSummary {
    v1::MachineSummary {
        machine: "order".to_owned(),
        version: 2,
        description: "What a customer wants".to_owned(),
        instances: 7,
        states: [("open".to_owned(), 5), ("paid".to_owned(), 2)].into(),
    }
}

fn order(name: &str, state: &str) -> v1::Instance {
    v1::Instance {
        id: format!("order/{name}"),
        version: 2,
        state: state.to_owned(),
        revision: 1,
        created_at_ms: 1_700_000_000_000,
        changed_at_ms: 1_700_000_001_000,
        allowed: vec!["shipped".to_owned()],
        metadata: metadata(&[("customer", "ann")]),
        ..Default::default()
    }
}
