//! Notifies a service manager such as systemd of the node's state: sd_notify(3).
//!
//! The messages are datagrams to the socket that `NOTIFY_SOCKET` names. A message that cannot be sent is dropped: a
//! node does not depend on its service manager.

use std::env;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use crate::lifecycle::{Lifecycle, Phase};
use crate::telemetry::Metrics;

/// Time between two messages at most.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long a start may stay silent before the service manager ends it.
const START_EXTENSION: Duration = Duration::from_secs(30);

/// The service manager's socket, if it gave one.
pub(super) struct ServiceManager {
    socket: UnixDatagram,
}

impl ServiceManager {
    /// Connects to the socket that `NOTIFY_SOCKET` names.
    pub(super) fn from_env() -> Option<Self> {
        let address = env::var_os("NOTIFY_SOCKET").filter(|it| !it.is_empty())?;
        let connect = || {
            let socket = UnixDatagram::unbound()?;
            // A full queue must not block the runtime.
            socket.set_nonblocking(true)?;
            match address.to_str().and_then(|it| it.strip_prefix('@')) {
                Some(name) => connect_abstract(&socket, name)?,
                None => socket.connect(&address)?,
            }
            Ok::<_, std::io::Error>(Self { socket })
        };
        let connected = connect();
        if let Err(error) = &connected {
            tracing::warn!(?address, %error, "cannot connect to the socket in NOTIFY_SOCKET");
        }
        connected.ok()
    }

    fn tell(&self, message: &str) {
        if let Err(error) = self.socket.send(message.as_bytes()) {
            tracing::debug!(%error, "cannot notify the service manager");
        }
    }

    /// Tells the phase of the start, that the node is ready, and that it is alive, until it stops.
    pub(super) async fn follow(self, lifecycle: Arc<Lifecycle>, metrics: Arc<Metrics>) {
        let watchdog = watchdog();
        let every = watchdog.map_or(TELL_EVERY, |timeout| TELL_EVERY.min(timeout / 2));
        let (mut told, mut ready) = (String::new(), false);
        loop {
            let mut message = String::new();
            let status = match (metrics.ready.get(), lifecycle.phase()) {
                (1, _) => "ready".to_owned(),
                (_, Phase::Serving) => "not ready: /readyz says why".to_owned(),
                _ => format!("not ready: {lifecycle}"),
            };
            if status != told {
                message = format!("STATUS={status}\n");
                told = status;
            }
            if !ready {
                ready = metrics.ready.get() == 1;
                message += &match ready {
                    true => "READY=1\n".to_owned(),
                    false => extension(START_EXTENSION),
                };
            }
            if watchdog.is_some() {
                message += "WATCHDOG=1\n";
            }
            if !message.is_empty() {
                self.tell(&message);
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Tells that the node stops, within `timeout`.
    pub(super) fn stopping(timeout: Duration) {
        if let Some(manager) = Self::from_env() {
            let mut message = "STOPPING=1\nSTATUS=stopping\n".to_owned();
            message += &extension(timeout);
            manager.tell(&message);
        }
    }
}

fn extension(timeout: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}\n", timeout.as_micros())
}

/// The time within which the service manager expects a sign of life, if it expects one of this process.
fn watchdog() -> Option<Duration> {
    let of = |name| env::var(name).ok()?.parse::<u64>().ok();
    let addressed = env::var_os("WATCHDOG_PID").is_none()
        || of("WATCHDOG_PID") == Some(std::process::id().into());
    let micros = of("WATCHDOG_USEC").filter(|micros| addressed && *micros > 0)?;
    Some(Duration::from_micros(micros))
}

#[cfg(target_os = "linux")]
fn connect_abstract(socket: &UnixDatagram, name: &str) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)
}

#[cfg(not(target_os = "linux"))]
fn connect_abstract(_: &UnixDatagram, _: &str) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
