//! Connections byte by byte: what clients, proxies and libraries send that is unusual and allowed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::http::answer;
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::TRANSITIONS;

/// For one answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// A connection of which every byte is the test's.
struct Wire(BufReader<TcpStream>);

/// One answer as it came.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// In lower case.
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

impl Wire {
    async fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(address).await?)))
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(self.0.write_all(bytes.as_ref()).await?)
    }

    /// Sends a request and reads its answer.
    async fn ask(&mut self, request: impl AsRef<[u8]>) -> Result<Answer> {
        self.send(request).await?;
        self.answer().await
    }

    /// The next answer; none of a HEAD, which has no body.
    async fn answer(&mut self) -> Result<Answer> {
        let read = tokio::time::timeout(DEADLINE, self.read());
        read.await.context("no answer in time")?
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(
            self.0.read_line(&mut line).await? > 0,
            "the connection was closed"
        );
        Ok(line)
    }

    async fn read(&mut self) -> Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &self.line().await?;
        }
        let mut answer = Answer {
            status: head[9..12].parse().with_context(|| head.clone())?,
            head: head.to_ascii_lowercase(),
            body: String::new(),
        };
        if answer.status == 100 {
            return Ok(answer);
        }
        let length = answer.header("content-length").map(str::parse);
        let body = match length.transpose()? {
            Some(length) => {
                let mut body = vec![0; length];
                self.0.read_exact(&mut body).await?;
                body
            }
            // HTTP/1.0: it ends with the connection.
            None => {
                let mut body = Vec::new();
                self.0.read_to_end(&mut body).await?;
                body
            }
        };
        answer.body = String::from_utf8(body)?;
        Ok(answer)
    }
}

/// A request with a body, in HTTP/1.1.
fn with_body(line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unusual_and_allowed_is_served() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let node = &cluster.nodes[0];
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    let json = "Content-Type: APPLICATION/JSON;CHARSET=\"UTF-8\"\r\n";
    let post = |headers: &str, body: &str| with_body(&format!("POST {TRANSITIONS}"), headers, body);
    let chunked = "Transfer-Encoding: Chunked\r\nTrailer: X-Sum\r\n";
    let chunks = "7;name=value\r\n{\"to\":\"\r\n6\r\nsecond\r\n2\r\n\"}\r\n0\r\nX-Sum: 1\r\n\r\n";
    let mut wire = Wire::open(node.http_address()).await?;
    for (request, expected) in [
        (get("/v1/machines/tri%61d/instances/%64efault"), "\"state\":\"first\""),
        (get("http://other.example:80/v1/machines/triad"), "triad"),
        (get("/v1/machines/triad/instances?prefix=def&limit=%31"), "triad/default"),
        (get("/v1/machines/triad/instances?label=a%20b=c+d"), "\"instances\":[]"),
        (get("/?"), "first"),
        (get("/#fragment"), "first"),
        (
            "GET / HTTP/1.1\r\nhost:x\r\nACCEPT: text/html, */*;q=0.1\r\nAccept-Language: de\r\n\r\n".to_owned(),
            "first",
        ),
        // A header that is folded into nothing, and an empty line before the request.
        ("\r\nGET / HTTP/1.1\r\nHost: x\r\nX-Empty:\r\n\r\n".to_owned(), "first"),
        (
            format!("POST {TRANSITIONS} HTTP/1.1\r\nHost: x\r\n{json}{chunked}\r\n{chunks}"),
            "\"to\":\"second\"",
        ),
        (post(json, "\u{feff} {\"to\" : \"third\"}\r\n"), "\"to\":\"third\""),
        (post("Content-Type: application/json\r\nContent-Encoding: IDENTITY\r\n", "{\"to\":\"first\"}"), "\"to\":\"first\""),
        (get("/"), "first"),
    ] {
        let answer = wire.ask(&request).await.with_context(|| request.clone())?;
        ensure!(answer.status == 200 && answer.body.contains(expected), "{request}\n{answer:?}");
        ensure!(!answer.closes(), "{request}\n{answer:?}");
    }
    // All at once: answers in the order of the requests.
    let pipelined = [
        get("/"),
        post(json, "{\"to\":\"second\"}"),
        get("/"),
        get("/nowhere"),
        get("/"),
    ];
    wire.send(pipelined.concat()).await?;
    for (status, expected) in [
        (200, "first"),
        (200, "second"),
        (200, "second"),
        (404, ""),
        (200, "second"),
    ] {
        let answer = wire.answer().await?;
        ensure!(
            answer.status == status && answer.body.contains(expected),
            "{answer:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_is_served_with_and_without_keep_alive() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let address = cluster.nodes[0].http_address();
    let mut wire = Wire::open(address).await?;
    let answer = wire.ask("GET / HTTP/1.0\r\n\r\n").await?;
    ensure!(
        answer.status == 200 && answer.body == "first\n",
        "{answer:?}"
    );
    ensure!(wire.line().await.is_err(), "it must close");
    let mut wire = Wire::open(address).await?;
    for _ in 0..2 {
        let answer = wire
            .ask("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            .await?;
        ensure!(
            answer.header("connection") == Some("keep-alive"),
            "{answer:?}"
        );
    }
    // A watch is not chunked: its reader knows nothing of that.
    let mut wire = Wire::open(address).await?;
    wire.send("GET /v1/watch HTTP/1.0\r\n\r\n").await?;
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head += &wire.line().await?;
    }
    ensure!(
        !head.to_ascii_lowercase().contains("transfer-encoding"),
        "{head}"
    );
    ensure!(wire.line().await?.starts_with("id: "));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_asked_for_only_where_it_is_read() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let address = cluster.nodes[0].http_address();
    let expect = |target: &str, length: usize| {
        format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Expect: 100-Continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut wire = Wire::open(address).await?;
    let body = "{\"to\":\"second\"}";
    let go_on = wire.ask(expect(TRANSITIONS, body.len())).await?;
    assert_eq!(go_on.status, 100);
    assert_eq!(wire.ask(body).await?.status, 200);
    for (target, length, status) in [
        (TRANSITIONS, 100_000_000, 413),
        ("/nowhere", 1000, 404),
        ("/v1/machines/triad/instances?unknown=1", 1000, 400),
    ] {
        let mut wire = Wire::open(address).await?;
        let refused = wire.ask(expect(target, length)).await?;
        assert_eq!(refused.status, status, "{refused:?}");
        // Whether the client sends the body after all is open, so nothing else can follow.
        ensure!(refused.closes(), "{refused:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_on_after_an_error_or_says_that_it_closes() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let address = cluster.nodes[0].http_address();
    let json = "Content-Type: application/json\r\n";
    for size in [0, 1, 1000, 100_000, 1_000_000, 2_000_000] {
        let body = "x".repeat(size);
        for (line, headers) in [
            ("POST /nowhere", json),
            ("PUT /v1/machines/triad", json),
            ("GET /livez", json),
            (
                &format!("POST {TRANSITIONS}"),
                "Content-Type: text/plain\r\n",
            ),
            (&format!("POST {TRANSITIONS}?unknown=1"), json),
            (&format!("POST {TRANSITIONS}"), json),
            ("DELETE /v1/machines/not%20a%20name", json),
            ("POST /counter?name=", json),
        ] {
            let request = with_body(line, headers, &body);
            let (head, body) = request.split_at(request.len() - size);
            let mut wire = Wire::open(address).await?;
            // In two parts, as most clients send it.
            wire.send(head).await?;
            let answer = wire
                .ask(body)
                .await
                .with_context(|| format!("{line}, {size}"))?;
            if answer.closes() {
                continue;
            }
            let next = wire.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
            let next = next.with_context(|| format!("after {line}, {size}: {answer:?}"))?;
            ensure!(
                (next.status, next.body.as_str()) == (200, "first\n"),
                "{next:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_long_and_bodies_that_are_too_slow_are_refused() -> Result<()> {
    let plan = Plan::single().with("LOCKSTEP_HTTP_REQUEST_TIMEOUT", "1s");
    let cluster = Cluster::start_as(plan).await?;
    let address = cluster.nodes[0].http_address();
    let long = "x".repeat(100_000);
    for head in [
        format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n"),
        format!("GET /?{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n",
            "X-Many: y\r\n".repeat(1000)
        ),
    ] {
        let mut wire = Wire::open(address).await?;
        let refused = wire.ask(&head).await?;
        assert_eq!(refused.status, 431, "{refused:?}");
    }
    let mut wire = Wire::open(address).await?;
    let slow = wire.ask(format!(
        "POST {TRANSITIONS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{"
    ));
    let slow = slow.await?;
    ensure!(slow.status == 408 && slow.closes(), "{slow:?}");
    ensure!(slow.body.contains("request_timeout"), "{slow:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_answered_like_get_and_options_lists_the_methods() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let description = api.read("/openapi.json").await?;
    let paths = description["paths"].as_object().context("paths")?;
    for (path, methods) in paths
        .iter()
        .filter(|(_, methods)| methods["get"].is_object())
    {
        let target = path
            .replace("{machine}", "triad")
            .replace("{instance}", "default")
            .replace("{sink}", "none");
        let options = answer(api.request(Method::OPTIONS, &target)).await?;
        let options = options.expect(StatusCode::METHOD_NOT_ALLOWED)?;
        let allowed = options.headers["allow"].to_str()?;
        for method in methods.as_object().context("methods")?.keys() {
            let method = method.to_uppercase();
            ensure!(
                allowed.split(',').any(|it| it == method),
                "{path}: {allowed}"
            );
        }
        let head = answer(api.request(Method::HEAD, &target)).await?;
        if ["/counter", "/timer", "/v1/cluster/backup"].contains(&path.as_str()) {
            // They count, or write a backup, and a HEAD must not.
            head.expect(StatusCode::METHOD_NOT_ALLOWED)?;
            continue;
        }
        let get = api.request(Method::GET, &target).send().await?;
        assert_eq!(
            (head.status, head.text.as_str()),
            (get.status(), ""),
            "{path}"
        );
        for header in ["content-type", "etag", "cache-control"] {
            assert_eq!(
                head.headers.get(header),
                get.headers().get(header),
                "{path}"
            );
        }
    }
    Ok(())
}
