//! A browser without a window, and a site whose pages it opens.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::process::Process;
use crate::program::find;
use crate::wire::Connection;

/// The browsers themselves: what Debian has on the PATH is a shell that waits for one, and would be killed
/// in its place.
const PROGRAMS: [&str; 2] = [
    "/usr/lib/chromium/chromium-headless-shell",
    "/usr/lib/chromium/chromium",
];
/// How long the browser may take from its start, or the last report, to the next one.
const REPORT_DEADLINE: Duration = Duration::from_secs(60);

/// Serves one page under every path, and keeps what it posts as JSON to `/report`.
pub struct Site {
    address: SocketAddr,
    reports: UnboundedReceiver<Value>,
    serving: JoinHandle<()>,
}

impl Site {
    /// Starts to serve `page`, under both names of this machine: `127.0.0.1` and `localhost`.
    pub async fn start(page: &'static str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (sender, reports) = unbounded_channel();
        let serving = tokio::spawn(serve(listener, page, Arc::new(sender)));
        Ok(Self {
            address,
            reports,
            serving,
        })
    }

    /// The origin of its pages under this name of the machine.
    pub fn origin(&self, host: &str) -> String {
        format!("http://{host}:{}", self.address.port())
    }

    /// What the page reports next.
    pub async fn report(&mut self) -> Result<Value> {
        let report = tokio::time::timeout(REPORT_DEADLINE, self.reports.recv());
        let report = report.await.context("the page reported nothing")?;
        report.context("the site has ended")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, page: &'static str, reports: Arc<UnboundedSender<Value>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let reports = reports.clone();
        tokio::spawn(async move {
            // A connection that breaks is the browser's to deal with.
            let _ = answer(stream, page, &reports).await;
        });
    }
}

async fn answer(stream: TcpStream, page: &str, reports: &UnboundedSender<Value>) -> Result<()> {
    let mut connection = Connection::new(stream);
    while let Some(request) = connection.read().await? {
        match request.target.as_str() {
            "POST /report" => {
                // Nobody reads it once the test is over.
                let _ = reports.send(serde_json::from_str(&request.body)?);
                connection.answer(204, "", "").await?
            }
            _ => {
                let html = "content-type: text/html; charset=utf-8\r\n";
                connection.answer(200, html, page).await?
            }
        };
    }
    Ok(())
}

/// A browser that runs. Killed when dropped.
pub struct Browser {
    _process: Process,
    _folder: TempDir,
}

impl Browser {
    /// Opens a page in a new browser that knows nothing yet.
    pub fn open(url: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the browser")?;
        let mut command = Command::new(find(&PROGRAMS, "chromium-headless-shell")?);
        let profile = format!("--user-data-dir={}", folder.path().display());
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            // It stays open, and asks nobody but the page's servers.
            .args(["--remote-debugging-port=0", "--no-proxy-server"])
            .args(["--no-first-run", "--disable-background-networking"])
            .args([&profile, url]);
        let log = folder.path().join("browser.log");
        Ok(Self {
            _process: Process::spawn("browser", command, &log)?,
            _folder: folder,
        })
    }
}
