//! `lockstep machine`.

use std::fs;

use lockstep_proto::v1;
use lockstep_proto::v1::define_request::Document;
use lockstep_proto::v1::define_response::Outcome;
use serde_json::json as object;

use crate::{
    ORDER, code, done, failed, fed, json, lockstep, order_machine, order_summary, read_at,
    rejection, stderr, stdout, written,
};
use lockstep_scripted::{Answer, Node};

fn fault(path: &str, code: &str, message: &str) -> v1::Fault {
    let [path, code, message] = [path, code, message].map(str::to_owned);
    v1::Fault {
        path,
        code,
        message,
    }
}

fn defined(created: bool) -> v1::DefineResponse {
    v1::DefineResponse {
        outcome: Some(Outcome::Defined(v1::Defined {
            machine: "order".to_owned(),
            version: 2,
            created,
            warnings: vec![fault(
                "states.lost",
                "unreachable",
                "no transition leads here",
            )],
            ..Default::default()
        })),
        written: written(),
    }
}

fn rejected() -> v1::DefineResponse {
    v1::DefineResponse {
        outcome: Some(Outcome::Rejected(v1::Rejected {
            faults: vec![
                fault("initial", "unknown_state", "there is no state \"opn\""),
                fault("transitions[1].to", "missing", "it is required"),
            ],
            ..rejection("invalid_definition", "the definition has 2 error(s): ...")
        })),
        written: written(),
    }
}

#[tokio::test]
async fn apply_says_what_came_of_it_and_warns_on_stderr() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("order.yaml");
    fs::write(&file, "name: order\n").expect("a file");
    let file = file.to_str().expect("the path is text");
    for (created, extra, line) in [
        (true, "", "order: created version 2\n"),
        (false, "", "order: unchanged, version 2\n"),
        (true, " --dry-run", "order: would create version 2\n"),
        (
            false,
            " --dry-run",
            "order: would be unchanged, version 2\n",
        ),
    ] {
        let node = Node::start([]).await;
        node.on(move |_: v1::DefineRequest| Ok(defined(created)));
        let arguments = format!("machine apply {file} -e {}{extra}", node.address);
        let output = lockstep(&arguments).await;
        assert_eq!((code(&output), stdout(&output).as_str()), (Some(0), line));
        let said = stderr(&output);
        assert!(
            said.contains("warning: states.lost: no transition leads here (unreachable)"),
            "{said}"
        );
        let asked = node.asked::<v1::DefineRequest>();
        assert_eq!(
            asked[0].document,
            Some(Document::Yaml("name: order\n".to_owned()))
        );
        assert_eq!(asked[0].dry_run, !extra.is_empty());
    }
}

#[tokio::test]
async fn apply_shows_how_each_timeout_was_read() {
    let node = Node::start([]).await;
    node.on(|_: v1::DefineRequest| {
        let timeout = v1::StateTimeout {
            after: "15 minutes".to_owned(),
            to: "expired".to_owned(),
        };
        let defined = v1::Defined {
            machine: "order".to_owned(),
            version: 1,
            created: true,
            timeouts: [("open".to_owned(), timeout)].into(),
            ..Default::default()
        };
        Ok(v1::DefineResponse {
            outcome: Some(Outcome::Defined(defined)),
            written: written(),
        })
    });
    let apply = format!("machine apply - -e {}", node.address);
    assert_eq!(
        done(&fed(&apply, ORDER).await),
        "order: created version 1\n  open: after 15 minutes -> expired\n"
    );
    let body = json(&done(&fed(&format!("{apply} -o json"), ORDER).await));
    assert_eq!(
        body["timeouts"],
        object!({"open": {"after": "15 minutes", "to": "expired"}})
    );
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = "name: order\n";
    for (name, text) in [
        ("order.json", ORDER),
        ("order.yaml", yaml),
        ("-", ORDER),
        ("-", yaml),
    ] {
        let marked = format!("\u{feff}{text}");
        let node = Node::start([Answer::Done]).await;
        let file = match name {
            "-" => name.to_owned(),
            name => {
                let file = folder.path().join(name);
                fs::write(&file, &marked).expect("a file");
                file.display().to_string()
            }
        };
        done(
            &fed(
                &format!("machine apply {file} -e {}", node.address),
                &marked,
            )
            .await,
        );
        let expected = match text {
            ORDER => Document::Json(text.to_owned()),
            _ => Document::Yaml(text.to_owned()),
        };
        let sent = node.asked::<v1::DefineRequest>()[0].document.clone();
        assert_eq!(sent, Some(expected), "{name}");
    }
}

#[tokio::test]
async fn standard_input_is_json_if_it_looks_like_it() {
    for (input, is_json) in [(ORDER, true), ("name: order\n", false)] {
        let node = Node::start([Answer::Done]).await;
        done(&fed(&format!("machine apply - -e {}", node.address), input).await);
        let document = node.asked::<v1::DefineRequest>()[0].document.clone();
        assert_eq!(matches!(document, Some(Document::Json(_))), is_json);
    }
}

#[tokio::test]
async fn every_fault_is_shown_with_its_path() {
    let node = Node::start([]).await;
    node.on(|_: v1::DefineRequest| Ok(rejected()));
    let arguments = format!("machine apply - -e {}", node.address);
    let said = failed(&fed(&arguments, ORDER).await, 1);
    for part in [
        "standard input: the definition has 2 errors\n",
        "  initial: there is no state \"opn\" (unknown_state)\n",
        "  transitions[1].to: it is required (missing)\n",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let said = failed(&fed(&format!("{arguments} -o json"), ORDER).await, 1);
    assert_eq!(
        json(&said)["error"]["faults"][1]["path"],
        "transitions[1].to"
    );
}

#[tokio::test]
async fn of_several_files_the_good_ones_are_applied() {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = ["good.json", "bad.json", "missing.json"].map(|name| folder.path().join(name));
    for path in &paths[..2] {
        fs::write(path, ORDER).expect("a file");
    }
    let [good, bad, missing] = paths.each_ref().map(|path| path.to_str().expect("text"));
    let node = Node::start([]).await;
    let mut count = 0;
    node.on(move |_: v1::DefineRequest| {
        count += 1;
        Ok(if count % 2 == 1 {
            defined(true)
        } else {
            rejected()
        })
    });
    let arguments = format!("machine apply {good} {bad} {missing} -e {}", node.address);
    let output = lockstep(&arguments).await;
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (Some(2), "order: created version 2\n")
    );
    let said = stderr(&output);
    for part in [bad, missing, "No such file", "2 of 3 definitions"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }

    let output = lockstep(&format!("{arguments} -o json")).await;
    let results = json(&stdout(&output))["results"].clone();
    assert_eq!(results[0]["created"], true);
    assert_eq!(results[1]["error"]["code"], "invalid_definition");
    assert_eq!(results[2]["error"]["code"], "unreadable");
}

/// The documents that a node received, in order.
fn documents(node: &Node) -> Vec<String> {
    let asked = node.asked::<v1::DefineRequest>().into_iter();
    let text = asked.map(|it| match it.document {
        Some(Document::Json(text) | Document::Yaml(text)) => text,
        None => String::new(),
    });
    text.collect()
}

#[tokio::test]
async fn each_document_of_a_file_is_applied_in_order() {
    for (input, expected) in [
        (
            "# orders\n---\nname: a\n---\n# nothing\n---\nname: b\n---\n",
            ["name: a\n", "name: b\n"],
        ),
        (
            "{\"name\": \"a\"}\n{\"name\": \"b\"}\n",
            ["{\"name\": \"a\"}", "{\"name\": \"b\"}"],
        ),
    ] {
        let node = Node::start([]).await;
        node.on(|_: v1::DefineRequest| Ok(defined(true)));
        let arguments = format!("machine apply - -e {} -o json", node.address);
        let output = fed(&arguments, input).await;
        let results = json(&done(&output))["results"].clone();
        assert_eq!(results.as_array().map(Vec::len), Some(2), "{results}");
        assert_eq!(results[1]["document"], 2);
        let trimmed = documents(&node);
        assert_eq!(trimmed.len(), 2);
        for (sent, expected) in trimmed.iter().zip(expected) {
            assert_eq!(sent.trim_end(), expected.trim_end(), "{input:?}");
        }
    }
}

#[tokio::test]
async fn a_document_that_fails_is_named_with_its_place_and_ends_its_file() {
    let file = "name: a\n---\nname: b\n---\nname: c\n";
    let node = Node::start([]).await;
    let answer = |request: v1::DefineRequest| {
        let is_bad =
            matches!(&request.document, Some(Document::Yaml(it)) if it.contains("name: b"));
        Ok(if is_bad { rejected() } else { defined(true) })
    };
    node.on(answer);
    let arguments = format!("machine apply - -e {}", node.address);
    let output = fed(&arguments, file).await;
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (Some(1), "order: created version 2\n")
    );
    let said = stderr(&output);
    for part in [
        "standard input: document 2 (line 3): the definition has 2 errors; \
         documents applied before it: 1, not applied after it: 1\n",
        "1 of 2 definitions could not be applied",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert_eq!(documents(&node).len(), 2);

    let output = fed(&format!("{arguments} --dry-run -o json"), file).await;
    assert_eq!(code(&output), Some(1));
    let results = json(&stdout(&output))["results"].clone();
    let error = &results[1]["error"];
    assert_eq!((&error["document"], &error["line"]), (&2.into(), &3.into()));
    assert_eq!(
        results[2]["machine"], "order",
        "a dry run tries all of them"
    );
}

#[tokio::test]
async fn what_is_no_document_is_rejected_before_a_node_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (empty, binary, huge) = (path("empty"), path("binary"), path("huge"));
    let (blank, many) = (path("blank.yaml"), path("many.yaml"));
    fs::write(&blank, "---\n# nothing\n---\n").expect("a file");
    fs::write(&many, "--- a\n".repeat(500_000)).expect("a file");
    fs::write(&empty, " \n").expect("a file");
    fs::write(&binary, b"name: x\n\xff\xfe").expect("a file");
    let file = fs::File::create(&huge).expect("a file");
    file.set_len(5 * 1024 * 1024).expect("a sparse file");
    let here = path("");
    for (file, part) in [
        (empty.as_str(), "is empty"),
        (&blank, "is empty"),
        (&many, "more than 1000 documents; split it"),
        (&binary, "line 2 is not UTF-8"),
        (&huge, "larger than 4194304 bytes"),
        (&here, "Is a directory"),
        ("/nowhere/x.yaml", "No such file"),
    ] {
        let said = failed(&lockstep(&format!("machine apply {file}")).await, 2);
        assert!(said.contains(part) && said.contains(file), "{file}: {said}");
    }
    let said = failed(&lockstep("machine apply - -").await, 2);
    assert!(said.contains("once"), "{said}");
    let keyed = "machine apply a b --idempotency-key k";
    assert!(failed(&lockstep(keyed).await, 2).contains("one definition"));
}

#[tokio::test]
async fn machines_are_listed_with_their_instances() {
    let node = Node::start([]).await;
    node.on(|_: v1::ListMachinesRequest| {
        let machines = vec![order_summary()];
        let read_at = read_at();
        Ok(v1::ListMachinesResponse { machines, read_at })
    });
    let table = done(&lockstep(&format!("machine list -e {}", node.address)).await);
    assert_eq!(
        table,
        "MACHINE  VERSION  INSTANCES  STATES          DESCRIPTION\n\
         order    2        7          open 5, paid 2  What a customer wants\n"
    );
    let list = lockstep(&format!("machine list -e {} -o json --stale", node.address)).await;
    assert_eq!(
        json(&done(&list)),
        object!({
            "machines": [{
                "machine": "order", "version": 2, "description": "What a customer wants",
                "instances": 7, "states": {"open": 5, "paid": 2},
            }],
            "applied_index": 42, "revision": 17,
        })
    );
    let asked = node.asked::<v1::ListMachinesRequest>();
    let consistency = |at: usize| asked[at].freshness.map(|it| it.consistency());
    assert_eq!(consistency(1), Some(v1::Consistency::Stale));
}

#[tokio::test]
async fn a_machine_is_shown_for_people_for_programs_and_to_be_changed() {
    let node = Node::start([]).await;
    node.on(|_: v1::GetMachineRequest| Ok(order_machine()));
    let show = format!("machine show order --version 2 -e {}", node.address);
    let table = done(&lockstep(&show).await);
    for part in [
        "open     5          -      15m to expired",
        "open  paid     pay",
        "2        4",
    ] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
    assert_eq!(node.asked::<v1::GetMachineRequest>()[0].version, Some(2));
    let long = Node::start([]).await;
    long.on(|_: v1::GetMachineRequest| {
        let definition = ORDER.replace("15m", "90d");
        Ok(v1::GetMachineResponse {
            definition,
            ..order_machine()
        })
    });
    for format in ["table", "json", "yaml"] {
        let shown = done(
            &lockstep(&format!(
                "machine show order -o {format} -e {}",
                long.address
            ))
            .await,
        );
        assert!(shown.contains("90d"), "{shown}");
    }

    let body = json(&done(&lockstep(&format!("{show} -o json")).await));
    assert_eq!(
        body["definition"]["states"]["open"]["timeout"]["to"],
        "expired"
    );
    assert_eq!(body["versions"][0], object!({"version": 1, "instances": 3}));
    assert_eq!(
        (&body["instances"], &body["revision"]),
        (&7.into(), &17.into())
    );

    // What it prints can be applied again.
    let yaml = done(&lockstep(&format!("{show} -o yaml")).await);
    assert!(yaml.starts_with("name: order\n"), "{yaml}");
    let again = Node::start([Answer::Done]).await;
    done(&fed(&format!("machine apply - -e {}", again.address), &yaml).await);
    // Before the command, the format means the same.
    let global = format!("-o json machine show order -e {}", node.address);
    assert_eq!(json(&done(&lockstep(&global).await)), body);
}

#[tokio::test]
async fn a_picture_is_printed_as_it_is() {
    let node = Node::start([]).await;
    node.on(|request: v1::DrawMachineRequest| {
        Ok(v1::DrawMachineResponse {
            picture: format!("{:?} {:?}\n", request.format(), request.instance),
            read_at: read_at(),
            version: 2,
        })
    });
    let graph = format!("machine graph order -e {}", node.address);
    assert_eq!(done(&lockstep(&graph).await), "Mermaid None\n");
    for instance in ["42", "order/42"] {
        let more = format!("--format svg --instance {instance}");
        let picture = done(&lockstep(&format!("{graph} {more}")).await);
        assert_eq!(picture, "Svg Some(\"42\")\n");
    }
    let body = json(&done(&lockstep(&format!("{graph} -o json")).await));
    assert_eq!(
        (&body["format"], &body["version"]),
        (&"mermaid".into(), &2.into())
    );
    let other = format!("{graph} --instance stock/42");
    assert!(failed(&lockstep(&other).await, 2).contains("not an instance of order"));
}

#[tokio::test]
async fn a_machine_that_is_used_is_not_deleted_and_it_says_what_to_do() {
    let node = Node::start([Answer::Done]).await;
    let delete = format!("machine delete order -e {}", node.address);
    assert_eq!(
        done(&lockstep(&delete).await),
        "order: deleted versions 1, 2\n"
    );
    node.on(|_: v1::DeleteMachineRequest| {
        use v1::delete_machine_response::Outcome;
        let rejected = v1::Rejected {
            used_version: Some(1),
            used_by: Some(3),
            ..rejection(
                "definition_in_use",
                "3 instance(s) still use version 1 of machine \"order\"",
            )
        };
        let (outcome, written) = (Some(Outcome::Rejected(rejected)), written());
        Ok(v1::DeleteMachineResponse { outcome, written })
    });
    let said = failed(&lockstep(&delete).await, 1);
    assert!(
        said.contains("still use") && said.contains("instance list"),
        "{said}"
    );
    let said = failed(&lockstep(&format!("{delete} -o json")).await, 1);
    let error = &json(&said)["error"];
    assert_eq!(
        (&error["version"], &error["instances"]),
        (&1.into(), &3.into())
    );
}
