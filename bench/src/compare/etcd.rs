//! Three members of etcd, with the durability that they have by default.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use lockstep_load::{self as load, Failed, Operation, Service};
use lockstep_tests::ports::Port;
use lockstep_tests::process::Process;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::{Load, SHARING, System, TIMEOUT, load_from_here, started, until_acknowledged};

#[allow(missing_docs)]
mod wire {
    tonic::include_proto!("etcdserverpb");
}

use wire::compare::{CompareTarget, TargetUnion};
use wire::kv_client::KvClient;
use wire::request_op::Request;
use wire::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};

pub struct Members {
    version: String,
    members: Vec<Member>,
    _folder: TempDir,
}

struct Member {
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    client: Port,
    process: Option<Process>,
}

impl Member {
    fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        self.process = Some(Process::spawn("etcd", command, &self.log)?);
        Ok(())
    }
}

impl Members {
    pub async fn start(program: &Path) -> Result<Self> {
        let version = Command::new(program).arg("--version").output();
        let version = version.with_context(|| format!("{}", program.display()))?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let version = version
            .lines()
            .next()
            .and_then(|line| line.split(' ').next_back());
        let version = version.context("etcd tells no version")?.to_owned();

        let folder = tempfile::tempdir().context("a folder for etcd")?;
        let ports: Vec<_> = (0..3)
            .map(|_| Ok((Port::free()?, Port::free()?)))
            .collect::<Result<_>>()?;
        let url = |port: &Port| format!("http://{}", port.address());
        let cluster: Vec<_> = ports
            .iter()
            .enumerate()
            .map(|(n, (_, peer))| format!("m{n}={}", url(peer)))
            .collect();
        let cluster = cluster.join(",");
        let mut members = Vec::new();
        for (n, (client, peer)) in ports.into_iter().enumerate() {
            let name = format!("m{n}");
            let data = folder.path().join(&name).display().to_string();
            let arguments = [
                ("--data-dir", data.as_str()),
                ("--name", &name),
                ("--log-level", "error"),
                ("--listen-client-urls", &url(&client)),
                ("--advertise-client-urls", &url(&client)),
                ("--listen-peer-urls", &url(&peer)),
                ("--initial-advertise-peer-urls", &url(&peer)),
                ("--initial-cluster", &cluster),
                ("--initial-cluster-state", "new"),
            ];
            let arguments = arguments.map(|(name, value)| format!("{name}={value}"));
            members.push(Member {
                program: program.to_owned(),
                arguments: arguments.to_vec(),
                log: folder.path().join(format!("{name}.log")),
                client,
                process: None,
            });
        }
        members.iter_mut().try_for_each(Member::start)?;
        let members = Self {
            version,
            members,
            _folder: folder,
        };
        started("etcd to have a leader", async || members.leader().await).await?;
        Ok(members)
    }

    /// The position of the leader. All members must answer.
    async fn leader(&self) -> Result<usize> {
        for (position, member) in self.members.iter().enumerate() {
            let url = format!("http://{}/metrics", member.client.address());
            let metrics = reqwest::get(url).await?.text().await?;
            if metrics
                .lines()
                .any(|line| line == "etcd_server_is_leader 1")
            {
                return Ok(position);
            }
        }
        anyhow::bail!("no member leads")
    }

    async fn channel(&self, position: usize) -> Result<Channel> {
        Ok(connect(&self.endpoint(position)).await?)
    }

    fn endpoint(&self, position: usize) -> String {
        format!("http://{}", self.members[position].client.address())
    }
}

async fn connect(endpoint: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned())?;
    endpoint.tcp_nodelay(true).connect().await
}

impl System for Members {
    fn name(&self) -> String {
        format!("etcd {}", self.version)
    }

    fn processes(&self) -> Vec<u32> {
        let processes = self.members.iter().filter_map(|it| it.process.as_ref());
        processes.map(Process::id).collect()
    }

    async fn load(&self, load: Load, measured: Duration) -> Result<Value> {
        let leader = self.endpoint(self.leader().await?);
        let service = Leader {
            endpoint: leader,
            batch: load.batch,
        };
        load_from_here(service, load, measured).await
    }

    async fn fail_over(&mut self) -> Result<Option<Duration>> {
        let leader = self.leader().await?;
        let mut left = Vec::new();
        for position in (0..self.members.len()).filter(|it| *it != leader) {
            left.push(KvClient::new(self.channel(position).await?));
        }
        let write = |number: usize| {
            let mut client = left[number % left.len()].clone();
            async move {
                client
                    .put(put(format!("failover-{number}"), "first"))
                    .await?;
                Ok(())
            }
        };
        // Both are connected.
        for number in [usize::MAX, usize::MAX - 1] {
            write(number).await.context("a write before the kill")?;
        }
        let process = self.members[leader].process.as_mut();
        process.context("the leader runs")?.kill9()?;
        let gap = until_acknowledged(Instant::now(), write).await?;
        self.members[leader].start()?;
        started("etcd to be whole", async || self.leader().await).await?;
        Ok(Some(gap))
    }
}

fn put(key: String, value: &str) -> PutRequest {
    PutRequest {
        key: key.into_bytes(),
        value: value.into(),
    }
}

/// The leader, as clients see it.
struct Leader {
    endpoint: String,
    batch: usize,
}

impl Service for Leader {
    type Client = Writer;

    async fn connect(&self, clients: Range<usize>) -> Result<Vec<Writer>, Failed> {
        let shared = clients.clone().step_by(SHARING);
        let shared = try_join_all(shared.map(|_| connect(&self.endpoint))).await;
        let shared = shared.map_err(|error| Failed::unavailable("unavailable", error))?;
        let mut writers: Vec<_> = clients
            .enumerate()
            .map(|(place, number)| Writer {
                kv: KvClient::new(shared[place / SHARING].clone()),
                number,
                batch: self.batch,
                state: 0,
            })
            .collect();
        // The keys must be there to be read.
        for writer in &mut writers {
            writer.write(STATES[0], false).await?;
        }
        Ok(writers)
    }
}

const STATES: [&str; 3] = ["first", "second", "third"];

/// A client with keys of its own, all of which have the same value.
struct Writer {
    kv: KvClient<Channel>,
    number: usize,
    batch: usize,
    state: usize,
}

impl load::Client for Writer {
    async fn execute(&mut self, operation: Operation) -> Result<(), Failed> {
        let next = (self.state + 1) % STATES.len();
        let executed = match operation {
            Operation::Transition => self.write(STATES[next], false).await,
            Operation::Transaction => self.write(STATES[next], true).await,
            Operation::Read => return self.read(false).await,
            Operation::StaleRead => return self.read(true).await,
        };
        self.state = next;
        executed
    }
}

impl Writer {
    fn key(&self, number: usize) -> String {
        format!("bench-{:08}-{number:08}", self.number)
    }

    /// Puts all keys; if `checked`, only if the first has the value that it should have.
    async fn write(&mut self, value: &str, checked: bool) -> Result<(), Failed> {
        let puts = (0..self.batch).map(|number| put(self.key(number), value));
        let mut puts: Vec<_> = puts.collect();
        if !checked && puts.len() == 1 {
            return answered(self.kv.put(puts.remove(0))).await.map(drop);
        }
        let compare = checked.then(|| Compare {
            result: 0,
            target: CompareTarget::Value.into(),
            key: self.key(0).into_bytes(),
            target_union: Some(TargetUnion::Value(STATES[self.state].into())),
        });
        let success = puts.into_iter().map(|put| RequestOp {
            request: Some(Request::RequestPut(put)),
        });
        let transaction = TxnRequest {
            compare: compare.into_iter().collect(),
            success: success.collect(),
        };
        match answered(self.kv.txn(transaction))
            .await?
            .into_inner()
            .succeeded
        {
            true => Ok(()),
            false => Err(Failed::unavailable(
                "compare_failed",
                "the value is another",
            )),
        }
    }

    async fn read(&mut self, serializable: bool) -> Result<(), Failed> {
        let range = RangeRequest {
            key: self.key(0).into_bytes(),
            serializable,
        };
        match answered(self.kv.range(range)).await?.into_inner().kvs[..] {
            [_] => Ok(()),
            _ => Err(Failed::unavailable("missing", "the key is not there")),
        }
    }
}

async fn answered<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Failed> {
    let answer = timeout(TIMEOUT, call).await;
    let answer = answer.map_err(|_| Failed::unavailable("timeout", "no answer in time"))?;
    answer.map_err(|status| Failed::unavailable("status", status))
}
