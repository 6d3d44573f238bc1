//! One plain HTTP GET with a deadline: how `health` and `dev` ask a node how it is.
//!
//! Written by hand over a socket, so that asking needs no client stack, and a wedged node costs no
//! more than the deadline.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More than any answer that is asked for this way.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What the node said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing listens there, or the connection broke.
    #[error("http://{address}{path}: {source}")]
    Io {
        /// Where.
        address: SocketAddr,
        /// What was asked for.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("http://{address}{path}: no answer within {} ms", timeout.as_millis())]
    Timeout {
        /// Where.
        address: SocketAddr,
        /// What was asked for.
        path: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// Something listens there that does not speak HTTP.
    #[error("http://{address}{path}: the answer is not HTTP")]
    NotHttp {
        /// Where.
        address: SocketAddr,
        /// What was asked for.
        path: String,
    },
}

/// Asks `http://address/path` and waits for the whole answer, `timeout` at most.
///
/// # Errors
///
/// When there is no answer; a bad status is an answer.
pub async fn get(address: SocketAddr, path: &str, timeout: Duration) -> Result<Answer, ProbeError> {
    let path = path.to_string();
    match tokio::time::timeout(timeout, exchange(address, &path)).await {
        Ok(Ok(bytes)) => parse(&bytes).ok_or(ProbeError::NotHttp { address, path }),
        Ok(Err(source)) => Err(ProbeError::Io {
            address,
            path,
            source,
        }),
        Err(_) => Err(ProbeError::Timeout {
            address,
            path,
            timeout,
        }),
    }
}

/// HTTP/1.0, so that the answer ends with the connection and is never chunked.
async fn exchange(address: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nUser-Agent: lockstepd\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut bytes)
        .await?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (version, rest) = head.split_once(' ')?;
    let status = rest.get(..3)?.parse().ok()?;
    version.starts_with("HTTP/1.").then(|| Answer {
        status,
        body: body.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_its_body() {
        let answer = parse(b"HTTP/1.0 503 Service Unavailable\r\nx: y\r\n\r\nlate\r\n\r\nr");
        assert_eq!(
            answer,
            Some(Answer {
                status: 503,
                body: "late\r\n\r\nr".into()
            })
        );
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n"), None);
        assert_eq!(parse(b""), None);
    }

    #[tokio::test]
    async fn a_silent_listener_costs_the_deadline_and_no_more() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let error = get(address, "/livez", Duration::from_millis(50))
            .await
            .expect_err("silent");
        assert!(matches!(error, ProbeError::Timeout { .. }), "{error}");
    }
}
