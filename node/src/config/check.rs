//! Validates the node's settings against each other, and derives those that depend on others.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::keys::StaticPeer;
use super::shape::Value;
use super::values::Values;
use lockstep_raft::consensus::network::ENTRY_BYTES_MAX;

/// With fewer entries, a follower that lags a little needs a snapshot, and falls behind again while it
/// receives it.
const LOG_KEEP_ENTRIES_ADVISED: u64 = 200_000;
/// The default of `discovery.expect` where nodes are not listed.
const EXPECT_UNLISTED: usize = 3;

pub(super) fn check(values: &mut Values) {
    identity(values);
    addresses(values);
    peers(values);
    dns(values);
    expect(values);
    unused(values);
    timings(values);
    sizes(values);
}

fn identity(values: &mut Values) {
    match values.get::<String>("name") {
        Some(name) if values.entry("data_dir").is_none() => {
            let path = Path::new("lockstep-data").join(name);
            values.derive("data_dir", Value::text(path.to_string_lossy()));
        }
        None if values.good(&["name"]) => values.missing(
            "name",
            "give this node a name that is unique in the cluster: --name node1 or LOCKSTEP_NAME=node1",
        ),
        _ => {}
    }
}

fn kind(values: &Values) -> String {
    values.get_or_default("discovery.kind")
}

fn is_static(values: &Values) -> bool {
    kind(values) == "static"
}

fn listed_peers(values: &Values) -> Vec<StaticPeer> {
    values.get_or_default("discovery.peers")
}

/// This node's address in the list of peers.
fn own_peer(values: &Values) -> Option<String> {
    let name: String = values.get("name")?;
    let peers = match is_static(values) {
        true => listed_peers(values),
        false => Vec::new(),
    };
    let own = peers.into_iter().find(|peer| peer.name == name)?;
    Some(own.grpc)
}

fn addresses(values: &mut Values) {
    advertise(values, "http.advertise", "http.listen", None);
    let own_peer = own_peer(values);
    advertise(values, "grpc.advertise", "grpc.listen", own_peer);
    if !values.good(&["http.listen", "grpc.listen"]) {
        return;
    }
    let (Some(http), Some(grpc)) = (
        values.get::<SocketAddr>("http.listen"),
        values.get::<SocketAddr>("grpc.listen"),
    ) else {
        return;
    };
    let same_ip =
        http.ip() == grpc.ip() || http.ip().is_unspecified() || grpc.ip().is_unspecified();
    if http.port() == grpc.port() && http.port() != 0 && same_ip {
        values.conflict(format!(
            "{} and {} use the same port: change one",
            values.cite("http.listen"),
            values.cite("grpc.listen")
        ));
    }
}

/// The advertised address is the one that was set, else the one in the list of peers, else the
/// address to listen on if others can connect to it.
fn advertise(values: &mut Values, key: &str, listen_key: &str, own_peer: Option<String>) {
    let Some(listen) = values.get::<SocketAddr>(listen_key) else {
        return;
    };
    if values.entry(key).is_some() || !values.good(&[key, listen_key]) {
        return;
    }
    if own_peer.is_none() && (listen.ip().is_unspecified() || listen.port() == 0) {
        let env = format!("LOCKSTEP_{}", key.replace('.', "_").to_uppercase());
        values.conflict(format!(
            "other hosts cannot connect to {}: set {key} ({env}) to the host:port at which they reach this node",
            values.cite(listen_key)
        ));
        return;
    }
    let address = own_peer.unwrap_or_else(|| listen.to_string());
    values.derive(key, Value::text(address));
}

fn peers(values: &mut Values) {
    let Some(name) = values.get::<String>("name") else {
        return;
    };
    if !is_static(values) || !values.good(&["discovery.kind", "discovery.peers", "name"]) {
        return;
    }
    let advertised = values.get::<String>("grpc.advertise");
    let peers = listed_peers(values);
    if peers.is_empty() {
        if let Some(address) = advertised {
            values.derive("discovery.peers", Value::peers(&[(name, address)]));
        }
        return;
    }
    let Some(own) = peers.iter().find(|peer| peer.name == name) else {
        let names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
        values.conflict(format!(
            "{} is not among the peers {} ({}): list every node, including this one",
            values.cite("name"),
            names.join(", "),
            values.origin("discovery.peers")
        ));
        return;
    };
    if advertised.is_some_and(|address| address != own.grpc) {
        values.warn(format!(
            "{} differs from this node's address in discovery.peers, {}",
            values.cite("grpc.advertise"),
            own.grpc
        ));
    }
    let listen = values.get::<SocketAddr>("grpc.listen");
    let same_port = |it: SocketAddr| own.grpc.ends_with(&format!(":{}", it.port()));
    if values.good(&["grpc.listen"]) && !listen.is_some_and(same_port) {
        values.warn(format!(
            "{} has another port than this node's address in discovery.peers, {}: this works only with port forwarding",
            values.cite("grpc.listen"),
            own.grpc
        ));
    }
}

fn dns(values: &mut Values) {
    if kind(values) != "dns" || !values.good(&["discovery.kind"]) {
        return;
    }
    for (key, what) in [
        (
            "discovery.dns",
            "give the host name that resolves to all nodes, and the port of their gRPC interface, for example lockstep:4333",
        ),
        (
            "discovery.bootstrap_node",
            "name the only node that may bootstrap the cluster, the same on all nodes, for example lockstep-0",
        ),
    ] {
        if values.entry(key).is_none() && values.good(&[key]) {
            values.missing(key, what);
        }
    }
}

fn expect(values: &mut Values) {
    if !values.good(&["discovery.kind", "discovery.peers", "discovery.expect"]) {
        return;
    }
    let listed = listed_peers(values).len();
    if values.entry("discovery.expect").is_none() {
        let expect = match is_static(values) {
            true => listed,
            false => EXPECT_UNLISTED,
        };
        values.derive("discovery.expect", Value::count(expect as u64));
    }
    let expect: usize = values.get_or_default("discovery.expect");
    let cited = values.cite("discovery.expect");
    if is_static(values) && listed > 0 && expect > listed {
        values.conflict(format!(
            "{cited} can never be reached: discovery.peers lists {listed}; list them all, or expect {listed}"
        ));
    }
    if is_static(values) && expect < listed {
        values.conflict(format!(
            "{cited} is less than the {listed} nodes in discovery.peers: some of them could bootstrap a second cluster while the others are down; leave it unset"
        ));
    }
    if expect.is_multiple_of(2) {
        values.warn(format!(
            "{cited}: an even number of nodes tolerates no more failures than one node fewer"
        ));
    }
}

/// Settings of the kinds of discovery that were not chosen.
fn unused(values: &mut Values) {
    let kind = kind(values);
    let others = [
        ("static", "discovery.peers"),
        ("consul", "consul."),
        ("dns", "discovery.dns"),
        ("dns", "discovery.bootstrap_node"),
    ];
    let unused = others.into_iter().filter(|(of, _)| *of != kind);
    let idle: Vec<String> = unused
        .flat_map(|(_, prefix)| values.set_below(prefix))
        .map(|path| format!("{path} ({})", values.origin(path)))
        .collect();
    if !idle.is_empty() && values.good(&["discovery.kind"]) {
        values.warn(format!(
            "ignored because discovery.kind is {kind}: {}",
            idle.join(", ")
        ));
    }
}

fn timings(values: &mut Values) {
    let [heartbeat_key, min_key, max_key, request_key] = [
        "raft.heartbeat",
        "raft.election_timeout_min",
        "raft.election_timeout_max",
        "http.request_timeout",
    ];
    let of = |key| values.get_or_default::<Duration>(key);
    let [heartbeat, min, max, request] = [heartbeat_key, min_key, max_key, request_key].map(of);
    let cite = |key| values.cite(key);
    let [heartbeat_cited, min_cited, max_cited, request_cited] =
        [heartbeat_key, min_key, max_key, request_key].map(cite);
    if values.good(&[heartbeat_key, min_key]) && heartbeat * 2 > min {
        values.conflict(format!(
            "{min_cited} must be at least twice {heartbeat_cited}: otherwise one late heartbeat causes an election"
        ));
    }
    if values.good(&[min_key, max_key]) && min >= max {
        values.conflict(format!(
            "{min_cited} must be less than {max_cited}: with equal timeouts, nodes split the vote"
        ));
    }
    if values.good(&[max_key, request_key]) && request < max * 2 {
        values.warn(format!(
            "{request_cited} is less than twice {max_cited}: requests will fail while a leader is replaced"
        ));
    }
}

fn sizes(values: &mut Values) {
    let of = |values: &Values, key| values.get_or_default::<u64>(key);
    let (warn_key, min_key) = ("storage.free_bytes_warn", "storage.free_bytes_min");
    let min = of(values, min_key);
    if values.entry(warn_key).is_none() && values.good(&[warn_key]) {
        values.derive(warn_key, Value::bytes(min.saturating_mul(2)));
    }
    if of(values, warn_key) < min && values.good(&[warn_key, min_key]) {
        values.conflict(format!(
            "{} must not be less than {}: there would be no warning before writes are refused",
            values.cite(warn_key),
            values.cite(min_key)
        ));
    }
    for key in [
        "raft.batch_bytes_max",
        "http.body_bytes_max",
        "grpc.message_bytes_max",
    ] {
        if of(values, key) > ENTRY_BYTES_MAX as u64 && values.good(&[key]) {
            values.conflict(format!(
                "{} must not be greater than {}: a larger log entry could not be sent to the other nodes",
                values.cite(key),
                Value::bytes(ENTRY_BYTES_MAX as u64).plain()
            ));
        }
    }
    let (keep_key, batch_key, queue_key) = (
        "raft.log_keep_entries",
        "raft.batch_requests_max",
        "raft.queue_max",
    );
    let [keep, batch, queue] = [keep_key, batch_key, queue_key].map(|key| of(values, key));
    if keep < LOG_KEEP_ENTRIES_ADVISED {
        values.warn(format!(
            "{} is less than {LOG_KEEP_ENTRIES_ADVISED}: a follower that lags may need one snapshot after another",
            values.cite(keep_key)
        ));
    }
    if batch > queue && values.good(&[batch_key, queue_key]) {
        values.conflict(format!(
            "{} must not be greater than {}: a batch could never be full",
            values.cite(batch_key),
            values.cite(queue_key)
        ));
    }
}
