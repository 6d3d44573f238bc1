//! What the cluster says, as a table for people and as JSON for programs.

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::http::ClusterView;
use serde_json::{Value, json};

use super::{assert_fields, endpoints, lockstep, table};

/// A cluster that keeps still, and what it says of itself over HTTP.
struct Still {
    cluster: Cluster,
    endpoints: String,
    views: Vec<ClusterView>,
    leader: usize,
}

impl Still {
    /// Its leader stays where it is, however busy the machine: what is asked one after another
    /// is compared.
    async fn start() -> Result<Self> {
        let plan = Plan::default()
            .with("LOCKSTEP_RAFT_ELECTION_TIMEOUT_MIN", "3s")
            .with("LOCKSTEP_RAFT_ELECTION_TIMEOUT_MAX", "6s");
        let cluster = Cluster::start_as(plan).await?;
        let endpoints = endpoints(&cluster, 0..3);
        lockstep(&["next", "third", "-e", &endpoints])
            .await?
            .done()?;
        cluster.agree().await?;
        let leader = cluster.leader().await?;
        let views = cluster.views().await?;
        Ok(Self {
            cluster,
            endpoints,
            views: views.into_iter().map(|(_, view)| view).collect(),
            leader,
        })
    }

    /// What a command shows: the rows of its table, and its JSON.
    async fn shown(&self, command: &str) -> Result<(Vec<Vec<String>>, Value)> {
        let arguments = [command, "-e", &self.endpoints];
        let (header, rows) = table(&lockstep(&arguments).await?.done()?)?;
        ensure!(
            header.iter().all(|name| *name == name.to_uppercase()),
            "{header:?}"
        );
        let json = lockstep(&[&arguments[..], &["-o", "json"]].concat())
            .await?
            .json()?;
        Ok((rows, json))
    }

    /// The leader's id and its term, as the command line writes them.
    fn leadership(&self) -> (String, u64) {
        let view = &self.views[self.leader];
        (view.node_id.to_string(), view.term)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_tables_for_people_and_json_for_programs() -> Result<()> {
    let still = Still::start().await?;
    get_shows_the_instance(&still).await?;
    leader_shows_who_leads(&still).await?;
    members_shows_every_member(&still).await?;
    status_shows_every_endpoint(&still).await?;
    version_shows_program_and_nodes(&still).await
}

async fn get_shows_the_instance(still: &Still) -> Result<()> {
    let (rows, json) = still.shown("get").await?;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0][..4], ["triad/default", "third", "1", "first"]);
    assert_fields(
        &json,
        json!({
            "instance": "triad/default", "state": "third", "revision": 1, "allowed": ["first"],
        }),
    );
    let changed = json["changed_at_ms"].as_u64().context("when it changed")?;
    assert!(changed >= json["created_at_ms"].as_u64().context("when it was made")?);
    Ok(())
}

async fn leader_shows_who_leads(still: &Still) -> Result<()> {
    let (rows, json) = still.shown("leader").await?;
    let (id, term) = still.leadership();
    let node = &still.cluster.nodes[still.leader];
    let (name, grpc, http) = (&node.name, node.grpc_address(), node.http_address());
    assert_eq!(rows.len(), 1);
    assert_eq!(
        rows[0].join(" "),
        format!("{name} {id} {term} {grpc} {http}")
    );
    assert_eq!(json["term"], term);
    assert_fields(
        &json["leader"],
        json!({ "name": name, "id": id, "grpc_address": grpc, "http_address": http }),
    );
    Ok(())
}

async fn members_shows_every_member(still: &Still) -> Result<()> {
    let (rows, json) = still.shown("members").await?;
    let (leader_id, term) = still.leadership();
    let cluster_id = &still.views[0].cluster_id;
    assert_fields(
        &json,
        json!({ "cluster_id": cluster_id, "term": term, "leader_id": leader_id }),
    );
    let members = json["members"].as_array().context("members")?;
    assert_eq!((rows.len(), members.len()), (3, 3));
    for (view, node) in still.views.iter().zip(&still.cluster.nodes) {
        let (name, id) = (&view.node, view.node_id.to_string());
        let (grpc, http) = (node.grpc_address(), node.http_address());
        let row = rows.iter().find(|row| row[0] == *name).context("a row")?;
        assert_eq!(row[..4].join(" "), format!("{name} {id} {} yes", view.role));
        let addresses = row[row.len() - 2..].join(" ");
        assert_eq!(addresses, format!("{grpc} {http}"));
        let member = members.iter().find(|member| member["id"] == id);
        assert_fields(
            member.context("a member")?,
            json!({ "name": name, "voter": true, "grpc_address": grpc, "http_address": http }),
        );
        let report = &member.context("a member")?["report"];
        assert_fields(
            report,
            json!({ "role": view.role, "version": env!("CARGO_PKG_VERSION") }),
        );
    }
    Ok(())
}

async fn status_shows_every_endpoint(still: &Still) -> Result<()> {
    let (rows, json) = still.shown("status").await?;
    let (leader_id, term) = still.leadership();
    let leader = &still.views[still.leader].node;
    let nodes = json["nodes"].as_array().context("nodes")?;
    assert_eq!((rows.len(), nodes.len()), (3, 3));
    for (position, view) in still.views.iter().enumerate() {
        let ClusterView { node, role, .. } = view;
        let (endpoint, id) = (
            endpoints(&still.cluster, [position]),
            view.node_id.to_string(),
        );
        assert_eq!(
            rows[position][..6].join(" "),
            format!("{endpoint} {node} {id} {role} {term} {leader}")
        );
        let shown = &nodes[position];
        assert_fields(
            shown,
            json!({
                "endpoint": endpoint, "reachable": true, "cluster_id": view.cluster_id,
                "role": role, "term": term, "leader_id": leader_id,
            }),
        );
        assert_fields(&shown["node"], json!({ "name": node, "id": id }));
        assert_eq!(shown["members"].as_array().map(Vec::len), Some(3));
    }
    let arguments = ["status", "--hash", "-e", &still.endpoints, "-o", "json"];
    let hashes = lockstep(&arguments).await?.json()?;
    let (_, expected) = still.cluster.nodes[0].api().state_hash().await?;
    for node in hashes["nodes"].as_array().context("nodes")? {
        assert_eq!(node["state_hash"], expected, "{node}");
    }
    Ok(())
}

async fn version_shows_program_and_nodes(still: &Still) -> Result<()> {
    let (rows, json) = still.shown("version").await?;
    let served = still.cluster.nodes[0].api().get("/version").await?.json()?;
    let version = served["Version"].as_str().context("a version")?;
    let servers = json["servers"].as_array().context("servers")?;
    assert_eq!((rows.len(), servers.len()), (4, 3));
    assert_eq!(rows[0][0], "lockstep");
    assert_eq!(json["client"]["version"], rows[0][2]);
    for (view, (row, server)) in still.views.iter().zip(rows[1..].iter().zip(servers)) {
        assert_eq!(row[1..3], [view.node.as_str(), version]);
        assert_fields(server, json!({ "name": view.node, "version": version }));
    }
    Ok(())
}
