//! docs/ERRORS.md against the code: every stable code is there, with the status that it has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../../docs/ERRORS.md");

/// What the page says of each code: over HTTP and over gRPC.
fn documented() -> BTreeMap<&'static str, [&'static str; 2]> {
    let row = |line: &'static str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let code = cells.next()?.strip_suffix('`')?;
        Some((code, [cells.next()?, cells.next()?]))
    };
    PAGE.lines().filter_map(row).collect()
}

/// What a source file says before its tests.
fn code(source: &str) -> &str {
    source
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
}

fn read(path: impl AsRef<Path>) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let path = root.join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The source files of an interface, but for its tests.
fn sources(folder: &str) -> Vec<String> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(&folder).unwrap().map(|it| it.unwrap().path());
    let sources: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|it| it == "rs"))
        .filter(|file| file.file_name().is_some_and(|it| it != "tests.rs"))
        .map(read)
        .collect();
    assert!(sources.len() > 5, "{}", folder.display());
    sources
}

/// The literal that a text begins with, if it is a code.
fn literal(text: &str) -> Option<&str> {
    let text = text.trim_start().strip_prefix('"')?.split('"').next()?;
    let is_code = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    (!text.is_empty() && is_code(text)).then_some(text)
}

/// The literals behind each `=> ` of a function `code`.
fn arms(source: &str) -> Vec<&str> {
    let functions = code(source).split("fn code(").skip(1);
    let bodies = functions.map(|it| it.split("\n    }").next().unwrap_or_default());
    bodies
        .flat_map(|body| body.split("=> ").skip(1))
        .filter_map(literal)
        .collect()
}

/// The codes that problems are made with, where they are literals.
fn problems(source: &str) -> Vec<&str> {
    let calls = |maker: &'static str| code(source).split(maker).skip(1);
    let first = calls("bad_request(").chain(calls("not_found("));
    // The status comes before it.
    let second = calls("Problem::new(").chain(calls("Self::new("));
    let second = second.filter_map(|call| Some(call.split_once(',')?.1));
    first.chain(second).filter_map(literal).collect()
}

/// The codes that statuses are made with, where they are literals, and the status of each.
fn statuses(source: &str) -> Vec<(&str, &str)> {
    let calls = code(source).split("coded(").skip(1);
    calls
        .filter_map(|call| {
            let (status, rest) = call.trim_start().strip_prefix("Code::")?.split_once(',')?;
            Some((literal(rest)?, status))
        })
        .collect()
}

/// `NotFound` as `NOT_FOUND`.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

#[test]
fn every_code_is_documented() {
    let documented = documented();
    let known = |code: &str| assert!(documented.contains_key(code), "{code} is not documented");
    let mut count = 0;
    for file in [
        "machine/src/rejection.rs",
        "machine/src/limits.rs",
        "machine/src/definition/parse.rs",
        "node/src/api/sinks.rs",
        "node/src/api/watchers.rs",
        "node/src/service/error.rs",
        "node/src/service/pictures.rs",
        "node/src/service/watch.rs",
        "node/src/sink/handle.rs",
    ] {
        let source = read(file);
        let found = arms(&source);
        assert!(!found.is_empty(), "no codes in {file}");
        count += found.len();
        found.into_iter().for_each(known);
    }
    assert!(count > 35, "{count}");
    for source in sources("src/api/http") {
        let found = problems(&source);
        count += found.len();
        found.into_iter().for_each(known);
    }
    assert!(count > 55, "{count}");
}

#[test]
fn every_grpc_status_is_documented_with_its_code() {
    let documented = documented();
    let known = |code: &str, status: &str| {
        let [_, grpc] = documented
            .get(code)
            .unwrap_or_else(|| panic!("{code} is not documented"));
        let status = screaming(status);
        assert!(grpc.contains(&status), "{code}: {grpc}, not {status}");
    };
    let mut count = 0;
    for source in sources("src/api/grpc") {
        let found = statuses(&source);
        count += found.len();
        for (code, status) in found {
            known(code, status);
        }
    }
    assert!(count > 4, "{count}");
    // Those that come with an error of the service.
    for (code, status) in [
        ("unknown_machine", "NotFound"),
        ("unknown_instance", "NotFound"),
        ("unknown_version", "NotFound"),
        ("unavailable", "Unavailable"),
        ("not_ready", "Unavailable"),
        ("behind", "Unavailable"),
        ("overloaded", "ResourceExhausted"),
        ("disk_full", "ResourceExhausted"),
        ("outcome_unknown", "DeadlineExceeded"),
        ("too_many_watchers", "ResourceExhausted"),
        ("compacted", "OutOfRange"),
        ("lagged", "OutOfRange"),
        ("malformed_document", "InvalidArgument"),
        ("picture_too_large", "FailedPrecondition"),
        ("internal", "Internal"),
    ] {
        known(code, status);
    }
}

#[test]
fn every_rejection_is_one_over_grpc() {
    let documented = documented();
    for file in ["machine/src/rejection.rs", "machine/src/limits.rs"] {
        let source = read(file);
        for code in arms(&source) {
            let grpc = documented.get(code).map_or("", |[_, grpc]| grpc);
            assert!(grpc.contains("rejection"), "{code}: {grpc:?}");
        }
    }
}
