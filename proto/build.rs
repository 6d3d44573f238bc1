//! Compiles the protocol without protoc: protox is a protobuf compiler in Rust.

use std::path::PathBuf;
use std::{env, fs};

use protox::prost::Message as _;
use tonic_prost_build::Builder;

const PUBLIC: &[&str] = &[
    "lockstep/v1/machines.proto",
    "lockstep/v1/cluster.proto",
    "lockstep/v1/sinks.proto",
];
const PEER: &[&str] = &["lockstep/raft/v1/peer.proto"];

/// Messages that have a JSON form, because HTTP or the command line shows them, and the name in the OpenAPI
/// description of HTTP of those that it shows. `src/json.rs` writes those of sink checks, which do not follow the
/// message.
const SHOWN: &[(&str, Option<&str>)] = &[
    ("Rejected", None),
    ("Defined", None),
    ("StateTimeout", Some("StateTimeout")),
    ("Fault", None),
    ("MachineSummary", Some("MachineSummary")),
    ("VersionSummary", Some("VersionSummary")),
    ("Settings", None),
    ("StatusResponse", Some("NodeStatus")),
    ("Member", Some("MemberBody")),
    ("MemberReport", Some("MemberReportBody")),
    ("ListMembersResponse", Some("MembersBody")),
    ("ChangeMembersResponse", Some("QuorumChangeBody")),
    ("TransferLeadershipResponse", Some("LeaderBody")),
    ("ListSinksResponse", Some("SinksBody")),
    ("SinkStatus", Some("SinkBody")),
    ("SeedProgress", Some("SeedingBody")),
    ("SeedRequested", Some("ReseedBody")),
    ("DeadLettersMarked", Some("MarkedBody")),
    ("DeadLettersDiscarded", Some("DiscardedBody")),
    ("Written", Some("Written")),
    ("ListMachinesResponse", Some("MachinesBody")),
    ("ReadAt", Some("ReadAt")),
];

/// Messages that are bodies of HTTP requests, and their names in the OpenAPI description.
const READ: &[(&str, &str)] = &[
    ("AddMember", "AddMemberBody"),
    ("TransferLeadershipRequest", "TransferBody"),
];

const IF_SOME: &str = r#"skip_serializing_if = "Option::is_none""#;
const IF_ANY: &str = r#"skip_serializing_if = "Vec::is_empty""#;
const IF_SET: &str = r#"skip_serializing_if = "std::ops::Not::not""#;

/// Fields whose JSON differs from what serde derives.
const FIELDS: &[(&str, &str)] = &[
    ("Rejected.message", r#"rename = "detail""#),
    ("Rejected.known", IF_ANY),
    ("Rejected.newest_version", IF_SOME),
    ("Rejected.faults", IF_ANY),
    ("Rejected.operation", IF_SOME),
    ("Rejected.reason", IF_SOME),
    ("Rejected.requested", IF_SOME),
    ("Rejected.min", IF_SOME),
    ("Rejected.max", IF_SOME),
    ("Rejected.used_version", IF_SOME),
    ("Rejected.used_version", r#"rename = "version""#),
    ("Rejected.used_by", IF_SOME),
    ("Rejected.used_by", r#"rename = "instances""#),
    ("Rejected.operations", IF_ANY),
    ("Rejected.events", IF_ANY),
    ("ListMachinesResponse.read_at", "flatten"),
    ("DeadLettersMarked.count", r#"rename = "marked""#),
    ("DeadLettersDiscarded.count", r#"rename = "discarded""#),
    ("AddMember.learner", "default"),
    ("StatusResponse.state_hash", IF_SOME),
    ("StatusResponse.feature_level_waits_for", IF_ANY),
    ("Member.learner", IF_SET),
    ("Member.contact_ms", IF_SOME),
    ("Member.report", IF_SOME),
    ("SinkStatus.seeding", IF_SOME),
    ("SinkStatus.since_ms", r#"rename = "since""#),
    ("SinkStatus.cursor", r#"rename = "revision""#),
    ("SinkStatus.written_at_ms", r#"rename = "written_at""#),
];

/// Fields that `src/json.rs` writes, each with the function there and its type in JSON.
const WRITTEN: &[(&str, &str, &str)] = &[
    ("StatusResponse.role", "role", "String"),
    (
        "StatusResponse.leader_id",
        "optional_text",
        "Option<String>",
    ),
    ("Member.id", "text", "String"),
    ("MemberReport.role", "role", "String"),
    ("SinkStatus.phase", "phase", "String"),
    ("SinkStatus.since_ms", "time", TIME),
    ("SinkStatus.cursor", "revision", "Option<u64>"),
    ("SinkStatus.written_at_ms", "optional_time", MAYBE_TIME),
];

const TIME: &str = "lockstep_machine::Timestamp";
const MAYBE_TIME: &str = "Option<lockstep_machine::Timestamp>";
const VERSION: &str = "lockstep_machine::Version";

/// Fields that the OpenAPI description shows with the rules of a type of the state machine.
const TYPES: &[(&str, &str)] = &[
    ("MachineSummary.machine", "lockstep_machine::MachineName"),
    ("MachineSummary.version", VERSION),
    ("VersionSummary.version", VERSION),
    ("ListMachinesResponse.read_at", "ReadAt"),
    ("SinkStatus.name", "lockstep_machine::SinkName"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=lockstep");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    // Reflection shows the public contract only.
    let public = protox::compile(PUBLIC, ["."])?;
    fs::write(
        out.join("lockstep.v1.descriptors.bin"),
        public.encode_to_vec(),
    )?;
    let mut builder = tonic_prost_build::configure()
        // Shown in order of name.
        .btree_map(".lockstep.v1.Defined.timeouts")
        .btree_map(".lockstep.v1.MachineSummary.states")
        .btree_map(".lockstep.v1.Settings.values")
        // Sent and written without a copy.
        .bytes(".lockstep.v1.BackupResponse.data");
    let attribute = |builder: Builder, field: &str, text: String| {
        builder.field_attribute(format!(".lockstep.v1.{field}"), text)
    };
    let serde = |text: &str| format!("#[serde({text})]");
    let schema = |text: &str| format!(r#"#[cfg_attr(feature = "openapi", schema({text}))]"#);
    let read = "#[derive(serde::Deserialize)] #[serde(deny_unknown_fields)]";
    let shown = SHOWN
        .iter()
        .map(|(message, name)| (message, "#[derive(serde::Serialize)]", *name));
    let read = READ
        .iter()
        .map(|(message, name)| (message, read, Some(*name)));
    for (message, derive, name) in shown.chain(read) {
        let path = format!(".lockstep.v1.{message}");
        builder = builder.message_attribute(&path, derive);
        if let Some(name) = name {
            let described = format!(
                r#"#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = {name}))]"#
            );
            builder = builder.message_attribute(&path, described);
        }
    }
    for (field, text) in FIELDS {
        builder = attribute(builder, field, serde(text));
    }
    for (field, function, value) in WRITTEN {
        let text = format!(r#"serialize_with = "crate::json::{function}""#);
        builder = attribute(builder, field, serde(&text));
        builder = attribute(builder, field, schema(&format!("value_type = {value}")));
    }
    for (field, value) in TYPES {
        builder = attribute(builder, field, schema(&format!("value_type = {value}")));
    }
    // The node shows it beside the index that it belongs to.
    builder = attribute(builder, "StatusResponse.state_hash", schema("ignore"));
    builder.compile_fds(public)?;

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
