//! Compiles the protocol without protoc: protox is a protobuf compiler in Rust.

use std::path::PathBuf;
use std::{env, fs};

use protox::prost::Message as _;

const PUBLIC: &[&str] = &[
    "lockstep/v1/machines.proto",
    "lockstep/v1/cluster.proto",
    "lockstep/v1/sinks.proto",
];
const PEER: &[&str] = &["lockstep/raft/v1/peer.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=lockstep");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    // Reflection shows the public contract only.
    let public = protox::compile(PUBLIC, ["."])?;
    fs::write(
        out.join("lockstep.v1.descriptors.bin"),
        public.encode_to_vec(),
    )?;
    tonic_prost_build::configure().compile_fds(public)?;

    let peer = protox::compile(PEER, ["."])?;
    tonic_prost_build::configure()
        // Entries are shared with the log's cache: a reference count, not a copy.
        .bytes(".lockstep.raft.v1.Entry.batch")
        .bytes(".lockstep.raft.v1.SnapshotChunk.data")
        .bytes(".lockstep.raft.v1.Request.body")
        .bytes(".lockstep.raft.v1.Reply.outcome")
        .compile_fds(peer)?;
    Ok(())
}
