//! A proxy between one node and its Consul agent that counts requests and can hold them back.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longer than any request of a node.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// A relay for one node. It ends when dropped.
pub struct Relay {
    address: SocketAddr,
    counts: Arc<Counts>,
    bids_pass: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicUsize,
    bids: AtomicUsize,
}

impl Relay {
    /// A relay to the agent at `agent` that lets everything pass.
    pub async fn start(agent: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (counts, bids_pass) = (Arc::<Counts>::default(), watch::Sender::new(true));
        let task = {
            let (counts, bids_pass) = (counts.clone(), bids_pass.clone());
            tokio::spawn(async move {
                while let Ok((node, _)) = listener.accept().await {
                    let (counts, pass) = (counts.clone(), bids_pass.subscribe());
                    // A connection that breaks is the node's to deal with.
                    tokio::spawn(async move { relay(node, agent, &counts, pass).await });
                }
            })
        };
        Ok(Self {
            address,
            counts,
            bids_pass,
            task,
        })
    }

    /// Where the node is to look for its agent.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that came in.
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::Acquire)
    }

    /// Bids for the bootstrap plan that came in, also those still held back.
    pub fn bids(&self) -> usize {
        self.counts.bids.load(Ordering::Acquire)
    }

    /// Holds back attempts to create the bootstrap plan until [`let_bids_pass`](Self::let_bids_pass). Attempts that
    /// the node has abandoned in the meantime are forwarded, too.
    pub fn hold_bids(&self) {
        self.bids_pass.send_replace(false);
    }

    /// Lets all bids pass, held ones first.
    pub fn let_bids_pass(&self) {
        self.bids_pass.send_replace(true);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(
    mut node: TcpStream,
    agent: SocketAddr,
    counts: &Counts,
    mut bids_pass: watch::Receiver<bool>,
) -> Result<()> {
    let request = read_request(&mut node).await?;
    counts.requests.fetch_add(1, Ordering::AcqRel);
    if request.starts_with(b"PUT /v1/kv/") {
        counts.bids.fetch_add(1, Ordering::AcqRel);
        bids_pass.wait_for(|pass| *pass).await?;
    }
    let mut agent = TcpStream::connect(agent).await?;
    agent.write_all(&request).await?;
    tokio::io::copy_bidirectional(&mut node, &mut agent).await?;
    Ok(())
}

/// One whole request, so that it can be passed on even after its sender hung up.
async fn read_request(node: &mut TcpStream) -> Result<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4096];
        let read = node.read(&mut part).await?;
        ensure!(read > 0, "it hung up in the middle of a request");
        request.extend_from_slice(&part[..read]);
        ensure!(
            request.len() <= REQUEST_BYTES_MAX,
            "that is no request of a node"
        );
        if is_whole(&request).context("a request that is no HTTP/1")? {
            return Ok(request);
        }
    }
}

fn is_whole(request: &[u8]) -> Result<bool> {
    let Some(head_len) = request.windows(4).position(|end| end == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = std::str::from_utf8(&request[..head_len])?.to_ascii_lowercase();
    let body_len: usize = match head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
    {
        Some(length) => length.trim().parse()?,
        None => 0,
    };
    Ok(request.len() >= head_len + 4 + body_len)
}
