//! `curl`, as people type it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::program;
use serde_json::Value;

use super::{TRANSITIONS, gzip};

/// For one request.
const DEADLINE: Duration = Duration::from_secs(30);
/// Written after the answer.
const STATUS: &str =
    "\n%{http_code} HTTP/%{http_version} connections=%{num_connects} size=%{size_download}";

/// What curl shows of an answer.
#[derive(Debug)]
struct Shown {
    head: String,
    body: String,
    /// As [`STATUS`] has it.
    status: String,
}

/// Runs it in `folder` with these arguments, each without a space, for one request.
async fn curl(folder: &Path, arguments: &str, headers: &[&str], url: &str) -> Result<Shown> {
    let mut command = Command::new("curl");
    command.current_dir(folder);
    command.args([
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--max-time",
        "20",
    ]);
    command.args(["--dump-header", "head", "--write-out", STATUS]);
    command.args(arguments.split_whitespace());
    command.args(headers.iter().flat_map(|it| ["--header", it]));
    let shown = program::run(
        {
            command.arg(url);
            command
        },
        DEADLINE,
    )
    .await?
    .done()?;
    let (body, status) = shown.rsplit_once('\n').context("no status")?;
    Ok(Shown {
        head: fs::read_to_string(folder.join("head"))?.to_ascii_lowercase(),
        body: body.to_owned(),
        status: status.to_owned(),
    })
}

impl Shown {
    fn expect(self, status: &str) -> Result<Self> {
        ensure!(
            self.status.starts_with(status),
            "expected {status}, got {self:?}"
        );
        Ok(self)
    }

    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {self:?}"))
    }
}

const JSON: &str = "Content-Type: application/json";
const GZIP: &str = "Content-Encoding: gzip";

#[tokio::test]
async fn curl_reads_compressed_answers_over_http_1_and_2() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let url = cluster.nodes[0].api().url("/openapi.json");
    let plain = curl(folder, "", &[], &url).await?.expect("200 HTTP/1.1")?;
    for (version, shown) in [
        ("--http1.1", "200 HTTP/1.1"),
        ("--http2-prior-knowledge", "200 HTTP/2"),
        // It offers to change the protocol, as Java's client also does; the node does not.
        ("--http2", "200 HTTP/1.1"),
    ] {
        let compressed = curl(folder, &format!("--compressed {version}"), &[], &url).await?;
        let compressed = compressed.expect(shown)?;
        ensure!(
            compressed.head.contains("\ncontent-encoding: gzip"),
            "{}",
            compressed.head
        );
        ensure!(
            compressed.head.contains("\nvary: accept-encoding"),
            "{}",
            compressed.head
        );
        ensure!(compressed.json()? == plain.json()?, "{version}");
    }
    Ok(())
}

#[tokio::test]
async fn curl_at_the_grpc_port_learns_the_http_address() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let node = &cluster.nodes[0];
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let http_address = node.http_address().to_string();
    for path in ["/", "/v1/machines", "/lockstep.v1.Machines/ListMachines"] {
        let url = format!("http://{}{path}", node.grpc_address());
        for (version, shown) in [
            ("--http1.1", "404 HTTP/1.1"),
            ("--http2-prior-knowledge", "404 HTTP/2"),
            ("--http2", "404 HTTP/1.1"),
        ] {
            let refused = curl(folder, version, &[JSON], &url).await?.expect(shown)?;
            let problem = refused.json()?;
            ensure!(problem["code"] == "not_found", "{problem}");
            let detail = problem["detail"].as_str().context("a detail")?;
            ensure!(detail.ends_with(&http_address), "{detail}");
        }
    }
    // A call that a proxy sends on over HTTP/1 is not executed: its status could not be sent.
    let url = format!(
        "http://{}/lockstep.v1.Machines/ListMachines",
        node.grpc_address()
    );
    let call = ["Content-Type: application/grpc"];
    let refused = curl(folder, "--http1.1 --data x", &call, &url).await?;
    refused.expect("404 HTTP/1.1")?;
    Ok(())
}

#[tokio::test]
async fn curl_sends_compressed_files_and_a_bomb_is_refused() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let url = api.url(TRANSITIONS);
    for (file, body) in [
        ("second", gzip(br#"{"to":"second"}"#)?),
        ("third", gzip(br#"{"to":"third"}"#)?),
        ("bomb", gzip(&vec![b' '; 64 << 20])?),
        ("large", vec![b' '; 2 << 20]),
    ] {
        fs::write(folder.join(file), body)?;
    }
    let send = "--http1.1 --data-binary";
    let send2 = "--http2-prior-knowledge --data-binary";
    curl(folder, &format!("{send} @second"), &[JSON, GZIP], &url)
        .await?
        .expect("200")?;
    curl(folder, &format!("{send2} @third"), &[JSON, GZIP], &url)
        .await?
        .expect("200")?;
    for send in [send, send2] {
        for (file, headers) in [("bomb", &[JSON, GZIP][..]), ("large", &[JSON])] {
            let refused = curl(folder, &format!("{send} @{file}"), headers, &url).await?;
            ensure!(refused.json()?["code"] == "body_too_large", "{refused:?}");
            refused.expect("413")?;
        }
    }
    // curl alone sends a form.
    let form = curl(folder, "--data to=first", &[], &url)
        .await?
        .expect("415")?;
    ensure!(
        form.body.contains("Content-Type: application/json"),
        "{}",
        form.body
    );
    assert_eq!(api.instance().await?, ("third".to_owned(), 2));
    Ok(())
}
