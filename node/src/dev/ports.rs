//! Whether a port is free, and which process has it if not.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use super::DevError;

/// The process that listens on a port.
#[derive(Debug, PartialEq, Eq)]
struct PortOwner {
    pid: u32,
    program: String,
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// Binds the port for a moment.
pub(super) fn check_free(port: u16, what: &'static str, node: &str) -> Result<(), DevError> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let by = owner(port).map_or("a process of another user or container".into(), |owner| {
                owner.to_string()
            });
            Err(DevError::PortTaken {
                port,
                what,
                node: node.into(),
                by,
            })
        }
        Err(source) => Err(DevError::Port { port, source }),
    }
}

/// The process that listens on a TCP port of this machine. `None` if there is none, if it belongs to
/// another user or a container, or without `/proc`.
fn owner(port: u16) -> Option<PortOwner> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"]
        .map(|path| fs::read_to_string(path).unwrap_or_default());
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| listening(table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let holds_one = |pid: u32| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        let mut targets = descriptors
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.any(|target| {
            sockets
                .iter()
                .any(|socket| target.as_os_str() == socket.as_str())
        })
    };
    let pids = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pid = pids.into_iter().find(|pid| holds_one(*pid))?;
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let program = if program.trim().is_empty() {
        "a process".into()
    } else {
        program.trim().to_string()
    };
    Some(PortOwner { pid, program })
}

/// The inodes of the sockets that listen on `port`, from the text of `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let wanted = |line: &str| -> Option<u64> {
        // sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (_, local_port) = columns.get(1)?.rsplit_once(':')?;
        let here = u16::from_str_radix(local_port, 16).ok()? == port && *columns.get(3)? == LISTEN;
        columns.get(9).filter(|_| here)?.parse().ok()
    };
    table.lines().filter_map(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_reported_with_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        assert_eq!(owner(port).map(|owner| owner.pid), Some(std::process::id()));
        let error = check_free(port, "HTTP", "node1")
            .expect_err("taken")
            .to_string();
        assert!(
            error.contains(&format!("port {port} (HTTP of node1) is in use by")),
            "{error}"
        );
        assert!(
            error.contains(&format!("(pid {})", std::process::id())),
            "{error}"
        );
        drop(listener);
        check_free(port, "HTTP", "node1").expect("free again");
        assert_eq!(owner(port), None);
    }

    #[test]
    fn only_listeners_on_that_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:0D05 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 111 1\n\
            1: 0100007F:0D05 0100007F:9999 01 00000000:00000000 00:00000000 00000000 0 0 222 1\n\
            2: 00000000:0D06 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 333 1\n\
            nonsense\n";
        assert_eq!(listening(table, 3333), [111]);
        assert_eq!(listening(table, 3334), [333]);
        assert_eq!(listening("", 3333), Vec::<u64>::new());
    }
}
