//! What destinations need to connect: secrets and certificates from files, host names, time limits.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::SinkError;

/// Reads passwords, signing secrets and certificate files off the async runtime. Destinations read them
/// each time they connect, so that they can be rotated while the node runs.
pub(super) async fn read_files<T: Send + 'static>(
    timeout: Duration,
    read: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    match tokio::time::timeout(timeout, tokio::task::spawn_blocking(read)).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => Err(SinkError::unavailable(format!(
            "reading its password and certificate files failed: {error}"
        ))),
        Err(_) => Err(SinkError::unavailable(format!(
            "its password and certificate files could not be read within {timeout:?}"
        ))),
    }
}

/// The certificate authorities in a PEM file, as `parse` reads them. Blocking.
pub(super) fn authorities<C, E>(
    file: &Path,
    parse: impl FnOnce(&[u8]) -> Result<Vec<C>, E>,
) -> Result<Vec<C>, SinkError> {
    let file_name = file.display();
    let pem = std::fs::read(file)
        .map_err(|e| SinkError::misconfigured(format!("cannot read {file_name}: {e}")))?;
    match parse(&pem) {
        Ok(authorities) if !authorities.is_empty() => Ok(authorities),
        Ok(_) | Err(_) => Err(SinkError::misconfigured(format!(
            "{file_name} contains no certificate in PEM"
        ))),
    }
}

/// One exchange with the destination, within the timeout.
pub(super) async fn within<T>(
    timeout: Duration,
    exchange: impl Future<Output = Result<T, SinkError>>,
) -> Result<T, SinkError> {
    match tokio::time::timeout(timeout, exchange).await {
        Ok(ended) => ended,
        Err(_) => Err(SinkError::unavailable(format!(
            "no answer within {timeout:?}"
        ))),
    }
}

/// The addresses of a host, without a port: at least one. The host may be an address in a URL's syntax.
pub(super) async fn addresses(host: &str) -> Result<Vec<SocketAddr>, SinkError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((bare, 0)).await;
    let addresses: Vec<_> = found.into_iter().flatten().collect();
    match addresses.is_empty() {
        false => Ok(addresses),
        true => Err(SinkError::Absent {
            host: host.to_owned(),
        }),
    }
}

/// Checks that at least one of the hosts has an address: a service that was never started has none. A
/// socket in the file system, `None`, needs none.
pub(super) async fn look_up(hosts: Vec<Option<&str>>) -> Result<(), SinkError> {
    let mut unknown = Ok(());
    for host in hosts {
        let Some(host) = host else { return Ok(()) };
        match addresses(host).await {
            Ok(_) => return Ok(()),
            Err(absent) => unknown = Err(absent),
        }
    }
    unknown
}

/// An error and its causes, outermost first.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |it| (*it).source())
}
