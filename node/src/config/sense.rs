//! Whether the settings make sense together: fills in what follows from others, and judges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;

use super::fault::{Fault, Origin, Warning};
use super::keys::{Draft, Kind};
use super::{Config, Discovery, DiscoveryKind, StaticPeer};

/// Fewer entries than this let a follower that lags a little need a whole snapshot, and fall behind
/// again while it is being sent.
const LOG_KEEP_ENTRIES_ADVISED: u64 = 200_000;
/// Nodes found through Consul before the first cluster is made, unless told otherwise.
const EXPECT_WITH_CONSUL: usize = 3;

/// Completes the draft and turns it into a configuration. `None`, with faults, if it cannot be.
/// Checks that involve a key in `bad` are left out: its fault has been told.
pub(super) fn complete(
    draft: &mut Draft,
    origins: &mut BTreeMap<&'static str, Origin>,
    bad: &BTreeSet<&'static str>,
    faults: &mut Vec<Fault>,
) -> Option<(Config, Vec<Warning>)> {
    let mut sense = Sense {
        origins,
        bad,
        faults,
        warnings: Vec::new(),
    };
    sense.identity(draft);
    sense.addresses(draft);
    sense.peers(draft);
    sense.expect(draft);
    sense.unused(draft);
    sense.raft(draft);
    let warnings = sense.warnings;
    Some((config(draft)?, warnings))
}

struct Sense<'a> {
    origins: &'a mut BTreeMap<&'static str, Origin>,
    bad: &'a BTreeSet<&'static str>,
    faults: &'a mut Vec<Fault>,
    warnings: Vec<Warning>,
}

impl Sense<'_> {
    fn good(&self, keys: &[&'static str]) -> bool {
        !keys.iter().any(|key| self.bad.contains(key))
    }

    fn is_set(&self, key: &'static str) -> bool {
        !matches!(
            self.origins.get(key),
            None | Some(Origin::Default | Origin::Derived)
        )
    }

    /// `key = value (origin)`, for messages.
    fn cite(&self, key: &'static str, value: impl Display) -> String {
        let origin = self.origins.get(key).unwrap_or(&Origin::Default);
        format!("{key} = {value} ({origin})")
    }

    fn conflict(&mut self, what: String) {
        self.faults.push(Fault::Conflict { what });
    }

    fn warn(&mut self, what: String) {
        self.warnings.push(Warning { what });
    }

    fn identity(&mut self, draft: &mut Draft) {
        match (&draft.name, &draft.data_dir) {
            (None, _) if self.good(&["name"]) => self.faults.push(Fault::Missing {
                key: "name".into(),
                what: "give this node a name that no other node of the cluster has: --name node1 or LOCKSTEP_NAME=node1".into(),
            }),
            (Some(name), None) => {
                draft.data_dir = Some(["lockstep-data", name].iter().collect());
                self.origins.insert("data_dir", Origin::Derived);
            }
            _ => {}
        }
    }

    fn addresses(&mut self, draft: &mut Draft) {
        let own_peer = match (draft.kind, &draft.name) {
            (Kind::Static, Some(name)) => draft
                .peers
                .iter()
                .find(|peer| peer.name == *name)
                .map(|peer| peer.grpc.clone()),
            _ => None,
        };
        draft.http_advertise = self.advertise(
            ("http.advertise", "LOCKSTEP_HTTP_ADVERTISE"),
            ("http.listen", draft.http.listen),
            draft.http_advertise.take(),
            None,
        );
        draft.grpc_advertise = self.advertise(
            ("grpc.advertise", "LOCKSTEP_GRPC_ADVERTISE"),
            ("grpc.listen", draft.grpc.listen),
            draft.grpc_advertise.take(),
            own_peer,
        );
        let (http, grpc) = (draft.http.listen, draft.grpc.listen);
        let same_ip =
            http.ip() == grpc.ip() || http.ip().is_unspecified() || grpc.ip().is_unspecified();
        if self.good(&["http.listen", "grpc.listen"])
            && http.port() == grpc.port()
            && http.port() != 0
            && same_ip
        {
            self.conflict(format!(
                "{} and {} are the same port: change one",
                self.cite("http.listen", http),
                self.cite("grpc.listen", grpc)
            ));
        }
    }

    /// What was set, else what the list of peers says, else the address listened on, if others can
    /// reach that.
    fn advertise(
        &mut self,
        (key, env): (&'static str, &'static str),
        (listen_key, listen): (&'static str, SocketAddr),
        set: Option<String>,
        own_peer: Option<String>,
    ) -> Option<String> {
        if set.is_some() || !self.good(&[key, listen_key]) {
            return set;
        }
        if own_peer.is_none() && (listen.ip().is_unspecified() || listen.port() == 0) {
            let cited = self.cite(listen_key, listen);
            self.conflict(format!("{cited} cannot be reached by others under that address: set {key} ({env}) to the host:port they use"));
            return None;
        }
        self.origins.insert(key, Origin::Derived);
        own_peer.or_else(|| Some(listen.to_string()))
    }

    fn peers(&mut self, draft: &mut Draft) {
        let (Kind::Static, Some(name)) = (draft.kind, &draft.name) else {
            return;
        };
        if !self.good(&["discovery.kind", "discovery.peers", "name"]) {
            return;
        }
        if draft.peers.is_empty() {
            if let Some(grpc) = &draft.grpc_advertise {
                draft.peers.push(StaticPeer {
                    name: name.clone(),
                    grpc: grpc.clone(),
                });
                self.origins.insert("discovery.peers", Origin::Derived);
            }
            return;
        }
        let names: Vec<&str> = draft.peers.iter().map(|peer| peer.name.as_str()).collect();
        match draft.peers.iter().find(|peer| peer.name == *name) {
            None => self.conflict(format!(
                "{} is not among the peers {} ({}): list every node, this one included",
                self.cite("name", name),
                names.join(", "),
                self.origins
                    .get("discovery.peers")
                    .unwrap_or(&Origin::Default)
            )),
            Some(own) => {
                if let Some(advertised) = draft
                    .grpc_advertise
                    .as_ref()
                    .filter(|advertised| **advertised != own.grpc)
                {
                    self.warn(format!(
                        "{} differs from this node's address in discovery.peers, {}",
                        self.cite("grpc.advertise", advertised),
                        own.grpc
                    ));
                }
                let listened = draft.grpc.listen.port();
                if !own.grpc.ends_with(&format!(":{listened}")) && self.good(&["grpc.listen"]) {
                    self.warn(format!(
                        "{} has another port than this node's address in discovery.peers, {}: right only if something forwards it",
                        self.cite("grpc.listen", draft.grpc.listen),
                        own.grpc
                    ));
                }
            }
        }
    }

    fn expect(&mut self, draft: &mut Draft) {
        if !self.good(&["discovery.kind", "discovery.peers", "discovery.expect"]) {
            return;
        }
        let listed = draft.peers.len();
        let expect = *draft.expect.get_or_insert(match draft.kind {
            Kind::Static => listed,
            Kind::Consul => EXPECT_WITH_CONSUL,
        });
        self.origins
            .entry("discovery.expect")
            .or_insert(Origin::Derived);
        if draft.kind == Kind::Static && listed > 0 && expect > listed {
            self.conflict(format!(
                "{} can never be reached: discovery.peers lists {listed}; list them all, or expect {listed}",
                self.cite("discovery.expect", expect)
            ));
        }
        if expect.is_multiple_of(2) {
            self.warn(format!(
                "{}: an even number of nodes survives no more failures than one node fewer",
                self.cite("discovery.expect", expect)
            ));
        }
    }

    /// Settings of the way to find peers that was not chosen.
    fn unused(&mut self, draft: &Draft) {
        let (kind, unused) = match draft.kind {
            Kind::Static => ("static", "consul."),
            Kind::Consul => ("consul", "discovery.peers"),
        };
        let idle: Vec<String> = self
            .origins
            .iter()
            .filter(|(key, _)| key.starts_with(unused) && self.is_set(key))
            .map(|(key, origin)| format!("{key} ({origin})"))
            .collect();
        if !idle.is_empty() && self.good(&["discovery.kind"]) {
            self.warn(format!(
                "without effect while discovery.kind is {kind}: {}",
                idle.join(", ")
            ));
        }
    }

    fn raft(&mut self, draft: &Draft) {
        let raft = &draft.raft;
        let show = |duration| humantime::format_duration(duration).to_string();
        let heartbeat = self.cite("raft.heartbeat", show(raft.heartbeat));
        let min = self.cite("raft.election_timeout_min", show(raft.election_timeout_min));
        let max = self.cite("raft.election_timeout_max", show(raft.election_timeout_max));
        if self.good(&["raft.heartbeat", "raft.election_timeout_min"])
            && raft.heartbeat * 2 > raft.election_timeout_min
        {
            self.conflict(format!("{min} must be at least twice {heartbeat}: one late heartbeat would cause an election"));
        }
        if self.good(&["raft.election_timeout_min", "raft.election_timeout_max"])
            && raft.election_timeout_min >= raft.election_timeout_max
        {
            self.conflict(format!(
                "{min} must be less than {max}: nodes that wait equally long split the vote"
            ));
        }
        if self.good(&["raft.election_timeout_max", "http.request_timeout"])
            && draft.http.request_timeout < raft.election_timeout_max * 2
        {
            let timeout = self.cite("http.request_timeout", show(draft.http.request_timeout));
            self.warn(format!(
                "{timeout} is less than twice {max}: requests will fail while a leader is replaced"
            ));
        }
        if raft.log_keep_entries < LOG_KEEP_ENTRIES_ADVISED {
            let keep = self.cite("raft.log_keep_entries", raft.log_keep_entries);
            self.warn(format!("{keep} is less than {LOG_KEEP_ENTRIES_ADVISED}: a follower that lags may need a whole snapshot again and again"));
        }
        if raft.batch_requests_max > raft.queue_max
            && self.good(&["raft.batch_requests_max", "raft.queue_max"])
        {
            let (batch, queue) = (
                self.cite("raft.batch_requests_max", raft.batch_requests_max),
                self.cite("raft.queue_max", raft.queue_max),
            );
            self.conflict(format!(
                "{batch} must not be more than {queue}: no batch could fill"
            ));
        }
    }
}

fn config(draft: &Draft) -> Option<Config> {
    let mut http = draft.http.clone();
    http.advertise = draft.http_advertise.clone()?;
    let mut grpc = draft.grpc.clone();
    grpc.advertise = draft.grpc_advertise.clone()?;
    let kind = match draft.kind {
        Kind::Static => DiscoveryKind::Static {
            peers: draft.peers.clone(),
        },
        Kind::Consul => DiscoveryKind::Consul(draft.consul.clone()),
    };
    Some(Config {
        name: draft.name.clone()?,
        data_dir: draft.data_dir.clone()?,
        http,
        grpc,
        watchers_max: draft.watchers_max,
        discovery: Discovery {
            expect: draft.expect?,
            kind,
        },
        raft: draft.raft.clone(),
        storage: draft.storage.clone(),
        limits: draft.limits,
        sinks: draft.sinks.clone(),
        log: draft.log.clone(),
    })
}
