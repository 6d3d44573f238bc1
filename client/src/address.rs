//! Where a node's gRPC interface is.

use std::fmt;
use std::str::FromStr;

use tonic::transport::Uri;

/// `host:port` of a node's gRPC interface. An `http://` in front is accepted and dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(String);

/// An address that cannot be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not an endpoint: {reason}")]
pub struct InvalidAddress {
    /// The offending text, shortened to 80 characters.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Address {
    /// `host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(value: &str) -> Result<Self, InvalidAddress> {
        parse(value)
            .map(|address| Self(address.to_owned()))
            .map_err(|reason| InvalidAddress {
                value: value.chars().take(80).collect(),
                reason,
            })
    }
}

const FORM: &str = "it must have the form host:port, for example 127.0.0.1:4333";

fn parse(value: &str) -> Result<&str, &'static str> {
    if value.is_empty() {
        return Err("it is empty");
    }
    let address = match value.split_once("://") {
        Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
        Some(("https", _)) => return Err("nodes do not speak TLS; give host:port"),
        Some(_) => return Err(FORM),
        None => value,
    };
    let (host, port) = address.rsplit_once(':').ok_or(FORM)?;
    if host.is_empty() {
        return Err("the host is missing: it must have the form host:port");
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err("an IPv6 address goes in brackets: [::1]:4333");
    }
    if !port.bytes().all(|b| b.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|port| port > 0)
    {
        return Err("the port must be a number from 1 to 65535");
    }
    let uri = format!("http://{address}")
        .parse::<Uri>()
        .map_err(|_| "the host is not a name or an IP address")?;
    // Rules out user names, paths and queries: what is dialled is what was written.
    match uri.authority() {
        Some(authority) if authority.as_str() == address && !address.contains('@') => Ok(address),
        _ => Err("the host is not a name or an IP address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_and_may_be_written_as_a_url() {
        for (written, meant) in [
            ("127.0.0.1:4333", "127.0.0.1:4333"),
            ("node1:4333", "node1:4333"),
            ("http://node1.example:4333/", "node1.example:4333"),
            ("[::1]:4333", "[::1]:4333"),
        ] {
            assert_eq!(
                written.parse::<Address>().map(|a| a.to_string()).as_deref(),
                Ok(meant)
            );
        }
    }

    #[test]
    fn what_cannot_be_dialled_is_refused_with_its_reason() {
        for (written, part) in [
            ("", "empty"),
            ("node1", "host:port"),
            (":4333", "host is missing"),
            ("::1:4333", "brackets"),
            ("node1:0", "1 to 65535"),
            ("node1:65536", "1 to 65535"),
            ("node1:+80", "1 to 65535"),
            ("node1:", "1 to 65535"),
            ("https://node1:4333", "TLS"),
            ("ftp://node1:4333", "host:port"),
            ("a b:4333", "not a name"),
            ("me@node1:4333", "not a name"),
            ("node1/path:4333", "not a name"),
        ] {
            let refused = written.parse::<Address>();
            assert!(
                refused
                    .as_ref()
                    .is_err_and(|e| e.to_string().contains(part)),
                "{written:?} gave {refused:?}"
            );
        }
    }
}
