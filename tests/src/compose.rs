//! The cluster of `docker-compose.yml`, as a user starts it, and what its Prometheus says.

use std::net::{Ipv4Addr, SocketAddr};
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
use crate::wait::wait_for;

/// The nodes' services, in order.
pub const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// Where the file publishes their HTTP interfaces, in the same order.
pub const HTTP_PORTS: [u16; 3] = [3333, 3334, 3335];
/// Where it publishes their gRPC interfaces.
pub const GRPC_PORTS: [u16; 3] = [4333, 4334, 4335];
/// Where it publishes Consul.
pub const CONSUL_PORT: u16 = 8500;
/// Where it publishes Prometheus.
pub const PROMETHEUS_PORT: u16 = 9090;

/// For `up --build --wait` when the image is in the build cache; a cold build takes longer than
/// any test may, so `scripts/test` builds it before the tests.
const UP_DEADLINE: Duration = Duration::from_secs(400);
/// For Prometheus to look again, find its targets, and scrape each: 5 s each, and a busy machine.
const SCRAPED_DEADLINE: Duration = Duration::from_secs(60);

/// `docker compose` in the repository, under a project name of its own. All of the project is
/// gone when this is dropped, or the process ends without that.
pub struct Compose {
    project: String,
    repository: PathBuf,
    environment: Vec<(String, String)>,
    _reaper: Reaper,
}

impl Compose {
    /// The project, with nothing started.
    pub async fn new() -> Result<Self> {
        docker::docker(&["info"])
            .await
            .context("no Docker daemon answers, and LOCKSTEP_SKIP_CONTAINERS is not set")?;
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the tests have a repository")?
            .to_owned();
        let project = format!("lockstep-test-{:016x}", rand::random::<u64>());
        let mut environment = build_arguments(&repository).await?;
        // Compose labels what it builds with the project, which makes it another image: it must not
        // take the tag away from the one that the other tests start.
        environment.push(("LOCKSTEP_IMAGE".to_owned(), project.clone()));
        let reaper = Reaper::of(&label(&project))?;
        Ok(Self {
            project,
            repository,
            environment,
            _reaper: reaper,
        })
    }

    /// `docker compose up --build --wait`: builds, starts, and returns once all are healthy.
    pub async fn up(&self) -> Result<()> {
        let arguments = ["up", "--build", "--wait", "--wait-timeout", "120"];
        self.run_within(&arguments, UP_DEADLINE).await?;
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

/// The build arguments that `scripts/test` exports, or the same made here: with others, the image
/// would be built anew.
async fn build_arguments(repository: &Path) -> Result<Vec<(String, String)>> {
    let mut arguments = Vec::new();
    if std::env::var_os("VERSION").is_some() && std::env::var_os("BUILD_DATE").is_some() {
        return Ok(arguments);
    }
    let git = ["log", "-1", "--format=%ct"];
    let epoch = docker::run("git", &git, &[], repository, COMMAND_DEADLINE).await;
    // A tree without history is built at the clock's date.
    let commit_date: Vec<_> = epoch
        .iter()
        .map(|epoch| ("SOURCE_DATE_EPOCH".to_owned(), epoch.trim().to_owned()))
        .collect();
    for (name, what) in [("VERSION", "version"), ("BUILD_DATE", "date")] {
        let value = docker::run(
            "scripts/setup.sh",
            &[what],
            &commit_date,
            repository,
            COMMAND_DEADLINE,
        )
        .await?;
        arguments.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok(arguments)
}

/// The HTTP interface at a port of loopback.
pub fn at(port: u16) -> Api {
    Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// The position of the leader that all three nodes agree on.
pub async fn leader() -> Result<usize> {
    let nodes = HTTP_PORTS.map(at);
    agreement::one_leader(&nodes.each_ref()).await
}

/// The value of a PromQL expression that has one.
pub async fn prometheus_value(expression: &str) -> Result<f64> {
    let query = Url::parse_with_params("http://-/api/v1/query", [("query", expression)])?;
    let path = format!("{}?{}", query.path(), query.query().unwrap_or_default());
    let answer = at(PROMETHEUS_PORT)
        .get(&path)
        .await?
        .expect(StatusCode::OK)?
        .json()?;
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

/// Waits until Prometheus has exactly these values, all at one look.
pub async fn prometheus_says(expected: &[(&str, f64)]) -> Result<()> {
    wait_for(
        format!("Prometheus to say {expected:?}"),
        SCRAPED_DEADLINE,
        async || {
            for (expression, value) in expected {
                let said = prometheus_value(expression).await?;
                ensure!(said == *value, "{expression} is {said}");
            }
            Ok(())
        },
    )
    .await
}

/// The health of each target of the job `app`: `up`, `down` or `unknown`.
pub async fn prometheus_targets() -> Result<Vec<String>> {
    let answer = at(PROMETHEUS_PORT)
        .get("/api/v1/targets?state=active")
        .await?
        .expect(StatusCode::OK)?
        .json()?;
    let targets = answer["data"]["activeTargets"]
        .as_array()
        .with_context(|| format!("no targets: {answer}"))?;
    Ok(targets
        .iter()
        .filter(|target| target["labels"]["job"] == "app")
        .map(|target| target["health"].as_str().unwrap_or_default().to_owned())
        .collect())
}
