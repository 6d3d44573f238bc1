//! How many files this process may have open. Each connection is one, and the soft limit that shells
//! and containers begin with, 1024, is less than the configuration allows: clients would be turned
//! away without a word.

use std::io;

use crate::config::Config;

/// What is open beside connections from HTTP clients: the store, peers, gRPC clients.
const OTHERS: u64 = 1024;

/// Raises the soft limit to the hard one, which needs no privilege, and warns if that is not enough.
pub fn raise(config: &Config) {
    let wanted = wanted(config);
    match raise_soft_limit() {
        Ok(limit) if limit < wanted => tracing::warn!(
            limit,
            wanted,
            "fewer files may be open than http.concurrency_max and watchers_max need (ulimit -n)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit on open files could not be raised"),
    }
}

fn wanted(config: &Config) -> u64 {
    (config.http.concurrency_max as u64)
        .saturating_add(config.watchers_max as u64)
        .saturating_add(OTHERS)
}

fn raise_soft_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid limit, read and not kept.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
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
