//! nginx in front of a cluster, with the configuration that `deploy/` has for it or another one.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::StatusCode;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::http::Api;
use crate::ports::Port;
use crate::process::Process;
use crate::program::find;
use crate::wait::wait_for;

/// What `deploy/` has for it.
pub const DEPLOYED: &str = include_str!("../../deploy/nginx.conf");
/// How long it may take until it answers.
const READY_DEADLINE: Duration = Duration::from_secs(15);

/// A proxy of a test's own. Killed when dropped.
pub struct Nginx {
    http: Port,
    grpc: Port,
    _process: Process,
    _folder: TempDir,
}

impl Nginx {
    /// Starts it with a configuration in which `nodeN:3333` and `nodeN:4333` stand for the nodes, and
    /// the ports 80 and 81 for its own.
    pub async fn start(cluster: &Cluster, configuration: &str) -> Result<Self> {
        let (http, grpc) = (Port::free()?, Port::free()?);
        let mut servers = configuration
            .replace("listen 80", &format!("listen {}", http.address()))
            .replace("listen 81", &format!("listen {}", grpc.address()));
        for node in &cluster.nodes {
            let (name, http, grpc) = (&node.name, node.http_address(), node.grpc_address());
            servers = servers
                .replace(&format!("{name}:3333"), &http.to_string())
                .replace(&format!("{name}:4333"), &grpc.to_string());
        }
        let folder = tempfile::tempdir().context("a folder for nginx")?;
        let file = folder.path().join("nginx.conf");
        fs::write(&file, whole(&servers))?;
        let mut command = Command::new(find(&["nginx"], "nginx")?);
        command.arg("-p").arg(folder.path()).arg("-c").arg(file);
        command.args(["-e", "stderr"]);
        let log = folder.path().join("nginx.log");
        let nginx = Self {
            _process: Process::spawn("nginx", command, &log)?,
            _folder: folder,
            http,
            grpc,
        };
        let api = nginx.api();
        wait_for("nginx to answer", READY_DEADLINE, async || {
            api.get("/livez").await?.expect(StatusCode::OK)
        })
        .await?;
        Ok(nginx)
    }

    /// The nodes' HTTP interface through it, over connections of its own.
    pub fn api(&self) -> Api {
        Api::new(self.http.address())
    }

    /// Where it serves gRPC.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.address()
    }
}

/// A whole configuration: one process, so that none is left when it is killed, and every file of it in
/// its own folder.
fn whole(servers: &str) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|it| format!("{it}_temp_path {it};\n"));
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nevents {{}}\n\
         http {{\naccess_log /dev/stdout;\n{}{servers}\n}}\n",
        temporary.concat()
    )
}
