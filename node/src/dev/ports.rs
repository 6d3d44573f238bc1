//! Whether a port is free, and which process has it if not.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, bail};

/// Binds the port for a moment.
pub(super) fn check_free(port: u16, what: &str, node: &str) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let hidden = || "a process of another user or container".into();
            bail!(
                "port {port} ({what} of {node}) is in use by {}; stop it, or choose other ports with --http-port and --grpc-port",
                owner(port).unwrap_or_else(hidden)
            )
        }
        Err(error) => bail!("cannot listen on port {port}: {error}"),
    }
}

/// The process that listens on a TCP port of this machine. `None` if there is none, or if it belongs
/// to another user or a container.
#[cfg(target_os = "linux")]
fn owner(port: u16) -> Option<String> {
    use procfs::net::TcpState;
    use procfs::process::{FDTarget, Process, all_processes};
    let tables = [procfs::net::tcp(), procfs::net::tcp6()];
    let sockets: Vec<u64> = tables
        .into_iter()
        .flatten()
        .flatten()
        .filter(|it| it.local_address.port() == port && it.state == TcpState::Listen)
        .map(|it| it.inode)
        .collect();
    let is_ours = |target| matches!(target, FDTarget::Socket(inode) if sockets.contains(&inode));
    let holds_one = |process: &Process| {
        let mut open = process.fd().into_iter().flatten().flatten();
        open.any(|descriptor| is_ours(descriptor.target))
    };
    let process = all_processes().ok()?.flatten().find(holds_one)?;
    Some(format!(
        "{} (pid {})",
        process.stat().ok()?.comm,
        process.pid
    ))
}

#[cfg(not(target_os = "linux"))]
fn owner(_port: u16) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_reported_with_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let pid = format!("(pid {})", std::process::id());
        assert!(owner(port).is_some_and(|owner| owner.ends_with(&pid)));
        let error = check_free(port, "HTTP", "node1")
            .expect_err("taken")
            .to_string();
        assert!(
            error.contains(&format!("port {port} (HTTP of node1) is in use by")),
            "{error}"
        );
        assert!(error.contains(&pid), "{error}");
        drop(listener);
        check_free(port, "HTTP", "node1").expect("free again");
        assert_eq!(owner(port), None);
    }
}
