//! Ports that the system assigns and no other process gets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};
use tokio::net::TcpSocket;

/// A loopback port that is reserved for a process, even while that process is down.
///
/// It is bound, and never listened on. Bound without address reuse, so that a port kept by another
/// process is refused even by number; with it from then on, so that Linux gives it to a listener with
/// address reuse (every listener of Rust and of Go sets that), but never to one that asks for any
/// free port.
pub struct Port {
    socket: TcpSocket,
}

impl Port {
    /// A port that the system finds free.
    pub fn free() -> Result<Self> {
        Ok(Self::bind(0)?)
    }

    /// `count` free ports in a row.
    pub fn free_row(count: u16) -> Result<Vec<Self>> {
        for _ in 0..100 {
            let first = Self::free()?;
            let start = first.address().port();
            let Some(end) = start.checked_add(count) else {
                continue;
            };
            let rest: io::Result<Vec<Self>> = (start + 1..end).map(Self::bind).collect();
            if let Ok(rest) = rest {
                return Ok(std::iter::once(first).chain(rest).collect());
            }
        }
        bail!("no {count} free ports in a row")
    }

    /// Its address on loopback.
    pub fn address(&self) -> SocketAddr {
        self.socket
            .local_addr()
            .expect("a bound socket has an address")
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.address().port()
    }

    fn bind(number: u16) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, number).into())?;
        socket.set_reuseaddr(true)?;
        Ok(Self { socket })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_is_kept_once_and_a_listener_may_still_have_it() -> Result<()> {
        for kept in Port::free_row(3)? {
            assert!(
                Port::bind(kept.number()).is_err(),
                "{} twice",
                kept.address()
            );
            for _ in 0..2 {
                drop(TcpListener::bind(kept.address())?);
            }
        }
        Ok(())
    }
}
