//! A minimal HTTP/1.1 server, because libraries always complete a response once it has begun.

use anyhow::{Context, Result, ensure};
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Longer than the head or the body of any message.
const PART_BYTES_MAX: usize = 1024 * 1024;

/// A request that came in whole.
pub(crate) struct Request {
    /// `METHOD path`.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A connection of a sender.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Without it, an answer waits for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// The next request; none if the sender hung up.
    pub(crate) async fn read(&mut self) -> Result<Option<Request>> {
        let mut head = String::new();
        loop {
            let read = self.stream.read_line(&mut head).await?;
            if read == 0 {
                return Ok(None);
            }
            ensure!(head.len() <= PART_BYTES_MAX, "a head without an end");
            if head.ends_with("\r\n\r\n") {
                break;
            }
        }
        let mut lines = head.lines().filter(|line| !line.is_empty());
        let first = lines.next().context("an empty head")?;
        let target = first.strip_suffix(" HTTP/1.1");
        let target = target.with_context(|| format!("{head:?}"))?.to_owned();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').context("a header without a colon")?;
            let name: HeaderName = name.parse()?;
            headers.append(name, HeaderValue::from_str(value.trim())?);
        }
        let length = headers.get(CONTENT_LENGTH).map(HeaderValue::to_str);
        let length: usize = length.transpose()?.unwrap_or("0").parse()?;
        ensure!(length <= PART_BYTES_MAX, "a body of {length} bytes");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let body = String::from_utf8(body)?;
        Ok(Some(Request {
            target,
            headers,
            body,
        }))
    }

    /// Answers, and says that the connection can be used further.
    pub(crate) async fn answer(&mut self, status: u16, headers: &str, body: &str) -> Result<bool> {
        // 204 has no body, and must not tell its length (RFC 9110, 8.6).
        let length = match status {
            204 => String::new(),
            _ => format!("content-length: {}\r\n", body.len()),
        };
        let answer = format!("HTTP/1.1 {status} -\r\n{length}{headers}\r\n{body}");
        self.stream.write_all(answer.as_bytes()).await?;
        Ok(true)
    }

    /// Begins an answer and does not end it.
    pub(crate) async fn break_off(&mut self) -> Result<()> {
        let begun = b"HTTP/1.1 200 -\r\ncontent-length: 100\r\n\r\nwe have";
        self.stream.write_all(begun).await?;
        self.stream.shutdown().await?;
        Ok(())
    }

    /// Says nothing until the sender hangs up.
    pub(crate) async fn closed(&mut self) -> Result<()> {
        let mut rest = [0; 64];
        while self.stream.read(&mut rest).await? > 0 {}
        Ok(())
    }
}
