//! Which addresses may be called: a user who may only configure a URL must not reach services on this
//! machine or its link, such as a cloud's metadata service.
//!
//! Names are looked up here for each connection, so that a name whose address changes is checked again.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::config::is_local;
use crate::sink::SinkError;
use crate::sink::connect::addresses;

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
    pub(super) async fn look_up(self, host: &str) -> Result<Vec<SocketAddr>, SinkError> {
        self.pick(host, addresses(host).await?)
    }

    fn pick(self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, SinkError> {
        let allowed = |it: &SocketAddr| self.allow_local || !is_local(it.ip());
        let usable: Vec<_> = found.iter().copied().filter(allowed).collect();
        match (usable.is_empty(), found.first()) {
            (true, Some(address)) => Err(SinkError::misconfigured(format!(
                "{host} resolves to {}, a loopback or link-local address: set allow_local = true to \
                 allow that",
                address.ip()
            ))),
            _ => Ok(usable),
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
        let open = Resolver::new(true);
        assert_eq!(open.pick("h", vec![local, remote]), Ok(vec![local, remote]));
    }
}
