//! The limit on open files. Each connection is one, and the soft limit in shells and containers, 1024,
//! is below what the configuration allows: connections would be dropped without an answer.

use std::io;

use lockstep_node::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files besides the connections of HTTP clients: the store, peers, gRPC clients.
const OTHERS: u64 = 1024;

/// Raises the soft limit to the hard one, which needs no privilege, and warns if that is too low.
pub fn raise(config: &Config) {
    let wanted = wanted(config);
    match raise_soft_limit() {
        Ok(limit) if limit < wanted => tracing::warn!(
            limit,
            wanted,
            "the limit on open files is too low for http.concurrency_max and watchers_max; raise it (ulimit -n)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit on open files"),
    }
}

fn wanted(config: &Config) -> u64 {
    (config.http.concurrency_max as u64)
        .saturating_add(config.watchers_max as u64)
        .saturating_add(OTHERS)
}

fn raise_soft_limit() -> io::Result<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit)?;
    Ok(maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_hard_one_afterwards() {
        let limit = raise_soft_limit().unwrap();
        assert_eq!(raise_soft_limit().unwrap(), limit);
        assert!(limit > 0);
    }
}
