//! The HTTP server: accepts connections, bounds their number, and drains them on shutdown.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use super::lingering::Lingering;
use super::middleware;
use crate::config;
use crate::telemetry::Metrics;

/// Connections per request served at once: most connections are idle.
const CONNECTIONS_PER_REQUEST: usize = 4;
const HTTP2_STREAMS_MAX: u32 = 256;
const HTTP2_KEEPALIVE: Duration = Duration::from_secs(20);
const HTTP2_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest head of a request, and roughly what one connection buffers before sending, bytes. A
/// watcher that never reads costs this much and one chunk of events.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// Buffer of one HTTP/2 stream that is not read, bytes.
const HTTP2_STREAM_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Unsent bytes that the kernel buffers for one connection. Its default is megabytes, which count as
/// memory of the container.
const UNSENT_BYTES_MAX: libc::c_int = 128 * 1024;
/// How long a browser may remember what a page of another origin may do.
const CORS_MAX_AGE: Duration = Duration::from_secs(600);
/// Pause after an error of accept, for example when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The first bytes of an HTTP/2 connection.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Pause between two looks at a preface that arrives in pieces.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);

/// Serves `router` on `listener` until `shutdown` completes, then waits for open requests, at most
/// `http.drain_timeout`.
///
/// A client must send the head of a request within `http.header_timeout`; with HTTP/1 that includes
/// the time between two requests. `watchers_max` watches get connections in addition to the requests.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: &config::Http,
    watchers_max: usize,
    metrics: &Metrics,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let connections_max = config
        .concurrency_max
        .saturating_mul(CONNECTIONS_PER_REQUEST)
        .saturating_add(watchers_max);
    let connections_max = connections_max.clamp(1, Semaphore::MAX_PERMITS);
    let slots = Arc::new(Semaphore::new(connections_max));
    let server = Arc::new(server(config.header_timeout));
    let router = match cors(&config.cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    let draining = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let open = connections.len() as u64;
        metrics.quota("http_connections", open, connections_max as u64);
        let accepted = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (server, router, draining) = (server.clone(), router.clone(), draining.clone());
                let header_timeout = config.header_timeout;
                connections.spawn(async move {
                    let _slot = slot;
                    if let Err(error) =
                        connection(&server, stream, router, header_timeout, draining).await
                    {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    draining.cancel();
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(config.drain_timeout, all_ended)
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "http.drain_timeout expired; open HTTP connections were closed"
        );
    }
    Ok(())
}

/// What pages of other origins may do; none without such origins.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let allowed = match origins {
        [] => return None,
        any if any.iter().any(|it| it == "*") => AllowOrigin::any(),
        list => AllowOrigin::list(list.iter().filter_map(|it| it.parse().ok())),
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        // Also those that tracing libraries and authenticating proxies need.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any)
        .max_age(CORS_MAX_AGE);
    Some(layer)
}

fn server(header_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(BUFFER_BYTES_MAX)
        .header_read_timeout(header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_KEEPALIVE)
        .keep_alive_timeout(HTTP2_KEEPALIVE_TIMEOUT)
        .max_send_buf_size(HTTP2_STREAM_BUFFER_BYTES_MAX)
        .max_concurrent_streams(HTTP2_STREAMS_MAX);
    builder
}

async fn connection(
    server: &auto::Builder<TokioExecutor>,
    stream: TcpStream,
    router: Router,
    header_timeout: Duration,
    draining: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    bound_unsent(&stream)?;
    tokio::select! {
        () = draining.cancelled() => return Ok(()),
        spoke = tokio::time::timeout(header_timeout, protocol_is_clear(&stream)) => {
            if !spoke?? {
                return Ok(());
            }
        }
    }
    let answer = service_fn(move |request: Request<Incoming>| {
        let answered = middleware::conform(request.map(Body::new), router.clone());
        async { Ok::<_, Infallible>(answered.await) }
    });
    let stream = TokioIo::new(Lingering::new(stream));
    let mut connection = std::pin::pin!(server.serve_connection(stream, answer));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = draining.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// Bounds the unsent bytes that the kernel buffers for a connection.
fn bound_unsent(stream: &TcpStream) -> io::Result<()> {
    let bytes = UNSENT_BYTES_MAX;
    // SAFETY: the descriptor is open while `stream` is borrowed, and the option's value is a C int
    // that outlives the call.
    let done = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            std::ptr::from_ref(&bytes).cast(),
            std::mem::size_of_val(&bytes) as libc::socklen_t,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Waits until the first bytes distinguish HTTP/1 from HTTP/2; false when the client closes before.
///
/// hyper-util's automatic server waits for these bytes without a timeout, so that a client that sends
/// nothing would hold a connection forever.
async fn protocol_is_clear(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; HTTP2_PREFACE.len()];
    loop {
        let n = stream.peek(&mut seen).await?;
        if n == 0 {
            return Ok(false);
        }
        if n == seen.len() || seen[..n] != HTTP2_PREFACE[..n] {
            return Ok(true);
        }
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Edge;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};

    async fn start(
        router: Router,
    ) -> (
        SocketAddr,
        oneshot::Sender<()>,
        tokio::task::JoinHandle<io::Result<()>>,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let metrics = Metrics::new().unwrap();
            serve(listener, router, &Edge::test_limits(), 4, &metrics, async {
                let _ = stopped.await;
            })
            .await
        });
        (address, stop, served)
    }

    async fn read_to_end(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        let read =
            tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut text)).await;
        // A reset also ends the connection.
        let _ = read.expect("the server ends the connection");
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn clients_that_stall_are_disconnected() {
        let (address, _stop, _served) = start(Router::new()).await;
        for stall in ["", "PRI", "GET / HTTP/1.1\r\nHost:"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(stall.as_bytes()).await.unwrap();
            read_to_end(&mut stream).await;
        }
    }

    #[tokio::test]
    async fn an_open_request_finishes_before_the_server_stops() {
        let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (entered_too, go_too) = (entered.clone(), go.clone());
        let slow = move || async move {
            entered_too.notify_one();
            go_too.notified().await;
            "done"
        };
        let (address, stop, served) = start(Router::new().route("/slow", get(slow))).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        let mut busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        entered.notified().await;
        stop.send(()).unwrap();
        // The idle connection ends although the busy one does not.
        assert_eq!(read_to_end(&mut idle).await, "");
        go.notify_one();
        assert!(read_to_end(&mut busy).await.ends_with("done"));
        served.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_response_before_the_end_of_the_body_keeps_the_connection_or_says_that_it_closes() {
        let (address, _stop, _served) =
            start(Router::new().route("/", get(|| async { "fine" }))).await;
        for (headers, length, kept) in [
            ("", 100, true),
            ("Expect: 100-continue\r\n", 100, false),
            ("", 100_000, false),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let length = format!("Content-Length: {length}\r\n\r\n");
            let head = format!("POST /nowhere HTTP/1.1\r\nHost: x\r\n{headers}{length}");
            stream.write_all(head.as_bytes()).await.unwrap();
            if kept {
                // The rest arrives after the head, and another request after that.
                let next = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                let rest = format!("{}{next}", "x".repeat(100));
                stream.write_all(rest.as_bytes()).await.unwrap();
            }
            let answers = read_to_end(&mut stream).await;
            let (first, next) = answers.split_at(answers.rfind("HTTP/1.1").unwrap());
            if kept {
                assert!(!first.contains("connection: close"), "{answers}");
                assert!(next.ends_with("fine"), "{answers}");
            } else {
                assert!(first.is_empty(), "{answers}");
                assert!(next.contains("\r\nconnection: close\r\n"), "{answers}");
            }
        }
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let (address, _stop, _served) = start(Router::new()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let long = "x".repeat(BUFFER_BYTES_MAX);
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n");
        // The server may close before everything is written.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 431");
    }

    #[tokio::test]
    async fn garbage_gets_an_error_and_does_not_affect_other_clients() {
        let (address, _stop, _served) =
            start(Router::new().route("/", get(|| async { "fine" }))).await;
        for garbage in [
            &b"\x16\x03\x01\x02\x00\x01\x00"[..],
            b"\r\n\x00\xff\xff GET\r\n\r\n",
            &[0xff; 4096],
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(garbage).await.unwrap();
            read_to_end(&mut stream).await;
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        assert!(read_to_end(&mut stream).await.ends_with("fine"));
    }
}
