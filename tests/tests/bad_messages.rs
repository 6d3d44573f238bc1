//! Malformed gRPC messages to every method: each gets a status that blames the client, and the node keeps
//! serving.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes};
use lockstep_proto::v1;
use lockstep_tests::cluster::{Cluster, Plan};
use prost::Message;
use prost_types::FileDescriptorSet;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::StatusCode;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Messages to each method.
const MESSAGES: u64 = 150;
/// The longest that a method may take with one.
const DEADLINE: Duration = Duration::from_secs(20);
/// What a stream that was begun may take until its first message, before it is left.
const LOOK: Duration = Duration::from_millis(50);
/// What nodes ask each other.
const PEER_METHODS: [&str; 9] = [
    "Identify",
    "Append",
    "StreamAppend",
    "Vote",
    "PreVote",
    "TransferLeader",
    "InstallSnapshot",
    "Propose",
    "ReadIndex",
];

/// Bytes as they are.
#[derive(Debug, Default, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}

/// Every method of the public services: path, and whether it answers with a stream.
fn methods() -> Result<Vec<(String, bool)>> {
    let set = FileDescriptorSet::decode(v1::DESCRIPTORS)?;
    let mut methods = vec![];
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                // A call that takes a stream is sent one of a single message.
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.push((path, method.server_streaming()));
            }
        }
    }
    Ok(methods)
}

/// Bytes that mostly are fields of some message, with values that mostly mean something.
fn message(random: &mut StdRng) -> Bytes {
    const TEXTS: [&[u8]; 14] = [
        b"triad/default",
        b"triad",
        b"second",
        b"order/1",
        b"",
        b"\0",
        b"\xff\xfe",
        b"a/b/c",
        "é😀".as_bytes(),
        b"{\"name\":\"m\"}",
        b"name: m\ninitial: a\nstates: {a: {}}",
        b"../x",
        b"1-1",
        b"key",
    ];
    let mut bytes = vec![];
    for _ in 0..random.random_range(0..8) {
        let field: u64 = random.random_range(0..14);
        let kind: u64 = random.random_range(0..6);
        prost::encoding::encode_varint(field << 3 | kind, &mut bytes);
        match kind {
            0 => prost::encoding::encode_varint(
                random.random::<u64>() >> random.random_range(0..64),
                &mut bytes,
            ),
            1 => bytes.extend(random.random::<[u8; 8]>()),
            5 => bytes.extend(random.random::<[u8; 4]>()),
            _ => {
                let mut inner = TEXTS[random.random_range(0..TEXTS.len())].to_vec();
                if random.random_ratio(1, 4) {
                    inner = message(random).to_vec();
                } else if random.random_ratio(1, 20) {
                    inner = inner.repeat(random.random_range(1..2000));
                }
                // Sometimes with a wrong length.
                let length = match random.random_ratio(1, 30) {
                    true => random.random::<u64>(),
                    false => inner.len() as u64,
                };
                prost::encoding::encode_varint(length, &mut bytes);
                bytes.extend(inner);
            }
        }
    }
    if random.random_ratio(1, 10) {
        bytes.truncate(random.random_range(0..=bytes.len()));
    }
    bytes.into()
}

async fn client(address: std::net::SocketAddr) -> Result<Grpc<Channel>> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    Ok(Grpc::new(channel))
}

/// The error of one message; `None` if it was answered.
async fn send(
    grpc: &mut Grpc<Channel>,
    path: &str,
    streams: bool,
    message: Bytes,
) -> Result<Option<Status>> {
    grpc.ready().await?;
    let path: PathAndQuery = path.parse()?;
    let call = async {
        if !streams {
            return grpc.unary(Request::new(message), path, Raw).await.err();
        }
        match grpc
            .server_streaming(Request::new(message), path, Raw)
            .await
        {
            Err(status) => Some(status),
            Ok(stream) => {
                let mut stream = stream.into_inner();
                let first = tokio::time::timeout(LOOK, stream.message()).await;
                first.ok().and_then(Result::err)
            }
        }
    };
    tokio::time::timeout(DEADLINE, call)
        .await
        .context("no answer in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_to_a_public_method_causes_a_server_error() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let node = &cluster.nodes[0];
    let mut grpc = client(node.grpc_address()).await?;
    let methods = methods()?;
    assert!(methods.len() >= 3, "{methods:?}");
    for (path, streams) in &methods {
        for seed in 0..MESSAGES {
            let message = message(&mut StdRng::seed_from_u64(seed));
            let said = send(&mut grpc, path, *streams, message.clone()).await;
            let said = said.with_context(|| format!("{path}, message {seed}: {message:?}"))?;
            let Some(status) = said else { continue };
            let word = lockstep_machine::library_words(status.message());
            ensure!(
                word.is_none(),
                "{path}, message {seed}: {word:?} in {status:?}"
            );
            match status.code() {
                Code::InvalidArgument
                | Code::NotFound
                | Code::OutOfRange
                | Code::FailedPrecondition
                | Code::AlreadyExists
                | Code::ResourceExhausted => {}
                _ => bail!("{path}, message {seed}, {message:?}: {status:?}"),
            }
        }
    }
    node.api().get("/readyz").await?.expect(StatusCode::OK)?;
    ensure!(!node.log().contains("panicked"), "it panicked");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_methods_reject_messages_from_outside_the_cluster() -> Result<()> {
    let cluster = Cluster::start().await?;
    let leader = cluster.leader().await?;
    let node = &cluster.nodes[leader];
    let before = node.api().cluster().await?;
    let mut grpc = client(node.grpc_address()).await?;
    for method in PEER_METHODS {
        let path = format!("/lockstep.raft.v1.Peer/{method}");
        for seed in 0..MESSAGES {
            let message = message(&mut StdRng::seed_from_u64(seed));
            let said = send(&mut grpc, &path, true, message.clone()).await?;
            match said.map(|status| (status.code(), status)) {
                // It is asked by those who are not in the cluster yet.
                None if method == "Identify" => {}
                Some((Code::FailedPrecondition, _)) => {}
                Some((Code::Internal, status))
                    if status.message().starts_with("failed to decode") => {}
                other => bail!("{path}, message {seed}, {message:?}: {other:?}"),
            }
        }
    }
    let after = node.api().cluster().await?;
    assert_eq!((after.term, &after.role), (before.term, &before.role));
    for node in &cluster.nodes {
        ensure!(!node.log().contains("panicked"), "{} panicked", node.name);
    }
    node.api().next("second").await?.expect(StatusCode::OK)?;
    cluster.agree().await
}
