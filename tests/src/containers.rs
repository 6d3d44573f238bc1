//! Three nodes in containers that find each other through a Consul in a fourth.
//!
//! Each node is on two networks: `peers`, where nodes and Consul have their names and which leads
//! nowhere else, and `edge`, which publishes its HTTP port on loopback. A node that is cut off from `peers`
//! can still be queried.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{
    EndpointSettings, HostConfig, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, PortBinding,
};
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::{ExecCommand, IntoContainerPort};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt};

use crate::agreement;
use crate::docker::{self, Reaper};
use crate::http::Api;
use crate::process::tail;
use crate::wait::wait_for;

/// The Consul that `docker-compose.yml` names.
const CONSUL_IMAGE: &str = "hashicorp/consul:1.8.7";
/// For a cluster to form, or a node to come back, containers started on a busy machine included.
pub const READY_DEADLINE: Duration = Duration::from_secs(60);
/// What everything here is labelled with, besides who made it.
const LABEL: &str = "lockstep.test";

/// Nodes in containers, and all that goes with them; gone when dropped.
pub struct ContainerCluster {
    /// The nodes, `node1` first.
    pub nodes: Vec<ContainerNode>,
    run: String,
    _consul: Container,
    // Last, and after the containers: the networks are in use until then.
    _reaper: Reaper,
}

impl ContainerCluster {
    /// Three nodes and their Consul, started and ready.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same, with further settings by the name of the environment variable.
    pub async fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let run = format!("lockstep-test-{:016x}", rand::random::<u64>());
        let docker = docker_client_instance().await?;
        docker
            .ping()
            .await
            .context("no Docker daemon answers, and LOCKSTEP_SKIP_CONTAINERS is not set")?;
        let reaper = Reaper::of(&label(&run))?;
        create_network(&docker, &run, "edge", false).await?;
        create_network(&docker, &run, "peers", true).await?;

        let consul = request(&run, "consul", CONSUL_IMAGE)
            .with_network(network(&run, "peers"))
            .with_cmd(["agent", "-dev", "-client", "0.0.0.0", "-log-level", "warn"]);
        let consul = Container::start("consul", consul).await?;
        let mut nodes = Vec::new();
        for number in 1..=3 {
            let name = format!("node{number}");
            nodes.push(ContainerNode::start(&docker, &run, &name, settings).await?);
        }
        let cluster = Self {
            nodes,
            run,
            _consul: consul,
            _reaper: reaper,
        };
        for node in &cluster.nodes {
            node.wait_ready().await?;
        }
        Ok(cluster)
    }

    /// What everything that belongs to it is labelled with.
    pub fn label(&self) -> String {
        label(&self.run)
    }

    /// Waits until all nodes agree on one leader; returns its position.
    pub async fn leader(&self) -> Result<usize> {
        agreement::one_leader(&self.apis(|_| true)).await
    }

    /// Waits until all nodes but this one agree on one leader among them; returns its position.
    pub async fn leader_without(&self, missing: usize) -> Result<usize> {
        let position = agreement::one_leader(&self.apis(|position| position != missing)).await?;
        Ok(position + usize::from(position >= missing))
    }

    /// Waits until all nodes have applied the same and hold the same state.
    pub async fn agree(&self) -> Result<()> {
        agreement::equal_states(&self.apis(|_| true)).await
    }

    fn apis(&self, chosen: impl Fn(usize) -> bool) -> Vec<Api> {
        let positions = (0..self.nodes.len()).filter(|&position| chosen(position));
        positions
            .map(|position| self.nodes[position].api().clone())
            .collect()
    }
}

/// One node and its container.
pub struct ContainerNode {
    /// Its name, which is also its host name among its peers.
    pub name: String,
    run: String,
    docker: Docker,
    container: Container,
    api: Api,
}

impl ContainerNode {
    async fn start(
        docker: &Docker,
        run: &str,
        name: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let loopback = |config: &mut HostConfig| {
            let binding = PortBinding {
                host_ip: Some(Ipv4Addr::LOCALHOST.to_string()),
                host_port: Some("0".to_owned()),
            };
            config.port_bindings = Some(HashMap::from([(
                "3333/tcp".to_owned(),
                Some(vec![binding]),
            )]));
        };
        let request = request(run, name, &docker::image())
            .with_network(network(run, "edge"))
            .with_host_config_modifier(move |config| {
                no_ports(config);
                loopback(config);
            })
            .with_env_var("LOCKSTEP_NAME", name)
            .with_env_var("LOCKSTEP_HTTP_LISTEN", "0.0.0.0:3333")
            .with_env_var("LOCKSTEP_HTTP_ADVERTISE", format!("{name}:3333"))
            .with_env_var("LOCKSTEP_HTTP_REQUEST_TIMEOUT", "2s")
            .with_env_var("LOCKSTEP_GRPC_LISTEN", "0.0.0.0:4333")
            .with_env_var("LOCKSTEP_GRPC_ADVERTISE", format!("{name}:4333"))
            .with_env_var("LOCKSTEP_DISCOVERY", "consul")
            .with_env_var(
                "LOCKSTEP_CONSUL_ADDRESS",
                format!("http://{}:8500", container_name(run, "consul")),
            )
            .with_env_var("LOCKSTEP_CONSUL_CHECK_INTERVAL", "500ms")
            .with_env_var("LOCKSTEP_EXPECT", "3");
        let request = settings.iter().fold(request, |request, (key, value)| {
            request.with_env_var(*key, *value)
        });
        let container = Container::start(name, request).await?;
        let node = Self {
            name: name.to_owned(),
            run: run.to_owned(),
            docker: docker.clone(),
            api: container.published().await?,
            container,
        };
        node.reconnect().await?;
        Ok(node)
    }

    /// Its HTTP interface, as long as it was not started again since.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Waits until it can serve a linearizable read.
    pub async fn wait_ready(&self) -> Result<()> {
        let what = format!("{} to be ready", self.name);
        wait_for(what, READY_DEADLINE, async || {
            if let Some(code) = self.container.exit_code().await? {
                panic!(
                    "{} has ended with {code} instead of getting ready",
                    self.name
                );
            }
            self.api.get("/readyz").await?.expect(StatusCode::OK)
        })
        .await?;
        Ok(())
    }

    /// Kills it as a power cut would.
    pub async fn kill9(&self) -> Result<()> {
        self.docker.kill_container(self.id(), None).await?;
        wait_for(
            format!("the end of {}", self.name),
            READY_DEADLINE,
            async || {
                ensure!(!self.container.is_running().await?, "it runs");
                Ok(())
            },
        )
        .await
    }

    /// Starts it after it went down, and waits until it serves. Its port is another one since.
    pub async fn restart(&mut self) -> Result<()> {
        self.container.start().await?;
        self.api = self.container.published().await?;
        self.wait_ready().await
    }

    /// Freezes it: it runs no instruction until resumed.
    pub async fn pause(&self) -> Result<()> {
        Ok(self.container.pause().await?)
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<()> {
        Ok(self.container.unpause().await?)
    }

    /// Takes it off the network of its peers and of Consul.
    pub async fn disconnect(&self) -> Result<()> {
        let request = NetworkDisconnectRequest {
            container: self.id().to_owned(),
            force: None,
        };
        let peers = network(&self.run, "peers");
        Ok(self.docker.disconnect_network(&peers, request).await?)
    }

    /// Puts it back on the network of its peers, under its name.
    pub async fn reconnect(&self) -> Result<()> {
        let request = NetworkConnectRequest {
            container: self.id().to_owned(),
            endpoint_config: Some(EndpointSettings {
                aliases: Some(vec![self.name.clone()]),
                ..EndpointSettings::default()
            }),
        };
        let peers = network(&self.run, "peers");
        Ok(self.docker.connect_network(&peers, request).await?)
    }

    /// Runs a command in its container to the end; returns the exit code, and what it printed.
    pub async fn exec(&self, command: &[&str]) -> Result<(i64, String)> {
        let mut result = self
            .container
            .exec(ExecCommand::new(command.iter().copied()))
            .await?;
        let stdout = result.stdout_to_vec().await?;
        let stderr = result.stderr_to_vec().await?;
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        let code = wait_for("the exit code", docker::COMMAND_DEADLINE, async || {
            result.exit_code().await?.context("none yet")
        })
        .await?;
        Ok((code, said))
    }

    fn id(&self) -> &str {
        self.container.id()
    }
}

/// A started container whose log is shown when it goes, which is seen only when the test fails.
struct Container {
    name: String,
    inner: ContainerAsync<GenericImage>,
}

impl Container {
    async fn start(name: &str, request: ContainerRequest<GenericImage>) -> Result<Self> {
        let inner = request.start().await;
        Ok(Self {
            name: name.to_owned(),
            inner: inner.with_context(|| format!("starting {name}"))?,
        })
    }

    /// Where its HTTP port is published now.
    async fn published(&self) -> Result<Api> {
        let port = self.get_host_port_ipv4(3333.tcp()).await;
        let port = port.with_context(|| format!("{} has ended, or lost its port", self.name))?;
        Ok(Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
    }
}

impl Deref for Container {
    type Target = ContainerAsync<GenericImage>;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Not through the client: it may be what is broken.
        if let Ok(output) = Command::new("docker").args(["logs", self.id()]).output() {
            let log = [output.stdout, output.stderr].concat();
            println!(
                "--- {}, the end of its log ---\n{}",
                self.name,
                tail(&String::from_utf8_lossy(&log))
            );
        }
    }
}

/// A container of `image` with its name and label, and no port published.
fn request(run: &str, name: &str, image: &str) -> ContainerRequest<GenericImage> {
    // What follows the last colon is a port if a path follows it.
    let (image, tag) = image
        .rsplit_once(':')
        .filter(|(_, tag)| !tag.contains('/'))
        .unwrap_or((image, "latest"));
    GenericImage::new(image, tag)
        .with_container_name(container_name(run, name))
        .with_label(LABEL, run)
        .with_host_config_modifier(no_ports)
}

/// Not the default, which is every port on every address of this machine.
fn no_ports(config: &mut HostConfig) {
    config.publish_all_ports = Some(false);
    config.port_bindings = None;
}

/// `internal` leads nowhere, and so never becomes the network that publishes ports.
async fn create_network(docker: &Docker, run: &str, name: &str, internal: bool) -> Result<()> {
    let request = NetworkCreateRequest {
        name: network(run, name),
        internal: Some(internal),
        labels: Some(HashMap::from([(LABEL.to_owned(), run.to_owned())])),
        ..NetworkCreateRequest::default()
    };
    docker
        .create_network(request)
        .await
        .with_context(|| format!("creating the network {name}"))?;
    Ok(())
}

fn label(run: &str) -> String {
    format!("{LABEL}={run}")
}

fn network(run: &str, name: &str) -> String {
    format!("{run}-{name}")
}

fn container_name(run: &str, name: &str) -> String {
    format!("{run}-{name}")
}
