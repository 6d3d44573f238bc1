//! The catalogue of errors: its rules, and the page made from it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use lockstep_machine::{Quota, Rejection};
use lockstep_proto::ErrorCode;
use lockstep_proto::errors::{CATALOGUE, Entry, Grpc, Retry, Section};

const HEAD: &str = "\
<!-- Generated from proto/src/errors.rs: LOCKSTEP_UPDATE_DOCS=1 cargo test -p lockstep-proto --test errors -->

# Errors

Every error has a stable code: over HTTP as `code` in a problem document (RFC 9457,
`application/problem+json`), over gRPC as `code` of a rejection or in the trailer `lockstep-code`.
Messages may change; codes do not.

- A dash means that the interface does not use the code. \"rejection\" means that the gRPC status is `OK`, and
  the response message contains the rejection: the call itself succeeded.
- \"Retry\" says whether to repeat the same request. *no*: nothing was executed, and the answer will be the
  same. *safe*: nothing was executed, and a retry may succeed. *with key*: a write may have been executed,
  so repeat it only with the same idempotency key.
";

const SECTIONS: [(Section, &str, &str, &str); 5] = [
    (
        Section::Rejected,
        "The state machine rejected the request",
        "Nothing was changed. The rejection is replicated: a request with the same idempotency key gets it again.",
        "\
Over HTTP, `operation_failed` has the status of its `reason`.

If the definition is sent as a document, `too_many_states` and `too_many_transitions` are reported as faults
of `invalid_definition`, together with all others.

507 means that the cluster is at a limit. 429 would be wrong, because waiting does not help.",
    ),
    (Section::Unanswered, "The cluster did not answer", "", ""),
    (
        Section::WatchEnded,
        "A watch ended",
        "",
        "An open watch over HTTP ends with the event `lagged` instead of a status.",
    ),
    (
        Section::Members,
        "The membership was not changed",
        "",
        "",
    ),
    (
        Section::Malformed,
        "The request is not valid",
        "\
Nothing was executed. A request head of more than 16 KiB, or one that is not HTTP, is answered with
414, 431 or 400 and no body.",
        "",
    ),
];

fn screaming(code: tonic::Code) -> String {
    let mut text = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

fn row(page: &mut String, entry: &Entry) {
    let http = match (entry.code, entry.http) {
        (ErrorCode::OperationFailed, _) => "that of `reason`".to_owned(),
        (_, 0) => "-".to_owned(),
        (_, status) => status.to_string(),
    };
    let grpc = match entry.grpc {
        Grpc::Never => "-".to_owned(),
        Grpc::Status(code) => screaming(code),
        Grpc::Rejection => "rejection".to_owned(),
        Grpc::RejectionOr(code) => format!("rejection; {} for a read", screaming(code)),
    };
    let retry = match entry.retry {
        Retry::Pointless => "no",
        Retry::Safe => "safe",
        Retry::WithKey => "with key",
    };
    let Entry {
        name,
        meaning,
        remedy,
        ..
    } = entry;
    let _ = writeln!(
        page,
        "| `{name}` | {http} | {grpc} | {retry} | {meaning} | {remedy} |"
    );
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (section, title, before, after) in SECTIONS {
        let _ = write!(page, "\n## {title}\n\n");
        if !before.is_empty() {
            let _ = write!(page, "{before}\n\n");
        }
        page.push_str(
            "| code | HTTP | gRPC | retry | meaning | what to do |\n|---|---|---|---|---|---|\n",
        );
        for entry in CATALOGUE.iter().filter(|entry| entry.section == section) {
            row(&mut page, entry);
        }
        if !after.is_empty() {
            let _ = write!(page, "\n{after}\n");
        }
    }
    page
}

#[test]
fn the_error_page_is_generated_from_the_catalogue() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ERRORS.md");
    if std::env::var_os("LOCKSTEP_UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(
        found == page(),
        "docs/ERRORS.md is stale: run the command in its first line"
    );
}

#[test]
fn every_code_has_its_own_row_and_name() {
    let names: BTreeSet<_> = CATALOGUE.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), CATALOGUE.len());
    for entry in CATALOGUE {
        assert_eq!(entry.code.as_str(), entry.name);
        assert_eq!(ErrorCode::find(entry.name), Some(entry.code));
        assert!(entry.http == 0 || (400..600).contains(&entry.http));
        assert_eq!(entry.code.to_string(), entry.name);
    }
    assert_eq!(ErrorCode::find("of_a_newer_release"), None);
}

#[test]
fn every_rejection_is_a_rejection_over_grpc_and_final() {
    for entry in CATALOGUE {
        let rejection = matches!(entry.grpc, Grpc::Rejection | Grpc::RejectionOr(_));
        assert_eq!(
            rejection,
            entry.section == Section::Rejected,
            "{}",
            entry.name
        );
        assert!(
            !rejection || entry.retry == Retry::Pointless,
            "{}",
            entry.name
        );
    }
}

#[test]
fn the_catalogue_has_every_rejection_of_the_state_machine_and_no_other() {
    let quotas = Quota::ALL.iter().map(|it| it.code());
    let codes: BTreeSet<_> = Rejection::CODES.iter().copied().chain(quotas).collect();
    let rows = CATALOGUE
        .iter()
        .filter(|it| it.section == Section::Rejected);
    assert_eq!(rows.map(|it| it.name).collect::<BTreeSet<_>>(), codes);
}
