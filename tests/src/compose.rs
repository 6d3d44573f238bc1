//! The cluster of `docker-compose.yml`, as a user starts it, and what its Prometheus says.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use reqwest::Url;
use serde_json::Value;

use crate::agreement;
use crate::docker::{self, COMMAND_DEADLINE, Reaper};
use crate::http::Api;
use crate::ports::Port;
use crate::wait::wait_for;

/// The nodes' services, in order.
pub const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// The variables that say where the file publishes what, each with the port that it has without:
/// HTTP of the nodes in order, gRPC of the nodes, Consul, Prometheus.
pub const PORTS: [(&str, u16); 8] = [
    ("NODE1_HTTP_PORT", 3333),
    ("NODE2_HTTP_PORT", 3334),
    ("NODE3_HTTP_PORT", 3335),
    ("NODE1_GRPC_PORT", 4333),
    ("NODE2_GRPC_PORT", 4334),
    ("NODE3_GRPC_PORT", 4335),
    ("CONSUL_PORT", 8500),
    ("PROMETHEUS_PORT", 9090),
];

/// For `up --wait` from images that exist.
const UP_DEADLINE: Duration = Duration::from_secs(300);
/// For `up --build --wait`, which compiles everything in release mode.
const BUILD_DEADLINE: Duration = Duration::from_secs(1700);
/// For Prometheus to look again, find its targets, and scrape each: 5 s each, and a busy machine.
const SCRAPED_DEADLINE: Duration = Duration::from_secs(60);

/// `docker compose` in the repository, under a project name and on ports of its own: whatever else
/// runs on the machine, and whatever Docker believes to be taken, is not in its way. All of the
/// project is gone when this is dropped, or the process ends without that.
pub struct Compose {
    project: String,
    repository: PathBuf,
    environment: Vec<(String, String)>,
    ports: Vec<Port>,
    builds: bool,
    _reaper: Reaper,
}

impl Compose {
    /// The project, including the services of `profile`, with nothing started.
    pub async fn with_profile(profile: &str) -> Result<Self> {
        let mut compose = Self::new().await?;
        let profile = ("COMPOSE_PROFILES".to_owned(), profile.to_owned());
        compose.environment.push(profile);
        Ok(compose)
    }

    /// The project with the image that `scripts/test` has built, with nothing started.
    pub async fn new() -> Result<Self> {
        Self::of(false).await
    }

    /// The project as `docker compose up --build` makes it, image included.
    pub async fn building() -> Result<Self> {
        Self::of(true).await
    }

    async fn of(builds: bool) -> Result<Self> {
        docker::docker(&["info"])
            .await
            .context("no Docker daemon answers, and LOCKSTEP_SKIP_CONTAINERS is not set")?;
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the tests have a repository")?
            .to_owned();
        let project = format!("lockstep-test-{:016x}", rand::random::<u64>());
        // An image built here must not take the tag of the one that the other tests start.
        let image = if builds {
            project.clone()
        } else {
            docker::image()
        };
        let mut environment = vec![("LOCKSTEP_IMAGE".to_owned(), image)];
        let ports: Vec<Port> = PORTS.iter().map(|_| Port::free()).collect::<Result<_>>()?;
        for ((variable, _), port) in PORTS.iter().zip(&ports) {
            environment.push(((*variable).to_owned(), port.number().to_string()));
        }
        let reaper = Reaper::of(&label(&project))?;
        Ok(Self {
            project,
            repository,
            environment,
            ports,
            builds,
            _reaper: reaper,
        })
    }

    /// The HTTP interface of a node, by its position in [`NODES`].
    pub fn http(&self, node: usize) -> Api {
        Api::new(self.ports[node].address())
    }

    /// Those of all nodes.
    pub fn https(&self) -> [Api; 3] {
        [0, 1, 2].map(|node| self.http(node))
    }

    /// The address of a node's gRPC interface.
    pub fn grpc(&self, node: usize) -> SocketAddr {
        self.ports[NODES.len() + node].address()
    }

    /// The addresses of each node's HTTP and gRPC interface, in order.
    pub fn addresses(&self) -> [(SocketAddr, SocketAddr); 3] {
        [0, 1, 2].map(|node| (self.ports[node].address(), self.grpc(node)))
    }

    /// Consul's HTTP interface.
    pub fn consul(&self) -> Api {
        Api::new(self.ports[2 * NODES.len()].address())
    }

    /// Prometheus' HTTP interface.
    pub fn prometheus(&self) -> Prometheus {
        Prometheus(Api::new(self.ports[2 * NODES.len() + 1].address()))
    }

    /// The position of the leader that all three nodes agree on.
    pub async fn leader(&self) -> Result<usize> {
        agreement::one_leader(&self.https()).await
    }

    /// What the file publishes on which port of loopback when no variable says otherwise.
    pub async fn default_ports(&self) -> Result<Vec<String>> {
        let unset: Vec<_> = PORTS
            .map(|(name, _)| (name.to_owned(), String::new()))
            .into();
        let printed = docker::run(
            "docker",
            &["compose", "config", "--format", "json"],
            &unset,
            &self.repository,
            COMMAND_DEADLINE,
        )
        .await?;
        let config: Value = serde_json::from_str(&printed).context("docker compose config")?;
        let services = config["services"].as_object().context("services")?;
        let published = services.values().flat_map(|service| {
            service["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|port| {
                    let field = |name: &str| port[name].as_str().unwrap_or_default().to_owned();
                    format!("{}:{}", field("host_ip"), field("published"))
                })
        });
        let mut published: Vec<_> = published.collect();
        published.sort();
        Ok(published)
    }

    /// `docker compose up --wait`, with `--build` or without: returns once all are healthy.
    pub async fn up(&self) -> Result<()> {
        let (build, deadline) = if self.builds {
            ("--build", BUILD_DEADLINE)
        } else {
            ("--no-build", UP_DEADLINE)
        };
        let arguments = ["up", build, "--wait", "--wait-timeout", "120"];
        self.run_within(&arguments, deadline).await?;
        Ok(())
    }

    /// `docker compose` with `arguments`; returns what it printed.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_within(arguments, COMMAND_DEADLINE).await
    }

    async fn run_within(&self, arguments: &[&str], deadline: Duration) -> Result<String> {
        let arguments = [&["compose", "-p", &self.project], arguments].concat();
        docker::run(
            "docker",
            &arguments,
            &self.environment,
            &self.repository,
            deadline,
        )
        .await
    }

    /// Removes the named volume of a node whose container is gone.
    pub async fn remove_volume(&self, name: &str) -> Result<()> {
        let volume = format!("{}_{name}", self.project);
        docker::docker(&["volume", "rm", &volume]).await?;
        Ok(())
    }

    /// What the database of the profile `postgres` answers: a line for each row, `|` between columns.
    pub async fn psql(&self, query: &str) -> Result<String> {
        let psql = ["psql", "-U", "lockstep", "-At", "-c", query];
        self.run(&[&["exec", "-T", "postgres"], psql.as_slice()].concat())
            .await
    }

    /// Each running service's name and health.
    pub async fn health(&self) -> Result<Vec<(String, String)>> {
        // One object per line.
        let printed = self.run(&["ps", "--format", "json"]).await?;
        let mut services = Vec::new();
        for line in printed.lines() {
            let service: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let field = |name: &str| service[name].as_str().unwrap_or_default().to_owned();
            services.push((field("Service"), field("Health")));
        }
        services.sort();
        Ok(services)
    }

    /// How the container of a service that has ended did so.
    pub async fn exit_code(&self, service: &str) -> Result<i64> {
        let id = self.run(&["ps", "--all", "--quiet", service]).await?;
        let code =
            docker::docker(&["inspect", "--format", "{{.State.ExitCode}}", id.trim()]).await?;
        Ok(code.trim().parse()?)
    }

    /// What exists of the project: containers, volumes and networks, by name.
    pub async fn left_over(&self) -> Result<Vec<String>> {
        docker::labelled(&label(&self.project)).await
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        // Shown only when the test fails.
        let logs = Command::new("docker")
            .args(["compose", "--ansi", "never", "-p", &self.project])
            .args(["logs", "--tail", "40"])
            .current_dir(&self.repository)
            .output();
        if let Ok(logs) = logs {
            println!("{}", String::from_utf8_lossy(&logs.stdout));
        }
    }
}

/// What Compose itself labels all that belongs to a project with.
fn label(project: &str) -> String {
    format!("com.docker.compose.project={project}")
}

/// What a Prometheus says.
pub struct Prometheus(Api);

impl Prometheus {
    /// The value of a PromQL expression that has one.
    async fn value(&self, expression: &str) -> Result<f64> {
        let query = Url::parse_with_params("http://-/api/v1/query", [("query", expression)])?;
        let path = format!("{}?{}", query.path(), query.query().unwrap_or_default());
        let answer = self.0.get(&path).await?.expect(StatusCode::OK)?.json()?;
        let found = answer["data"]["result"]
            .as_array()
            .with_context(|| format!("{expression}: {answer}"))?;
        ensure!(
            found.len() == 1,
            "{expression} has {} values: {answer}",
            found.len()
        );
        Ok(found[0]["value"][1]
            .as_str()
            .with_context(|| format!("{expression}: {answer}"))?
            .parse()?)
    }

    /// Waits until it has exactly these values, all at one look.
    pub async fn says(&self, expected: &[(&str, f64)]) -> Result<()> {
        wait_for(
            format!("Prometheus to say {expected:?}"),
            SCRAPED_DEADLINE,
            async || {
                for (expression, value) in expected {
                    let said = self.value(expression).await?;
                    ensure!(said == *value, "{expression} is {said}");
                }
                Ok(())
            },
        )
        .await
    }

    /// The health of each target of the job `app`: `up`, `down` or `unknown`.
    pub async fn targets(&self) -> Result<Vec<String>> {
        let path = "/api/v1/targets?state=active";
        let answer = self.0.get(path).await?.expect(StatusCode::OK)?.json()?;
        let targets = answer["data"]["activeTargets"]
            .as_array()
            .with_context(|| format!("no targets: {answer}"))?;
        Ok(targets
            .iter()
            .filter(|target| target["labels"]["job"] == "app")
            .map(|target| target["health"].as_str().unwrap_or_default().to_owned())
            .collect())
    }
}
