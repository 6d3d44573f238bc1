//! A scripted server: answers that the stand-in never gives.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mongodb::bson::{Document, doc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The answer to a command, by the command's name.
type Script = dyn Fn(&str, &Document) -> Document + Send + Sync;

/// The legacy message with which drivers send `hello`; its answer is a legacy message too.
const OP_QUERY: i32 = 2004;
const OP_REPLY: i32 = 1;
const OP_MSG: i32 = 2013;

/// A server on loopback. It ends when dropped.
pub(super) struct Scripted {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Scripted {
    pub(super) async fn start(
        script: impl Fn(&str, &Document) -> Document + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script: Arc<Script> = Arc::new(script);
        let task = tokio::spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                let script = script.clone();
                tokio::spawn(async move { serve(peer, &*script).await });
            }
        });
        Self { address, task }
    }

    pub(super) fn address(&self) -> String {
        format!("mongodb://{}", self.address)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut peer: TcpStream, script: &Script) -> io::Result<()> {
    loop {
        let length = peer.read_i32_le().await?;
        let id = peer.read_i32_le().await?;
        let _answers = peer.read_i32_le().await?;
        let kind = peer.read_i32_le().await?;
        let mut body = vec![0; usize::try_from(length - 16).unwrap()];
        peer.read_exact(&mut body).await?;
        let asked = command(kind, &body);
        let name = asked.keys().next().unwrap().clone();
        let answer = match name.to_lowercase().as_str() {
            "hello" | "ismaster" => hello(),
            _ => script(&name, &asked),
        };
        peer.write_all(&message(kind, id, &answer)).await?;
    }
}

/// The command in a message, without document sequences.
fn command(kind: i32, body: &[u8]) -> Document {
    let start = match kind {
        OP_MSG => 4 + 1,
        // Flags, the collection's name and its end, and two numbers.
        OP_QUERY => 4 + body[4..].iter().position(|byte| *byte == 0).unwrap() + 1 + 8,
        other => panic!("message of kind {other}"),
    };
    let length = i32::from_le_bytes(body[start..start + 4].try_into().unwrap());
    let end = start + usize::try_from(length).unwrap();
    Document::from_reader(&body[start..end]).unwrap()
}

fn message(asked: i32, id: i32, answer: &Document) -> Vec<u8> {
    let (kind, head) = match asked {
        // Flags, and that a document follows.
        OP_MSG => (OP_MSG, vec![0; 5]),
        // Flags, the cursor's id, where it starts, and how many documents follow.
        _ => (OP_REPLY, [vec![0; 16], vec![1, 0, 0, 0]].concat()),
    };
    let document = answer.to_vec().unwrap();
    let length = i32::try_from(16 + head.len() + document.len()).unwrap();
    let mut message: Vec<u8> = [length, 0, id, kind]
        .into_iter()
        .flat_map(i32::to_le_bytes)
        .collect();
    message.extend(head);
    message.extend(document);
    message
}

fn hello() -> Document {
    doc! {
        "ok": 1, "isWritablePrimary": true, "ismaster": true, "helloOk": true,
        "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
        "minWireVersion": 0, "maxWireVersion": 21,
    }
}
