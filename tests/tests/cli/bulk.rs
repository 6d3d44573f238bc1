//! Many instances: created from a file, exported, and imported into another cluster.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::order::Desk;

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_thousand_instances_but_two_bad_lines_are_created() -> Result<()> {
    let desk = Desk::with_orders().await?;
    let line = |number: usize| match number {
        17 => "{\"id\": \"16\"".to_owned(),
        503 => "{\"id\": \"502\", \"verison\": 1}".to_owned(),
        _ => json!({ "id": format!("{number:04}"), "metadata": {"batch": "1"} }).to_string(),
    };
    let text: Vec<_> = (1..=1002).map(line).collect();
    let file = desk.file("orders.jsonl", &text.join("\n"))?;
    let create = ["instance", "create", "order", "--from", &file];

    let ended = desk.ended(&create).await?;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 1000);
    for part in [
        "line 17: it ends too early",
        "line 503: there is no field \"verison\"; did you mean \"version\"?",
        "1000 created, 2 failed: lines 17, 503",
    ] {
        ensure!(
            ended.stderr.contains(part),
            "{part:?} is not in {}",
            ended.stderr
        );
    }
    assert_eq!(ended.stderr.lines().count(), 3, "{}", ended.stderr);

    let all = desk.json(&["instance", "list", "order", "--all"]).await?;
    assert_eq!(all["total"], 1000);
    assert_eq!(all["instances"].as_array().map(Vec::len), Some(1000));
    // Corrected, the file can be given again.
    let text = text
        .join("\n")
        .replace("{\"id\": \"16\"\n", "{\"id\": \"16\"}\n");
    desk.file("orders.jsonl", &text.replace("verison", "version"))?;
    let again = desk
        .ended(&[&create[..], &["--skip-existing"]].concat())
        .await?;
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (Some(0), "order/16\norder/502\n")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_can_be_imported_into_another_cluster() -> Result<()> {
    let old = Desk::with_orders().await?;
    for (id, states) in [
        ("1", &[][..]),
        ("2", &["paid"]),
        ("3", &["paid", "shipped"]),
    ] {
        let id = format!("order/{id}");
        old.run(&["instance", "create", &id, "--meta", "customer=ann"])
            .await?;
        for state in states {
            old.run(&["send", &id, "--to", state]).await?;
        }
    }
    let file = old.path("export.jsonl");
    let exported = old
        .ended(&["instance", "export", "order", "--out", &file])
        .await?;
    assert_eq!((exported.code, exported.stdout.as_str()), (Some(0), ""));
    ensure!(
        exported.stderr.contains("3 instances of order"),
        "{}",
        exported.stderr
    );
    let lines = fs::read_to_string(&file)?;

    let new = Desk::with_orders().await?;
    let import = ["instance", "import", &file];
    // Instances can only be created in the initial state; the import reports the difference.
    new.run(&["instance", "create", "order/2"]).await?;
    let ended = new.ended(&import).await?;
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(1), "order/1\norder/3\n")
    );
    let differs = "order/3 was created in state \"open\", but was exported in state \"shipped\"";
    ensure!(ended.stderr.contains(differs), "{}", ended.stderr);
    ensure!(
        ended.stderr.contains("1 already existed"),
        "{}",
        ended.stderr
    );

    for id in ["order/1", "order/2", "order/3"] {
        new.run(&["instance", "delete", id]).await?;
    }
    let ended = new.ended(&[&import[..], &["--walk"]].concat()).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let again = new.ended(&["instance", "export", "order"]).await?;
    let facts = |text: &str| -> Result<Vec<Value>> {
        let fact = |line: &str| -> Result<Value> {
            let line: Value = serde_json::from_str(line)?;
            Ok(json!([
                line["id"],
                line["state"],
                line["metadata"],
                line["revision"]
            ]))
        };
        text.lines().map(fact).collect()
    };
    assert_eq!(facts(&again.stdout)?, facts(&lines)?);
    let history = new.json(&["instance", "history", "order/3"]).await?;
    assert_eq!(
        history["events"][1]["metadata"],
        json!({"import": "walk to shipped"})
    );
    Ok(())
}
