//! Which addresses may be called: nobody who may only name a URL shall reach what listens on this
//! machine or beside it, such as the metadata of a cloud's virtual machine.
//!
//! Names are looked up here for each connection, so that a name that leads elsewhere later is
//! checked again.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::config::is_local;
use crate::sink::SinkError;

/// Why there is no address to call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// The name has none.
    #[error("no host is known as {host}")]
    Absent {
        /// The name.
        host: String,
    },
    /// It has none but such as may not be called.
    #[error(
        "{host} is at {address}, which belongs to this machine or its link: such addresses are called only with allow_local = true"
    )]
    Local {
        /// The name, or the address as it was given.
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

/// Looks names up, and keeps to itself what may not be called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolver {
    allow_local: bool,
}

impl Resolver {
    /// One that gives local addresses only if they are allowed.
    pub(super) fn new(allow_local: bool) -> Self {
        Self { allow_local }
    }

    /// The addresses of a host that may be called, without a port. The host may be an address itself,
    /// as it stands in a URL: clients do not ask resolvers about those.
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
    fn a_host_is_called_at_those_of_its_addresses_that_may_be() {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let (local, far) = (at("127.0.0.1"), at("192.0.2.1"));
        let strict = Resolver::new(false);
        assert_eq!(strict.pick("h", vec![local, far]), Ok(vec![far]));
        let refused = strict.pick("h", vec![local]).unwrap_err();
        assert!(refused.to_string().contains("127.0.0.1"), "{refused}");
        assert!(refused.to_string().contains("allow_local"), "{refused}");
        let absent = Unusable::Absent { host: "h".into() };
        assert_eq!(strict.pick("h", vec![]), Err(absent));
        let open = Resolver::new(true);
        assert_eq!(open.pick("h", vec![local, far]), Ok(vec![local, far]));
    }
}
