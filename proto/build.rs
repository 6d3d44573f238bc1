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

/// Messages that have a JSON form, because HTTP or the command line shows them. `src/json.rs` writes
/// those of sink checks, which do not follow the message.
const SHOWN: &[&str] = &[
    "Rejected",
    "Defined",
    "StateTimeout",
    "Fault",
    "MachineSummary",
    "VersionSummary",
    "Settings",
    "StatusResponse",
    "Member",
    "MemberReport",
    "ListMembersResponse",
    "ChangeMembersResponse",
    "TransferLeadershipResponse",
    "ListSinksResponse",
    "SinkStatus",
    "SeedProgress",
    "SeedAsked",
    "DeadLettersMarked",
    "DeadLettersDiscarded",
    "Written",
    "ListMachinesResponse",
    "ReadAt",
];

/// Messages that are bodies of HTTP requests.
const READ: &[&str] = &["AddMember", "TransferLeadershipRequest"];

const IF_SOME: &str = r#"skip_serializing_if = "Option::is_none""#;
const IF_ANY: &str = r#"skip_serializing_if = "Vec::is_empty""#;

/// Fields whose JSON differs from what serde derives. The functions are in `src/json.rs`.
const FIELDS: &[(&str, &str)] = &[
    ("Rejected.message", r#"rename = "detail""#),
    ("Rejected.known", IF_ANY),
    ("Rejected.newest_version", IF_SOME),
    ("Rejected.faults", IF_ANY),
    ("Rejected.operation", IF_SOME),
    ("Rejected.reason", IF_SOME),
    ("Rejected.asked", IF_SOME),
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
    (
        "StatusResponse.role",
        r#"serialize_with = "crate::json::role""#,
    ),
    (
        "StatusResponse.leader_id",
        r#"serialize_with = "crate::json::optional_text""#,
    ),
    ("StatusResponse.state_hash", IF_SOME),
    ("StatusResponse.feature_level_waits_for", IF_ANY),
    ("Member.id", r#"serialize_with = "crate::json::text""#),
    (
        "Member.learner",
        r#"skip_serializing_if = "std::ops::Not::not""#,
    ),
    ("Member.contact_ms", IF_SOME),
    ("Member.report", IF_SOME),
    (
        "MemberReport.role",
        r#"serialize_with = "crate::json::role""#,
    ),
    (
        "SinkStatus.phase",
        r#"serialize_with = "crate::json::phase""#,
    ),
    ("SinkStatus.seeding", IF_SOME),
    (
        "SinkStatus.since_ms",
        r#"rename = "since", serialize_with = "crate::json::time""#,
    ),
    (
        "SinkStatus.cursor",
        r#"rename = "revision", serialize_with = "crate::json::revision""#,
    ),
    (
        "SinkStatus.written_at_ms",
        r#"rename = "written_at", serialize_with = "crate::json::optional_time""#,
    ),
];

/// Messages that the OpenAPI description of HTTP shows, and their names there.
const DESCRIBED: &[(&str, &str)] = &[
    ("Member", "MemberBody"),
    ("MemberReport", "MemberReportBody"),
    ("ListMembersResponse", "MembersBody"),
    ("ChangeMembersResponse", "QuorumChangeBody"),
    ("TransferLeadershipResponse", "LeaderBody"),
    ("ListSinksResponse", "SinksBody"),
    ("SinkStatus", "SinkBody"),
    ("SeedProgress", "SeedingBody"),
    ("SeedAsked", "ReseedBody"),
    ("DeadLettersMarked", "MarkedBody"),
    ("DeadLettersDiscarded", "DiscardedBody"),
    ("Written", "Written"),
    ("StateTimeout", "StateTimeout"),
    ("StatusResponse", "NodeStatus"),
    ("MachineSummary", "MachineSummary"),
    ("VersionSummary", "VersionSummary"),
    ("ListMachinesResponse", "MachinesBody"),
    ("ReadAt", "ReadAt"),
    ("AddMember", "AddMemberBody"),
    ("TransferLeadershipRequest", "TransferBody"),
];

/// Types of their fields in JSON, where they differ.
const TYPES: &[(&str, &str)] = &[
    ("Member.id", "String"),
    ("StatusResponse.role", "String"),
    ("StatusResponse.leader_id", "Option<String>"),
    ("MachineSummary.machine", "lockstep_machine::MachineName"),
    ("MachineSummary.version", "lockstep_machine::Version"),
    ("VersionSummary.version", "lockstep_machine::Version"),
    ("ListMachinesResponse.read_at", "ReadAt"),
    ("MemberReport.role", "String"),
    ("SinkStatus.name", "lockstep_machine::SinkName"),
    ("SinkStatus.phase", "String"),
    ("SinkStatus.since_ms", "lockstep_machine::Timestamp"),
    ("SinkStatus.cursor", "Option<u64>"),
    (
        "SinkStatus.written_at_ms",
        "Option<lockstep_machine::Timestamp>",
    ),
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
    for message in SHOWN {
        let path = format!(".lockstep.v1.{message}");
        builder = builder.message_attribute(path, "#[derive(serde::Serialize)]");
    }
    for message in READ {
        let read = "#[derive(serde::Deserialize)] #[serde(deny_unknown_fields)]";
        builder = builder.message_attribute(format!(".lockstep.v1.{message}"), read);
    }
    for (field, attribute) in FIELDS {
        let path = format!(".lockstep.v1.{field}");
        builder = builder.field_attribute(path, format!("#[serde({attribute})]"));
    }
    for (message, name) in DESCRIBED {
        let schema = format!(
            r#"#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = {name}))]"#
        );
        builder = builder.message_attribute(format!(".lockstep.v1.{message}"), schema);
    }
    // The node shows it beside the index that it belongs to.
    builder = builder.field_attribute(
        ".lockstep.v1.StatusResponse.state_hash",
        r#"#[cfg_attr(feature = "openapi", schema(ignore))]"#,
    );
    for (field, name) in TYPES {
        let schema = format!(r#"#[cfg_attr(feature = "openapi", schema(value_type = {name}))]"#);
        builder = builder.field_attribute(format!(".lockstep.v1.{field}"), schema);
    }
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
