//! Which addresses may be called: a user who may only configure a URL must not reach services on this
//! machine or its link, such as a cloud's metadata service.
//!
//! Names are looked up here for each connection, so that a name whose address changes is checked again.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::config::is_local;
use crate::sink::SinkError;

/// Why a host cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// The name does not resolve.
    #[error("host {host} does not resolve to an address")]
    Absent {
        /// The name.
        host: String,
    },
    /// It has only addresses that may not be called.
    #[error(
        "{host} has the address {address}, which belongs to this machine or its link: set allow_local = true to allow that"
    )]
    Local {
        /// The name, or the address as configured.
        host: String,
        /// One of its addresses.
        address: IpAddr,
    },
}

impl From<Unusable> for SinkError {
    fn from(it: Unusable) -> Self {
        match it {
            Unusable::Absent { host } => SinkError::Absent { host },
            Unusable::Local { .. } => SinkError::Misconfigured {
                reason: it.to_string(),
            },
        }
    }
}

/// Resolves names to addresses that may be called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolver {
    allow_local: bool,
}

impl Resolver {
    pub(super) fn new(allow_local: bool) -> Self {
        Self { allow_local }
    }

    /// The addresses of a host that may be called, without a port. The host may be an address in a URL's
    /// syntax: HTTP clients do not pass those to resolvers.
    pub(super) async fn look_up(self, host: &str) -> Result<Vec<SocketAddr>, Unusable> {
        let bare = host
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'))
            .unwrap_or(host);
        let absent = || Unusable::Absent {
            host: host.to_owned(),
        };
        let found = tokio::net::lookup_host((bare, 0))
            .await
            .map_err(|_| absent())?;
        self.pick(host, found.collect())
    }

    fn pick(self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Unusable> {
        let allowed = |it: &SocketAddr| self.allow_local || !is_local(it.ip());
        let usable: Vec<_> = found.iter().copied().filter(allowed).collect();
        let host = host.to_owned();
        match (usable.is_empty(), found.first()) {
            (false, _) => Ok(usable),
            (true, None) => Err(Unusable::Absent { host }),
            (true, Some(address)) => Err(Unusable::Local {
                host,
                address: address.ip(),
            }),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = *self;
        Box::pin(async move {
            let usable = resolver.look_up(name.as_str()).await?;
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_called_only_at_allowed_addresses() {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let (local, remote) = (at("127.0.0.1"), at("192.0.2.1"));
        let strict = Resolver::new(false);
        assert_eq!(strict.pick("h", vec![local, remote]), Ok(vec![remote]));
        let rejected = strict.pick("h", vec![local]).unwrap_err();
        assert!(rejected.to_string().contains("127.0.0.1"), "{rejected}");
        assert!(rejected.to_string().contains("allow_local"), "{rejected}");
        let absent = Unusable::Absent { host: "h".into() };
        assert_eq!(strict.pick("h", vec![]), Err(absent));
        let open = Resolver::new(true);
        assert_eq!(open.pick("h", vec![local, remote]), Ok(vec![local, remote]));
    }
}
