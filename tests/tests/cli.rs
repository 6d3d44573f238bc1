//! The command line `lockstep` against real clusters: what it prints where, and its exit codes.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::binaries;
use lockstep_tests::cluster::{Cluster, Discovery, Plan, READY_DEADLINE};
use lockstep_tests::consul::ConsulAgent;
use lockstep_tests::ports::Port;
use lockstep_tests::program::{self, Ended};
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::{Value, json};

/// For a run of the program; more than its own default of 5 s.
const RUN_DEADLINE: Duration = Duration::from_secs(20);
/// What starting and ending a process may cost on top of its own deadline, on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// Every command, so that a new one is not forgotten here.
const COMMANDS: [&str; 8] = [
    "next",
    "get",
    "status",
    "members",
    "leader",
    "discover",
    "version",
    "completions",
];

async fn run(mut command: Command, arguments: &[&str]) -> Result<Ended> {
    command.args(arguments);
    program::run(command, RUN_DEADLINE).await
}

async fn lockstep(arguments: &[&str]) -> Result<Ended> {
    run(binaries::lockstep()?, arguments).await
}

/// The gRPC addresses of `nodes`, in this order, as a user lists them.
fn endpoints(cluster: &Cluster, nodes: impl IntoIterator<Item = usize>) -> String {
    let addresses: Vec<_> = nodes
        .into_iter()
        .map(|position| cluster.nodes[position].grpc_address().to_string())
        .collect();
    addresses.join(",")
}

/// A table's header and its rows, cell by cell: columns are two spaces apart.
fn table(text: &str) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let cells = |line: &str| -> Vec<String> {
        line.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(String::from)
            .collect()
    };
    let mut lines = text.lines().map(cells);
    let header = lines.next().context("a table without a header")?;
    let rows: Vec<_> = lines.collect();
    for row in &rows {
        ensure!(row.len() == header.len(), "{row:?} under {header:?}");
    }
    Ok((header, rows))
}

/// A refusal told as JSON: one document on standard error.
fn error(said: &str) -> Result<Value> {
    let document: Value = serde_json::from_str(said).with_context(|| format!("{said:?}"))?;
    Ok(document["error"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn next_moves_and_every_refusal_says_why_and_exits_1() -> Result<()> {
    let cluster = Cluster::start().await?;
    let all = endpoints(&cluster, 0..3);
    let api = cluster.nodes[0].api();

    assert_eq!(
        lockstep(&["next", "third", "-e", &all]).await?.done()?,
        "third\n"
    );
    assert_eq!(api.instance().await?, ("third".to_owned(), 1));

    let said = lockstep(&["next", "second", "-e", &all]).await?.failed(1)?;
    assert!(
        said.starts_with("lockstep: ") && said.contains(r#"allowed from "third": first"#),
        "{said}"
    );
    let refused = error(
        &lockstep(&["next", "second", "-e", &all, "-o", "json"])
            .await?
            .failed(1)?,
    )?;
    assert_eq!(refused["code"], "illegal_transition");
    assert_eq!(
        (&refused["current_state"], &refused["current_revision"]),
        (&json!("third"), &json!(1))
    );
    assert_eq!(refused["allowed"], json!(["first"]));

    for (arguments, part) in [
        (&["next", "fourth"][..], "fourth"),
        (&["next", "first", "-i", "triad/none"], "triad/none"),
        (&["next", "first", "-i", "none/default"], "none"),
        (&["get", "triad/none"], "triad/none"),
        (&["next", "first", "--expect-state", "second"], "third"),
        (&["next", "first", "--expect-revision", "7"], "7"),
    ] {
        let said = lockstep(&[arguments, &["-e", &all]].concat())
            .await?
            .failed(1)?;
        assert!(
            said.contains(part),
            "{arguments:?}: {part:?} is not named: {said}"
        );
    }
    assert_eq!(api.instance().await?, ("third".to_owned(), 1));

    // What is expected and holds is no hindrance, and the same key is one move.
    let keyed = [
        "next",
        "first",
        "--expect-state",
        "third",
        "--expect-revision",
        "1",
        "--key",
        "order-42",
        "-e",
        &all,
        "-o",
        "json",
    ];
    let moved = lockstep(&keyed).await?.json()?;
    assert_eq!(
        (&moved["instance"], &moved["from"], &moved["state"]),
        (&json!("triad/default"), &json!("third"), &json!("first"))
    );
    assert_eq!(
        (&moved["revision"], &moved["replayed"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(
        lockstep(&["next", "second", "-e", &all]).await?.done()?,
        "second\n"
    );
    let mut again = lockstep(&keyed).await?.json()?;
    assert_eq!(again["replayed"], true);
    again["replayed"] = false.into();
    assert_eq!(again, moved, "the stored outcome");
    assert_eq!(api.instance().await?, ("second".to_owned(), 3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_says_is_a_table_for_people_and_json_for_programs() -> Result<()> {
    let cluster = Cluster::start().await?;
    let all = endpoints(&cluster, 0..3);
    let shown = async |command: &str| -> Result<(Vec<Vec<String>>, Value)> {
        let arguments = [command, "-e", all.as_str()];
        let (header, rows) = table(&lockstep(&arguments).await?.done()?)?;
        ensure!(
            header.iter().all(|name| *name == name.to_uppercase()),
            "{header:?}"
        );
        let json = lockstep(&[&arguments[..], &["-o", "json"]].concat())
            .await?
            .json()?;
        Ok((rows, json))
    };
    lockstep(&["next", "third", "-e", &all]).await?.done()?;
    cluster.agree().await?;
    let leader = cluster.leader().await?;
    let views: Vec<_> = cluster
        .views()
        .await?
        .into_iter()
        .map(|(_, view)| view)
        .collect();
    let (leader_name, leader_id) = (&views[leader].node, views[leader].node_id.to_string());
    let term = views[leader].term;

    let (rows, json) = shown("get").await?;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0][..4], ["triad/default", "third", "1", "first"]);
    assert_eq!(
        (
            &json["instance"],
            &json["state"],
            &json["revision"],
            &json["allowed"]
        ),
        (
            &json!("triad/default"),
            &json!("third"),
            &json!(1),
            &json!(["first"])
        )
    );
    let changed = json["changed_at_ms"].as_u64().context("when it changed")?;
    assert!(changed >= json["created_at_ms"].as_u64().context("when it was made")?);

    let (rows, json) = shown("leader").await?;
    let node = &cluster.nodes[leader];
    let (grpc, http) = (
        node.grpc_address().to_string(),
        node.http_address().to_string(),
    );
    assert_eq!(rows.len(), 1);
    assert_eq!(
        rows[0].join(" "),
        format!("{leader_name} {leader_id} {term} {grpc} {http}")
    );
    assert_eq!(json["term"], term);
    let told = &json["leader"];
    assert_eq!(
        (
            &told["name"],
            &told["id"],
            &told["grpc_address"],
            &told["http_address"]
        ),
        (
            &json!(leader_name),
            &json!(leader_id),
            &json!(grpc),
            &json!(http)
        )
    );

    let (rows, json) = shown("members").await?;
    let members = json["members"].as_array().context("members")?;
    assert_eq!((rows.len(), members.len()), (3, 3));
    assert_eq!(
        (&json["cluster_id"], &json["term"], &json["leader_id"]),
        (&json!(views[0].cluster_id), &json!(term), &json!(leader_id))
    );
    for (view, node) in views.iter().zip(&cluster.nodes) {
        let id = view.node_id.to_string();
        let row = rows
            .iter()
            .find(|row| row[0] == view.node)
            .context("a row")?;
        let leads = if view.leads() { "yes" } else { "no" };
        let (grpc, http) = (
            node.grpc_address().to_string(),
            node.http_address().to_string(),
        );
        assert_eq!(
            row[..6].join(" "),
            format!("{} {id} yes {leads} {grpc} {http}", view.node)
        );
        let member = members
            .iter()
            .find(|member| member["id"] == id)
            .context("a member")?;
        assert_eq!(
            (&member["name"], &member["voter"]),
            (&json!(view.node), &json!(true))
        );
        assert_eq!(
            (&member["grpc_address"], &member["http_address"]),
            (&json!(grpc), &json!(http))
        );
    }

    let (rows, json) = shown("status").await?;
    let nodes = json["nodes"].as_array().context("nodes")?;
    assert_eq!((rows.len(), nodes.len()), (3, 3));
    for (position, (view, (row, node))) in views.iter().zip(rows.iter().zip(nodes)).enumerate() {
        let (endpoint, id) = (endpoints(&cluster, [position]), view.node_id.to_string());
        assert_eq!(
            row[..6].join(" "),
            format!(
                "{endpoint} {} {id} {} {term} {leader_name}",
                view.node, view.role
            )
        );
        assert_eq!(
            (
                &node["endpoint"],
                &node["reachable"],
                &node["node"]["name"],
                &node["node"]["id"]
            ),
            (
                &json!(endpoint),
                &json!(true),
                &json!(view.node),
                &json!(id)
            )
        );
        assert_eq!(
            (
                &node["cluster_id"],
                &node["role"],
                &node["term"],
                &node["leader_id"]
            ),
            (
                &json!(view.cluster_id),
                &json!(view.role),
                &json!(view.term),
                &json!(leader_id)
            )
        );
        assert_eq!(node["members"].as_array().map(Vec::len), Some(3));
    }
    let hashes = lockstep(&["status", "--hash", "-e", &all, "-o", "json"])
        .await?
        .json()?;
    let (_, expected) = cluster.nodes[0].api().state_hash().await?;
    for node in hashes["nodes"].as_array().context("nodes")? {
        assert_eq!(node["state_hash"], expected, "{node}");
    }

    let (rows, json) = shown("version").await?;
    let served = cluster.nodes[0].api().get("/version").await?.json()?;
    let version = served["Version"].as_str().context("a version")?;
    assert_eq!((rows.len(), rows[0][0].as_str()), (4, "lockstep"));
    assert!(
        rows[1..]
            .iter()
            .zip(&views)
            .all(|(row, view)| row[1] == view.node && row[2] == version),
        "{rows:?}"
    );
    assert_eq!(json["client"]["version"], rows[0][2]);
    let servers = json["servers"].as_array().context("servers")?;
    assert_eq!(servers.len(), 3);
    assert!(
        servers.iter().all(|server| server["version"] == version),
        "{json}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_past_a_leader_that_is_dead_or_hangs() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let leader = cluster.leader().await?;
    let leader_first = |leader: usize| (0..3).map(move |offset| (leader + offset) % 3);
    let all = endpoints(&cluster, leader_first(leader));

    cluster.nodes[leader].kill9()?;
    // While there is no leader yet: within the command's own deadline of 5 s.
    let moved = lockstep(&["next", "second", "-e", &all, "-o", "json"])
        .await?
        .json()?;
    assert_eq!(
        (&moved["state"], &moved["revision"], &moved["replayed"]),
        (&json!("second"), &json!(1), &json!(false))
    );
    let shown = lockstep(&["status", "-e", &all]).await?;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let (_, rows) = table(&shown.stdout)?;
    let dead = cluster.nodes[leader].grpc_address().to_string();
    assert_eq!(
        (rows[0][0].as_str(), rows[0][3].as_str()),
        (dead.as_str(), "unreachable")
    );
    assert!(
        shown.stderr.contains(&dead) && shown.stderr.contains("refused"),
        "why it has no line of its own: {shown:?}"
    );
    cluster.nodes[leader].restart().await?;

    // One whose connections open and stay silent.
    let leader = cluster.leader().await?;
    let all = endpoints(&cluster, leader_first(leader));
    cluster.nodes[leader].pause()?;
    assert_eq!(
        lockstep(&["next", "third", "-e", &all]).await?.done()?,
        "third\n"
    );
    cluster.nodes[leader].resume()?;
    let agreed = cluster.nodes[leader].api().instance().await?;
    assert_eq!(agreed, ("third".to_owned(), 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_majority_is_unavailable_within_the_deadline_and_a_key_bridges_it() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let all = endpoints(&cluster, 0..3);
    let leader = cluster.leader().await?;
    let (survivor, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[leader].kill9()?;
    cluster.nodes[other].kill9()?;

    let keyed = ["next", "second", "--key", "bridge", "-e", &all];
    for arguments in [
        &keyed[..],
        &["next", "third", "-e", &all],
        &["get", "-e", &all],
    ] {
        let ended = lockstep(&[arguments, &["--timeout", "1500ms"]].concat()).await?;
        assert!(
            ended.took < Duration::from_millis(1500) + SLACK,
            "{arguments:?} took {:?}",
            ended.took
        );
        let said = ended.failed(3)?;
        assert!(
            said.contains(&cluster.nodes[other].grpc_address().to_string()),
            "{arguments:?}: it does not say whom it tried: {said}"
        );
    }
    let told = lockstep(&["get", "-e", &all, "--timeout", "1s", "-o", "json"]).await?;
    assert_eq!(error(&told.failed(3)?)?["code"], "unavailable");

    // What one node can say by itself, it still says.
    let alone = endpoints(&cluster, [survivor]);
    let read = lockstep(&["get", "--stale", "-e", &alone, "-o", "json"])
        .await?
        .json()?;
    assert_eq!(
        (&read["state"], &read["revision"]),
        (&json!("first"), &json!(0))
    );
    let seen = lockstep(&["status", "-e", &all, "-o", "json"])
        .await?
        .json()?;
    let reachable = |position: usize| seen["nodes"][position]["reachable"].as_bool();
    assert_eq!(
        [leader, survivor, other].map(reachable),
        [Some(false), Some(true), Some(false)]
    );

    cluster.nodes[other].restart().await?;
    assert_eq!(lockstep(&keyed).await?.done()?, "second\n");
    assert_eq!(
        cluster.nodes[survivor].api().instance().await?,
        ("second".to_owned(), 1)
    );
    Ok(())
}

#[tokio::test]
async fn where_nobody_listens_it_is_unavailable_at_the_deadline() -> Result<()> {
    // Kept, and never listened on.
    let closed = [Port::free()?, Port::free()?];
    let [first, second] = closed.each_ref().map(|port| port.address().to_string());
    let list = format!("{first},{second}");
    for arguments in [
        &["next", "second"][..],
        &["get"],
        &["get", "--stale"],
        &["leader"],
        &["members"],
    ] {
        let ended = lockstep(&[arguments, &["-e", &list, "--timeout", "500ms"]].concat()).await?;
        assert!(
            ended.took < Duration::from_millis(500) + SLACK,
            "{arguments:?} took {:?}",
            ended.took
        );
        let said = ended.failed(3)?;
        for part in [first.as_str(), &second, "refused"] {
            assert!(said.contains(part), "{arguments:?}: no {part:?} in {said}");
        }
    }
    // The environment is where endpoints come from when none is typed.
    let mut command = binaries::lockstep()?;
    command.env("LOCKSTEP_ENDPOINTS", &first);
    let said = run(command, &["get", "--timeout", "300ms", "-o", "json"])
        .await?
        .failed(3)?;
    let told = error(&said)?;
    assert_eq!(told["code"], "unavailable");
    assert!(
        told["message"]
            .as_str()
            .is_some_and(|text| text.contains(&first)),
        "{told}"
    );
    Ok(())
}

#[tokio::test]
async fn what_makes_no_sense_is_a_usage_error_that_names_it() -> Result<()> {
    for (arguments, part) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["next"], "STATE"),
        (&["next", "second", "third"], "third"),
        (&["get", "--frobnicate"], "--frobnicate"),
        (&["get", "-e", "nowhere"], "nowhere"),
        (&["get", "-e", "127.0.0.1:99999"], "99999"),
        (&["get", "-e", "http://127.0.0.1:4333/path"], "/path"),
        (&["get", "-o", "xml"], "xml"),
        (&["get", "--timeout=-1s"], "--timeout"),
        (&["next", "second", "--expect-revision", "two"], "two"),
        (
            &["get", "--consul", "ftp://127.0.0.1:8500"],
            "ftp://127.0.0.1:8500",
        ),
        (&["discover"], "--consul"),
        (&["completions", "tcsh"], "tcsh"),
    ] {
        let ended = lockstep(arguments).await?;
        // Decided here: no cluster was waited for.
        assert!(ended.took < SLACK, "{arguments:?} took {:?}", ended.took);
        let said = ended.failed(2).with_context(|| format!("{arguments:?}"))?;
        assert!(said.contains(part), "{arguments:?}: no {part:?} in {said}");
    }
    Ok(())
}

#[tokio::test]
async fn every_command_explains_itself() -> Result<()> {
    let help = lockstep(&["--help"]).await?.done()?;
    let listed: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed, COMMANDS, "{help}");
    assert!(help.contains("Exit codes: 0 "), "{help}");
    for command in COMMANDS {
        let help = lockstep(&[command, "--help"]).await?.done()?;
        assert!(
            help.contains(&format!("Usage: lockstep {command}")),
            "{help}"
        );
        assert!(
            help.contains("--endpoint") && help.contains("--output"),
            "{help}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn completions_are_scripts_that_shells_accept_and_that_complete() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for shell in ["bash", "zsh", "fish"] {
        let script = lockstep(&["completions", shell]).await?.done()?;
        for command in COMMANDS {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
        let file = folder.path().join(shell);
        std::fs::write(&file, script)?;
        // Bash is on every machine that runs scripts/test; the others are checked where they are.
        if shell == "bash" || on_path(shell) {
            let mut check = Command::new(shell);
            check.arg("-n").arg(&file);
            assert_eq!(program::run(check, RUN_DEADLINE).await?.done()?, "");
        }
    }
    // What a user gets for `lockstep st<Tab>` and `lockstep get --st<Tab>`.
    for (words, expected) in [("st", "status\n"), ("get --st", "--stale\n")] {
        let line = format!(
            "source ./bash; COMP_WORDS=(lockstep {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _lockstep lockstep \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &line]).current_dir(&folder);
        assert_eq!(
            program::run(bash, RUN_DEADLINE).await?.done()?,
            expected,
            "{words}"
        );
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_consul_alone_it_finds_the_cluster() -> Result<()> {
    let mut agent = ConsulAgent::start()?;
    let url = agent.url();
    let mut cluster = Cluster::lay_out(Plan {
        discovery: Discovery::Consul {
            url: url.clone(),
            service: "machines".to_owned(),
        },
        ..Plan::default()
    })?;
    cluster.nodes[0].set("LOCKSTEP_CONSUL_TAGS", "blue");
    cluster.start_all()?;
    cluster.wait_ready().await?;
    let consul = ["--consul", &url, "--service", "machines"];
    let found = async |arguments: &[&str]| lockstep(&[&consul, arguments].concat()).await;

    // Consul learns in its own time that a node passes, and which cluster it came to belong to.
    let services = wait_for("three nodes of a cluster", READY_DEADLINE, async || {
        let listed = found(&["discover", "-o", "json"]).await?.json()?;
        let services = listed["services"].as_array().context("services")?.clone();
        ensure!(services.len() == 3, "{listed}");
        ensure!(
            services.iter().all(|entry| entry["cluster_id"].is_string()),
            "{listed}"
        );
        Ok(services)
    })
    .await?;
    let views = cluster.views().await?;
    let (header, rows) = table(&found(&["discover"]).await?.done()?)?;
    assert_eq!(header, ["NAME", "ID", "CLUSTER", "GRPC", "HTTP", "TAGS"]);
    assert_eq!(rows.len(), 3);
    for (position, view) in &views {
        let node = &cluster.nodes[*position];
        let entry = services
            .iter()
            .find(|entry| entry["name"] == view.node)
            .with_context(|| format!("{} is not listed: {services:?}", view.node))?;
        let (id, grpc, http) = (
            view.node_id.to_string(),
            node.grpc_address().to_string(),
            node.http_address().to_string(),
        );
        assert_eq!(
            (&entry["node_id"], &entry["cluster_id"]),
            (&json!(id), &json!(view.cluster_id))
        );
        assert_eq!(
            (&entry["grpc_address"], &entry["http_address"]),
            (&json!(grpc), &json!(http))
        );
        let tags: &[&str] = if *position == 0 {
            &["lockstep", "blue"]
        } else {
            &["lockstep"]
        };
        assert_eq!(entry["tags"], json!(tags));
        let row = rows
            .iter()
            .find(|row| row[0] == view.node)
            .context("a row")?;
        assert_eq!(
            row[1..5].join(" "),
            format!("{id} {} {grpc} {http}", view.cluster_id)
        );
        assert_eq!(row[5], tags.join(", "));
    }

    assert_eq!(found(&["next", "second"]).await?.done()?, "second\n");
    let (_, rows) = table(&found(&["status"]).await?.done()?)?;
    let mut shown: Vec<_> = rows.iter().map(|row| row[1].as_str()).collect();
    shown.sort_unstable();
    assert_eq!(shown, ["node1", "node2", "node3"]);
    let (_, rows) = table(&found(&["--tag", "blue", "status"]).await?.done()?)?;
    assert_eq!((rows.len(), rows[0][1].as_str()), (1, "node1"));
    let said = found(&["--tag", "red", "get", "--timeout", "500ms"])
        .await?
        .failed(3)?;
    assert!(said.contains("machines") && said.contains("red"), "{said}");
    // The same from the environment.
    let mut command = binaries::lockstep()?;
    command.env("LOCKSTEP_CONSUL", &url);
    let moved = run(command, &["--service", "machines", "next", "third"]).await?;
    assert_eq!(moved.done()?, "third\n");

    agent.stop();
    let address = agent.http_address().to_string();
    for arguments in [
        &["next", "first"][..],
        &["get"],
        &["status"],
        &["leader"],
        &["discover"],
    ] {
        let ended = found(&[arguments, &["--timeout", "1s"]].concat()).await?;
        assert!(
            ended.took < Duration::from_secs(1) + SLACK,
            "{arguments:?} took {:?}",
            ended.took
        );
        let said = ended.failed(3)?;
        assert!(
            said.contains(&address) && said.contains("refused"),
            "{arguments:?}: the agent is not named: {said}"
        );
    }
    // Endpoints beside it are enough, and nothing was moved by what failed.
    let node = cluster.nodes[1].grpc_address().to_string();
    let read = found(&["get", "-e", &node, "-o", "json"]).await?.json()?;
    assert_eq!(
        (&read["state"], &read["revision"]),
        (&json!("third"), &json!(2))
    );
    cluster.nodes[1]
        .api()
        .next("first")
        .await?
        .expect(StatusCode::OK)?;
    Ok(())
}

#[tokio::test]
async fn a_consul_agent_that_hangs_is_named_at_the_deadline() -> Result<()> {
    // Connections open, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let address = silent.local_addr()?.to_string();
    let url = format!("http://{address}");
    let arguments = ["--consul", &url, "--timeout", "500ms", "discover"];
    let ended = lockstep(&arguments).await?;
    assert!(
        ended.took < Duration::from_millis(500) + SLACK,
        "it took {:?}",
        ended.took
    );
    let said = ended.failed(3)?;
    assert!(said.contains(&address), "the agent is not named: {said}");
    Ok(())
}
