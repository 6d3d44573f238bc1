//! A proxy between two processes that simulates a network cable: it can be cut and reconnected.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wait::wait_for;

/// For something to be sent.
const SENT_DEADLINE: Duration = Duration::from_secs(10);

/// Forwards connections. While it is cut, it drops bytes without an error, as a failed switch does, so that
/// senders notice only by a timeout.
pub struct Cable {
    address: SocketAddr,
    state: watch::Sender<State>,
    connections: Arc<AtomicUsize>,
    /// Requests in flight that are held.
    held: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct State {
    plugged: bool,
    /// Holds the requests of this many connections, the oldest ones.
    slow: usize,
}

impl Cable {
    /// From a port of its own to `to`.
    pub async fn to(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = watch::Sender::new(State {
            plugged: true,
            slow: 0,
        });
        let (connections, held) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let task = {
            let (state, connections, held) = (state.clone(), connections.clone(), held.clone());
            tokio::spawn(async move {
                while let Ok((near, _)) = listener.accept().await {
                    let strand = Strand {
                        number: connections.fetch_add(1, Ordering::AcqRel),
                        state: state.subscribe(),
                        held: held.clone(),
                    };
                    // A connection that breaks is for its two ends to deal with.
                    tokio::spawn(pass(near, to, strand));
                }
            })
        };
        Ok(Self {
            address,
            state,
            connections,
            held,
            task,
        })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Unplugs it.
    pub fn pull(&self) {
        self.state.send_modify(|state| state.plugged = false);
    }

    /// Plugs it in again. What was sent meanwhile arrives if its sender still waits.
    pub fn plug(&self) {
        self.state.send_modify(|state| state.plugged = true);
    }

    /// Holds a request on one of the existing connections, and whatever else is sent on those; new
    /// connections are forwarded. Returns once one is held.
    pub async fn catch(&self) -> Result<()> {
        let connections = self.connections.load(Ordering::Acquire);
        self.state.send_modify(|state| state.slow = connections);
        wait_for("a request to be caught", SENT_DEADLINE, async || {
            let held = self.held.load(Ordering::Acquire);
            ensure!(held > 0, "none is on its way");
            Ok(())
        })
        .await
    }

    /// Lets the held requests arrive, late.
    pub fn release(&self) {
        self.state.send_modify(|state| state.slow = 0);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection's part of a cable.
#[derive(Clone)]
struct Strand {
    number: usize,
    state: watch::Receiver<State>,
    held: Arc<AtomicUsize>,
}

/// One direction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Requests,
    Responses,
}

impl Strand {
    /// Waits until what goes this way gets through.
    async fn clear(&mut self, way: Way) -> Result<()> {
        let number = self.number;
        let is_clear =
            |state: &State| state.plugged && (way == Way::Responses || number >= state.slow);
        if way == Way::Responses || is_clear(&self.state.borrow()) {
            self.state.wait_for(is_clear).await?;
            return Ok(());
        }
        self.held.fetch_add(1, Ordering::AcqRel);
        let cleared = self.state.wait_for(is_clear).await.map(drop);
        self.held.fetch_sub(1, Ordering::AcqRel);
        Ok(cleared?)
    }
}

async fn pass(near: TcpStream, to: SocketAddr, mut strand: Strand) -> Result<()> {
    strand.clear(Way::Responses).await?;
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::try_join!(
        one_way(near_in, far_out, strand.clone(), Way::Requests),
        one_way(far_in, near_out, strand, Way::Responses),
    )?;
    Ok(())
}

async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut strand: Strand,
    way: Way,
) -> Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).await?;
        strand.clear(way).await?;
        if read == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        to.write_all(&bytes[..read]).await?;
    }
}
