//! One HTTP GET with a timeout: how `health` and `dev` ask a node for its state.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use axum::body::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1::handshake;
use hyper::header::{HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// More than any answer of a node has.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Requests `http://address/path` and reads the whole answer, within `timeout`. Any status is an
/// answer.
pub async fn get(address: SocketAddr, path: &str, timeout: Duration) -> Result<Answer> {
    let answer = tokio::time::timeout(timeout, exchange(address, path)).await;
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => bail!("http://{address}{path}: {error}"),
        Err(_) => bail!(
            "http://{address}{path}: no answer within {} ms",
            timeout.as_millis()
        ),
    }
}

async fn exchange(address: SocketAddr, path: &str) -> Result<Answer> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .header(USER_AGENT, "lockstepd")
        .body(Empty::<Bytes>::new())?;
    // Owns the sender: dropping it lets the connection end.
    let answer = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| anyhow!(error))?;
        Ok(Answer {
            status: head.status.as_u16(),
            body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        })
    };
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// A server that sends `answer` to its first client, and its address.
    fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
            if answer.is_empty() {
                std::thread::sleep(Duration::from_secs(60));
            }
        });
        address
    }

    async fn probe(answer: &'static [u8]) -> Result<Answer> {
        get(server(answer), "/livez", Duration::from_millis(500)).await
    }

    #[tokio::test]
    async fn any_status_is_an_answer_and_garbage_is_not() {
        let answer =
            probe(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nlate").await;
        let answer = answer.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (503, "late"));
        probe(b"SSH-2.0-OpenSSH\r\n").await.expect_err("not HTTP");
    }

    #[tokio::test]
    async fn a_silent_server_costs_the_timeout_and_no_more() {
        let error = probe(b"").await.expect_err("silent").to_string();
        assert!(error.contains("no answer within 500 ms"), "{error}");
    }
}
