//! An order machine from its definition to its end, by the command line alone.

use std::fs;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::Cluster;
use serde_json::{Value, json};

use super::{assert_fields, endpoints, error, lockstep, table};

const ORDER: &str = "\
name: order
description: What a customer wants
initial: open
states:
  open: {timeout: {after: 1h, to: expired}}
  paid: {}
  shipped: {final: true}
  expired: {final: true}
transitions:
  - {from: open, to: paid, event: pay}
  - {from: paid, to: shipped, event: ship}
";

/// Its timeouts, as `machine apply` prints them.
const TIMEOUTS: &str = "  open: after 1 hour -> expired\n";

/// A cluster, a folder, and the command line that talks to the one about files in the other.
pub(crate) struct Desk {
    pub(crate) cluster: Cluster,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) endpoints: String,
}

impl Desk {
    pub(crate) async fn open() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let endpoints = endpoints(&cluster, 0..3);
        Ok(Self {
            cluster,
            folder: tempfile::tempdir()?,
            endpoints,
        })
    }

    /// One with the order machine.
    pub(crate) async fn with_orders() -> Result<Self> {
        let desk = Self::open().await?;
        let file = desk.file("order.yaml", ORDER)?;
        assert_eq!(
            desk.run(&["machine", "apply", &file]).await?,
            format!("order: created version 1\n{TIMEOUTS}")
        );
        Ok(desk)
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> Result<String> {
        fs::write(self.path(name), text)?;
        Ok(self.path(name))
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) async fn ended(&self, arguments: &[&str]) -> Result<lockstep_tests::program::Ended> {
        lockstep(&[arguments, &["-e", &self.endpoints]].concat()).await
    }

    /// What it printed, done and without a complaint.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.ended(arguments).await?.done()
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.ended(&[arguments, &["-o", "json"]].concat())
            .await?
            .json()
    }

    /// Why it was rejected.
    pub(crate) async fn rejected(&self, arguments: &[&str]) -> Result<Value> {
        error(
            &self
                .ended(&[arguments, &["-o", "json"]].concat())
                .await?
                .failed(1)?,
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_its_way_by_the_command_line_alone() -> Result<()> {
    let desk = Desk::open().await?;
    faults_are_shown_and_definitions_are_versions(&desk).await?;
    an_order_is_paid_once_and_shipped(&desk).await?;
    several_happen_together_or_not_at_all(&desk).await?;
    it_is_migrated_listed_and_deleted(&desk).await
}

async fn faults_are_shown_and_definitions_are_versions(desk: &Desk) -> Result<()> {
    let bad = desk.file(
        "bad.yaml",
        &ORDER
            .replace("to: paid", "to: payed")
            .replace("open:", "pen:"),
    )?;
    let said = desk.ended(&["machine", "apply", &bad]).await?.failed(1)?;
    for part in ["initial", "transitions[0].to", "unknown_state", &bad] {
        ensure!(said.contains(part), "{part:?} is not in {said}");
    }
    let late = desk.file("late.yaml", &format!("{ORDER}---\n# late\nname: [late\n"))?;
    let late = ["machine", "apply", &late, "--dry-run"];
    let said = desk.ended(&late).await?;
    ensure!(said.code == Some(2), "{}", said.stderr);
    let line = ORDER.lines().count() + 3;
    let place = format!("(line {line}, ");
    ensure!(
        said.stderr.contains(&place),
        "{place} is not in {}",
        said.stderr
    );
    let broken = desk.file("broken.yaml", "name: [order\n")?;
    let said = desk
        .ended(&["machine", "apply", &broken])
        .await?
        .failed(2)?;
    ensure!(said.contains("line "), "{said}");

    let parcel = r#"{"name": "parcel", "initial": "open", "states": {"open": {}}}"#;
    let several = desk.file("several.json", &format!("{parcel}\n\n{{\"name\": }}\n"))?;
    let ended = desk.ended(&["machine", "apply", &several]).await?;
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(2), "parcel: created version 1\n")
    );
    for part in ["document 2 (line 3)", "line 3, column 10", "before it: 1"] {
        ensure!(ended.stderr.contains(part), "{part:?}: {}", ended.stderr);
    }

    let file = desk.file("order.yaml", ORDER)?;
    let apply = ["machine", "apply", &file];
    let tried = desk.run(&[&apply[..], &["--dry-run"]].concat()).await?;
    assert_eq!(tried, format!("order: would create version 1\n{TIMEOUTS}"));
    let created = format!("order: created version 1\n{TIMEOUTS}");
    assert_eq!(desk.run(&apply).await?, created);
    let unchanged = format!("order: unchanged, version 1\n{TIMEOUTS}");
    assert_eq!(desk.run(&apply).await?, unchanged);
    // What is printed as YAML is what was applied.
    let shown = desk
        .run(&["machine", "show", "order", "-o", "yaml"])
        .await?;
    let again = desk.file("again.yaml", &shown)?;
    assert_eq!(desk.run(&["machine", "apply", &again]).await?, unchanged);

    let (_, rows) = table(&desk.run(&["machine", "list"]).await?)?;
    assert_eq!(rows[0][..3], ["order", "1", "0"]);
    let shown = desk.json(&["machine", "show", "order"]).await?;
    assert_eq!(
        shown["definition"]["states"]["open"]["timeout"]["to"],
        "expired"
    );
    Ok(())
}

async fn an_order_is_paid_once_and_shipped(desk: &Desk) -> Result<()> {
    let create = ["instance", "create", "order/42", "--meta", "customer=ann"];
    assert_eq!(desk.run(&create).await?, "order/42\n");
    assert_eq!(desk.rejected(&create).await?["code"], "instance_exists");
    let made = desk.run(&["instance", "create", "order"]).await?;
    ensure!(
        made.starts_with("order/") && made.len() > "order/".len() + 1,
        "{made}"
    );

    let said = desk
        .ended(&["send", "order/42", "--event", "ship"])
        .await?
        .failed(1)?;
    ensure!(
        said.contains("allowed events: pay"),
        "it does not say what is possible: {said}"
    );
    let pay = "send order/42 --event pay --meta who=ann --idempotency-key payment-7";
    let pay: Vec<_> = pay.split(' ').collect();
    assert_eq!(desk.run(&pay).await?, "paid\n");
    let again = desk.json(&pay).await?;
    assert_eq!(
        (&again["replayed"], &again["transitioned"]["to"]),
        (&true.into(), &"paid".into())
    );
    let stale = [
        "send",
        "order/42",
        "--to",
        "shipped",
        "--expect-state",
        "open",
    ];
    assert_eq!(desk.rejected(&stale).await?["current_state"], "paid");
    let graph = [
        "machine",
        "graph",
        "order",
        "--instance",
        "42",
        "--format",
        "dot",
    ];
    let picture = desk.run(&graph).await?;
    ensure!(
        picture.contains("digraph") && picture.contains("ffd54f"),
        "{picture}"
    );
    assert_eq!(
        desk.run(&["send", "order/42", "--to", "shipped"]).await?,
        "shipped\n"
    );

    let shown = desk.json(&["instance", "get", "order/42"]).await?;
    assert_fields(
        &shown,
        json!({
            "id": "order/42", "state": "shipped", "revision": 2, "version": 1,
            "metadata": {"customer": "ann"}, "allowed": [],
        }),
    );
    let history = desk.json(&["instance", "history", "order/42"]).await?;
    let kinds: Vec<_> = history["events"]
        .as_array()
        .context("events")?
        .iter()
        .map(|event| event["kind"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(kinds, ["transitioned", "transitioned"]);
    assert_eq!(history["events"][0]["metadata"], json!({"who": "ann"}));
    Ok(())
}

async fn several_happen_together_or_not_at_all(desk: &Desk) -> Result<()> {
    let text =
        "operations:\n  - create: {id: order/43}\n  - transition: {id: order/42, event: pay}\n";
    let file = desk.file("txn.yaml", text)?;
    let rejected = desk.rejected(&["txn", &file]).await?;
    assert_fields(
        &rejected,
        json!({"code": "operation_failed", "operation": 1}),
    );
    assert_eq!(rejected["reason"]["code"], "unknown_event");
    let said = desk.ended(&["txn", &file]).await?.failed(1)?;
    ensure!(
        said.contains("order/42") && said.contains("operation 1"),
        "{said}"
    );
    assert_eq!(
        desk.rejected(&["instance", "get", "order/43"]).await?["code"],
        "unknown_instance"
    );

    let text = r#"{"operations": [{"create": {"id": "order/43"}},
        {"check": {"id": "order/42", "state": "shipped"}}]}"#;
    let file = desk.file("txn.json", text)?;
    let (_, rows) = table(&desk.run(&["txn", &file]).await?)?;
    assert_eq!(rows[0], ["0", "order/43", "created in open"]);
    assert_eq!(rows[1], ["1", "order/42", "holds"]);
    Ok(())
}

async fn it_is_migrated_listed_and_deleted(desk: &Desk) -> Result<()> {
    let next = ORDER.replace("open", "placed");
    let file = desk.file("order-2.yaml", &next)?;
    assert_eq!(
        desk.run(&["machine", "apply", &file]).await?,
        "order: created version 2\n  placed: after 1 hour -> expired\n"
    );
    let migrate = ["instance", "migrate", "order/43", "--dry-run"];
    let rejected = desk.rejected(&migrate).await?;
    assert_eq!(rejected["code"], "unmapped_state");
    ensure!(
        rejected["known"]
            .as_array()
            .is_some_and(|known| known.contains(&"placed".into()))
    );
    let mapped = [&migrate[..], &["--map", "open=placed"]].concat();
    let would = "order/43: would go from version 1 to 2, from state open to placed\n";
    assert_eq!(desk.run(&mapped).await?, would);
    let did = desk
        .run(&["instance", "migrate", "order/43", "--map", "open=placed"])
        .await?;
    assert_eq!(did, would.replace("would go", "went"));

    let list = ["instance", "list", "order", "--label", "customer=ann"];
    let (_, rows) = table(&desk.run(&list).await?)?;
    assert_eq!((rows.len(), rows[0][0].as_str()), (1, "order/42"));
    let placed = desk
        .json(&["instance", "list", "order", "--state", "placed"])
        .await?;
    assert_eq!(
        (&placed["total"], &placed["instances"][0]["id"]),
        (&1.into(), &"order/43".into())
    );

    let used = desk
        .rejected(&["machine", "delete", "order", "--version", "1"])
        .await?;
    assert_eq!(used["code"], "definition_in_use");
    let deleted = desk
        .run(&[
            "instance",
            "delete",
            "order/42",
            "--expect-state",
            "shipped",
        ])
        .await?;
    assert_eq!(
        deleted,
        "order/42: deleted in state shipped at revision 2\n"
    );
    assert_eq!(
        desk.rejected(&["instance", "get", "order/42"]).await?["code"],
        "unknown_instance"
    );
    Ok(())
}
