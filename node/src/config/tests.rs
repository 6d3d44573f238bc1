use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use super::*;

pub(super) fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn flags(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    pairs
        .iter()
        .map(|(flag, value)| (*flag, value.to_string()))
        .collect()
}

pub(super) fn from_env(pairs: &[(&str, &str)]) -> Result<(Config, Vec<String>), ConfigErrors> {
    let mut all = env(&[("LOCKSTEP_NAME", "node1")]);
    all.extend(env(pairs));
    let loaded = load(&Sources {
        env: all,
        ..Sources::default()
    })?;
    Ok((loaded.config, loaded.warnings))
}

/// The warnings about a configuration that is valid.
pub(super) fn warnings(pairs: &[(&str, &str)]) -> String {
    let (_, warnings) = from_env(pairs).expect("valid");
    warnings.join("\n")
}

/// The single fault's text.
pub(super) fn fault(pairs: &[(&str, &str)]) -> String {
    let errors = from_env(pairs).expect_err("must be refused");
    assert_eq!(errors.faults.len(), 1, "{errors}");
    errors.to_string()
}

pub(super) fn in_file(text: &str) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("lockstep.toml");
    fs::write(&path, text).expect("a file");
    (
        dir,
        Sources {
            file: Some(path),
            ..Sources::default()
        },
    )
}

#[test]
fn a_name_is_enough_and_makes_a_cluster_of_one() {
    let (config, warnings) = from_env(&[]).expect("valid");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:3333");
    assert_eq!(config.http.advertise, "127.0.0.1:3333");
    assert_eq!(config.http.body_bytes_max, 64 * 1024);
    assert_eq!(config.data_dir.to_string_lossy(), "lockstep-data/node1");
    assert_eq!(config.raft.log_keep_entries, 200_000);
    assert_eq!(config.storage.reserve_bytes, 16 << 20);
    assert_eq!(config.discovery.expect, 1);
    assert_eq!(config.discovery.kind, DiscoveryKind::Static);
    assert_eq!(
        config.discovery.peers,
        [StaticPeer {
            name: "node1".into(),
            grpc: "127.0.0.1:4333".into()
        }]
    );
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_the_defaults() {
    let (_dir, mut sources) = in_file(
        "name = \"file\"\n[raft]\nheartbeat = \"10ms\"\nqueue_max = 1000\nbatch_requests_max = 10\n",
    );
    sources.env = env(&[
        ("LOCKSTEP_NAME", "env"),
        ("LOCKSTEP_LOG_FORMAT", "text"),
        ("LOCKSTEP_RAFT_HEARTBEAT", "20ms"),
        ("LOCKSTEP_RAFT_QUEUE_MAX", "2_000"),
    ]);
    sources.flags = flags(&[("name", "flag"), ("log-format", "json")]);
    let loaded = load(&sources).expect("valid");
    assert_eq!(loaded.config.name, "flag");
    assert_eq!(loaded.config.raft.heartbeat, Duration::from_millis(20));
    assert_eq!(loaded.config.log.format, LogFormat::Json);
    assert_eq!(loaded.config.raft.queue_max, 2000);
    assert_eq!(loaded.config.raft.batch_requests_max, 10);
    assert_eq!(loaded.config.raft.snapshot_entries, 50_000);
    let origin = |path| {
        loaded
            .settings
            .iter()
            .find(|s| s.path == path)
            .map(|s| s.origin.to_string())
            .unwrap_or_default()
    };
    assert_eq!(origin("log.format"), "--log-format");
    assert_eq!(origin("raft.queue_max"), "LOCKSTEP_RAFT_QUEUE_MAX");
    assert!(origin("raft.batch_requests_max").ends_with("lockstep.toml:5"));
    assert_eq!(origin("raft.snapshot_entries"), "default");
    assert_eq!(origin("http.advertise"), "derived");
}

#[test]
fn the_file_may_be_named_by_the_environment_and_the_flag_wins() {
    let (_dir1, by_flag) = in_file("name = \"by-flag\"");
    let (_dir2, other) = in_file("name = \"by-env\"");
    let path = other.file.expect("set above");
    let env = vec![(OsString::from(ENV_CONFIG), path.into_os_string())];
    let named = |file| {
        load(&Sources {
            file,
            env: env.clone(),
            flags: Vec::new(),
        })
        .expect("valid")
        .config
        .name
    };
    assert_eq!(named(None), "by-env");
    assert_eq!(named(by_flag.file), "by-flag");
}

#[test]
fn a_limit_names_the_command_that_sets_it() {
    let (_dir, sources) =
        in_file("name = \"a\"\n[limits]\nevents_max = 7\nkey_retention = \"1h\"\n");
    let text = load(&sources).expect_err("refused").to_string();
    for line in [
        "lockstep.toml:3: limits.events_max is a cluster setting; set it once for all nodes: \
         `lockstep cluster settings set events_max=...`",
        "lockstep.toml:4: limits.key_retention is a cluster setting; set it once for all nodes: \
         `lockstep cluster settings set key_retention_ms=...`",
    ] {
        assert!(text.contains(line), "{line} not in:\n{text}");
    }
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let (_dir, sources) = in_file(
        "name = \"a\"\nheartbeat = \"1s\"\n[http]\nlissten = \"127.0.0.1:1\"\n[rafft]\nqueue_max = 1\nzzz = 1\n",
    );
    let text = load(&sources).expect_err("refused").to_string();
    let expected = [
        "lockstep.toml:2: unknown key heartbeat; did you mean raft.heartbeat?",
        "lockstep.toml:4: unknown key http.lissten; did you mean http.listen?",
        "lockstep.toml:6: unknown key rafft.queue_max; did you mean raft.queue_max?",
        "lockstep.toml:7: unknown key rafft.zzz; `lockstepd check-config --markdown` lists all keys",
    ];
    for line in expected {
        assert!(text.contains(line), "{line} not in:\n{text}");
    }
}

#[test]
fn a_variable_that_is_no_setting_is_ignored_with_a_warning() {
    assert_eq!(
        warnings(&[("LOCKSTEP_HTTP_LISTN", "x")]),
        "LOCKSTEP_HTTP_LISTN is no setting and was ignored; did you mean LOCKSTEP_HTTP_LISTEN?"
    );
    assert_eq!(
        warnings(&[("LOCKSTEP_HTTP_PORT", "8080")]),
        "LOCKSTEP_HTTP_PORT is no setting and was ignored"
    );
    let text = warnings(&[("LOCKSTEP_RAFT_HEARTBEATS", "x")]);
    assert!(text.contains("did you mean LOCKSTEP_RAFT_HEARTBEAT?"));
}

#[test]
fn variables_that_kubernetes_and_docker_make_of_a_service_are_no_settings() {
    let links = [
        ("LOCKSTEP_PORT", "tcp://10.3.104.46:80"),
        ("LOCKSTEP_PORT_3333_TCP", "tcp://10.3.104.46:3333"),
        ("LOCKSTEP_PORT_3333_TCP_ADDR", "10.3.104.46"),
        ("LOCKSTEP_PORT_3333_TCP_PORT", "3333"),
        ("LOCKSTEP_SERVICE_HOST", "10.3.104.46"),
        ("LOCKSTEP_SERVICE_PORT_HTTP", "3333"),
        ("LOCKSTEP_HEADLESS_SERVICE_HOST", "10.3.104.47"),
        ("LOCKSTEP_ENV_PATH", "/bin"),
        ("LOCKSTEP_NAME", "/app/lockstep"),
    ];
    assert_eq!(warnings(&links), "");
}

#[test]
fn variables_of_other_programs_are_ignored() {
    let others = [
        ("LOCKSTEP_VERSION", "1"),
        ("LOCKSTEP_BUILD_DATE", "1"),
        ("LOCKSTEP_ENDPOINTS", "a"),
        ("LOCKSTEP_CONSUL", "a"),
        ("LOCKSTEP_TEST_X", "a"),
        ("LOCKSTEP_HTTP_LISTEN", ""),
        ("PATH", "/bin"),
    ];
    from_env(&others).expect("valid");
}

#[test]
fn every_fault_is_reported_at_once_with_its_source() {
    let (_dir, mut sources) = in_file("[http]\nbody_bytes_max = 1.5\nconcurrency_max = 0\n");
    sources.env = env(&[
        ("LOCKSTEP_RAFT_HEARTBEAT", "soon"),
        ("LOCKSTEP_CONSUL_TOKEN", ""),
        ("LOCKSTEP_EXPECT", "0"),
    ]);
    sources.flags = flags(&[("http-listen", "here")]);
    let errors = load(&sources).expect_err("refused");
    let text = errors.to_string();
    let expected = [
        "lockstep.toml:2: http.body_bytes_max = a decimal number: expected a size such as 64KiB or 1GiB, below 2^64 bytes, found a decimal number",
        "lockstep.toml:3: http.concurrency_max = \"0\": must be between 1 and 1000000",
        "LOCKSTEP_RAFT_HEARTBEAT: raft.heartbeat = \"soon\": \"soon\" is not a duration",
        "LOCKSTEP_EXPECT: discovery.expect = \"0\": must be between 1 and 99",
        "--http-listen: http.listen = \"here\": expected an IP address and a port",
        "name is not set",
    ];
    for line in expected {
        assert!(text.contains(line), "{line} not in:\n{text}");
    }
    assert_eq!(errors.faults.len(), expected.len(), "{text}");
}

#[test]
fn durations_need_a_unit_and_stay_within_bounds() {
    let heartbeat = |value| fault(&[("LOCKSTEP_RAFT_HEARTBEAT", value)]);
    assert!(heartbeat("100").contains("it has no unit"));
    assert!(heartbeat("-1s").contains("it is negative"));
    assert!(heartbeat("1ms").contains("must be between 5ms and 1m"));
    assert!(heartbeat("2h").contains("must be between 5ms and 1m"));
    assert!(heartbeat("9999years").contains("must be between"));
    assert!(
        fault(&[("LOCKSTEP_CONSUL_DEREGISTER_AFTER", "59s")]).contains("must be between 1m and")
    );
}

#[test]
fn sizes_take_binary_units_only() {
    let bytes = |value| {
        from_env(&[("LOCKSTEP_HTTP_BODY_BYTES_MAX", value)])
            .expect("valid")
            .0
            .http
            .body_bytes_max
    };
    assert_eq!(bytes("2048"), 2048);
    assert_eq!(bytes("2 KiB"), 2048);
    assert_eq!(bytes("1mib"), 1 << 20);
    let wrong = |value| fault(&[("LOCKSTEP_HTTP_BODY_BYTES_MAX", value)]);
    assert!(wrong("1MB").contains("expected a size"));
    assert!(wrong("KiB").contains("expected a size"));
    assert!(wrong("99999999999GiB").contains("below 2^64 bytes"));
    assert!(wrong("1GiB").contains("must be between 1KiB and 64MiB"));
}

#[test]
fn what_could_make_a_log_entry_too_large_for_a_peer_message_is_refused() {
    for (key, variable) in [
        ("raft.batch_bytes_max", "LOCKSTEP_RAFT_BATCH_BYTES_MAX"),
        ("http.body_bytes_max", "LOCKSTEP_HTTP_BODY_BYTES_MAX"),
        ("grpc.message_bytes_max", "LOCKSTEP_GRPC_MESSAGE_BYTES_MAX"),
    ] {
        let text = fault(&[(variable, "32MiB")]);
        let expected = format!("{key} = 32MiB ({variable}) must not be greater than 31MiB");
        assert!(text.contains(&expected), "{text}");
        assert!(from_env(&[(variable, "31MiB")]).is_ok());
    }
}

#[test]
fn broken_toml_is_reported_with_its_line() {
    let (_dir, sources) = in_file("name = \"a\"\n\n[http\nlisten = 1\n");
    assert!(
        load(&sources)
            .expect_err("refused")
            .to_string()
            .contains("lockstep.toml:3: not valid TOML")
    );
    let missing = Sources {
        file: Some("/does/not/exist.toml".into()),
        ..Sources::default()
    };
    let text = load(&missing).expect_err("refused").to_string();
    assert!(
        text.contains("/does/not/exist.toml: cannot be read: No such file"),
        "{text}"
    );
}

#[test]
fn an_address_that_others_cannot_connect_to_is_not_advertised() {
    let text = fault(&[("LOCKSTEP_HTTP_LISTEN", "0.0.0.0:3333")]);
    assert!(
        text.contains(
            "other hosts cannot connect to http.listen = 0.0.0.0:3333 (LOCKSTEP_HTTP_LISTEN)"
        ),
        "{text}"
    );
    assert!(
        text.contains("set http.advertise (LOCKSTEP_HTTP_ADVERTISE)"),
        "{text}"
    );
    assert!(
        fault(&[("LOCKSTEP_HTTP_ADVERTISE", "0.0.0.0:3333")])
            .contains("other hosts cannot connect to 0.0.0.0")
    );
    assert!(fault(&[("LOCKSTEP_GRPC_LISTEN", "[::]:4333")]).contains("set grpc.advertise"));
    let (config, _) = from_env(&[
        ("LOCKSTEP_HTTP_LISTEN", "0.0.0.0:3333"),
        ("LOCKSTEP_HTTP_ADVERTISE", "node1:3333"),
    ])
    .expect("valid");
    assert_eq!(config.http.advertise, "node1:3333");
}

#[test]
fn peers_must_be_valid_and_include_this_node() {
    let peers = |value| fault(&[("LOCKSTEP_PEERS", value)]);
    assert!(
        peers("node2=a:1,node3=b:1")
            .contains("is not among the peers node2, node3 (LOCKSTEP_PEERS)")
    );
    assert!(peers("node1=a:1,node1=b:1").contains("node1 is listed twice"));
    assert!(peers("node1=a:1,node2=a:1").contains("node1 and node2 have the same address a:1"));
    assert!(peers("node1").contains("has no '='"));
    assert!(peers("node1=a").contains("expected host:port"));
    assert!(peers("no de=a:1").contains("character 3 is a space"));
    assert!(fault(&[("LOCKSTEP_NAME", "-x")]).contains("character 1 is '-'; use 1 to 64"));
    assert!(
        fault(&[("LOCKSTEP_EXPECT", "3")])
            .contains("can never be reached: discovery.peers lists 1")
    );
    let three = "node1=a:1,b=b:1,c=c:1";
    let fewer = fault(&[("LOCKSTEP_PEERS", three), ("LOCKSTEP_EXPECT", "2")]);
    assert!(
        fewer.contains("could bootstrap a second cluster"),
        "{fewer}"
    );
}

#[test]
fn peers_are_equal_in_every_notation() {
    let expected = ["b=h2:4333", "node1=h1:4333"];
    for text in [
        "discovery.peers = \"b=h2:4333, node1=h1:4333\"",
        "discovery.peers = [\"b=h2:4333\", \"node1=h1:4333\"]",
        "[discovery.peers]\nb = \"h2:4333\"\nnode1 = \"h1:4333\"",
    ] {
        let (_dir, mut sources) = in_file(text);
        sources.flags = flags(&[("name", "node1"), ("grpc-listen", "0.0.0.0:4333")]);
        let Loaded {
            config, warnings, ..
        } = load(&sources).expect("valid");
        assert_eq!(
            config.grpc.advertise, "h1:4333",
            "the list of peers has this node's address"
        );
        assert_eq!(config.discovery.expect, 2);
        assert!(
            warnings
                .iter()
                .any(|w| w.to_string().contains("even number")),
            "{warnings:?}"
        );
        let peers = &config.discovery.peers;
        let shown: Vec<String> = peers
            .iter()
            .map(|peer| format!("{}={}", peer.name, peer.grpc))
            .collect();
        assert_eq!(shown, expected, "{text}");
    }
}

#[test]
fn consul_is_configured_without_peers() {
    let (config, warnings) = from_env(&[
        ("LOCKSTEP_DISCOVERY", "consul"),
        ("LOCKSTEP_CONSUL_ADDRESS", "consul:8500"),
        ("LOCKSTEP_CONSUL_TAGS", "a, b"),
        ("LOCKSTEP_CONSUL_META", "rack=1"),
        ("LOCKSTEP_PEERS", "node1=a:1"),
    ])
    .expect("valid");
    assert_eq!(config.discovery.expect, 3);
    assert_eq!(config.discovery.kind, DiscoveryKind::Consul);
    let consul = config.consul;
    assert_eq!(consul.address, "http://consul:8500");
    assert_eq!(consul.tags, ["a", "b"]);
    assert_eq!(consul.meta, [("rack".to_string(), "1".to_string())]);
    assert_eq!(consul.token, None);
    assert!(warnings.iter().any(|w| {
        w.to_string()
            .contains("ignored because discovery.kind is consul: discovery.peers")
    }));
    assert!(fault(&[("LOCKSTEP_CONSUL_META", "cluster_id=x")]).contains("is reserved"));
    assert!(fault(&[("LOCKSTEP_CONSUL_ADDRESS", "ftp://x")]).contains("expected a URL"));
}

#[test]
fn dns_needs_a_name_and_the_node_that_may_bootstrap() {
    let dns = ("LOCKSTEP_DISCOVERY", "dns");
    let name = ("LOCKSTEP_DISCOVERY_DNS", "lockstep:4333");
    let node = ("LOCKSTEP_DISCOVERY_BOOTSTRAP_NODE", "lockstep-0");
    assert!(fault(&[dns, node]).contains("discovery.dns is not set; give the host name"));
    assert!(
        fault(&[dns, name]).contains("discovery.bootstrap_node is not set; name the only node")
    );
    assert!(
        fault(&[dns, node, ("LOCKSTEP_DISCOVERY_DNS", "lockstep")]).contains("expected host:port")
    );
    let unused = ("LOCKSTEP_CONSUL_SERVICE", "x");
    let (config, warnings) = from_env(&[dns, name, node, unused]).expect("valid");
    let discovery = config.discovery;
    assert_eq!((discovery.kind, discovery.expect), (DiscoveryKind::Dns, 3));
    assert_eq!(discovery.dns.as_deref(), Some("lockstep:4333"));
    assert!(warnings.iter().any(|w| {
        w.to_string()
            .contains("ignored because discovery.kind is dns: consul.service")
    }));
}

#[test]
fn timings_that_cause_endless_elections_are_refused() {
    let text = fault(&[("LOCKSTEP_RAFT_HEARTBEAT", "150ms")]);
    assert!(text.contains("raft.election_timeout_min = 200ms (default) must be at least twice raft.heartbeat = 150ms (LOCKSTEP_RAFT_HEARTBEAT)"));
    assert!(
        fault(&[("LOCKSTEP_RAFT_ELECTION_TIMEOUT_MAX", "200ms")]).contains("must be less than")
    );
    let (_, warnings) = from_env(&[("LOCKSTEP_RAFT_LOG_KEEP_ENTRIES", "1000")]).expect("allowed");
    assert!(
        warnings
            .iter()
            .any(|w| w.to_string().contains("raft.log_keep_entries = 1000")),
        "{warnings:?}"
    );
}

#[test]
fn both_interfaces_on_one_port_are_refused() {
    assert!(fault(&[("LOCKSTEP_GRPC_LISTEN", "127.0.0.1:3333")]).contains("use the same port"));
    from_env(&[("LOCKSTEP_GRPC_LISTEN", "127.0.0.2:3333")]).expect("another address");
}

#[test]
fn the_shown_settings_are_an_equal_file_without_secrets() {
    let sources = Sources {
        env: env(&[
            ("LOCKSTEP_NAME", "node1"),
            ("LOCKSTEP_CONSUL_TOKEN", "hunter2"),
            ("LOCKSTEP_CONSUL_META", "a=1"),
        ]),
        ..Sources::default()
    };
    let loaded = load(&sources).expect("valid");
    let shown = show(&loaded.settings);
    assert!(!shown.contains("hunter2"), "{shown}");
    let (_dir, from_shown) = in_file(&shown);
    let again = load(&from_shown).expect("valid");
    let values = |loaded: &Loaded| -> Vec<Option<String>> {
        loaded
            .settings
            .iter()
            .filter(|s| !s.secret)
            .map(|s| s.value.clone())
            .collect()
    };
    assert_eq!(values(&loaded), values(&again));
}

#[test]
fn a_secret_that_is_refused_is_not_repeated() {
    let (_dir, sources) = in_file("name = \"a\"\nconsul.token = [\"hunter2\"]");
    let text = load(&sources).expect_err("refused").to_string();
    assert!(
        text.contains("consul.token = (hidden)") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn the_environment_variable_and_the_flag_follow_from_the_path() {
    let short = ["discovery.kind", "discovery.expect", "discovery.peers"];
    for key in KEYS {
        assert!(key.env().starts_with("LOCKSTEP_"), "{}", key.path);
        let plain = key.path.replace(['.', '_'], "-");
        assert!(
            key.flag.is_none_or(|flag| flag == plain) || short.contains(&key.path),
            "{}",
            key.path
        );
    }
    assert_eq!(
        instead_of_flag("--raft-heartbeat=1s").as_deref(),
        Some(
            "set raft.heartbeat in the configuration file, or LOCKSTEP_RAFT_HEARTBEAT in the environment"
        )
    );
    assert_eq!(instead_of_flag("--nothing"), None);
}

#[test]
fn every_setting_has_a_description_that_is_not_its_default() {
    for key in KEYS.iter().chain(SINK_KEYS) {
        let default = match key.default {
            KeyDefault::Is(value) | KeyDefault::Derived(value) => value,
            KeyDefault::Required | KeyDefault::Unset => "",
        };
        assert_ne!(key.doc, default, "{}", key.path);
        assert!(key.doc.len() >= 12, "{}: {:?}", key.path, key.doc);
    }
}

#[test]
fn the_documentation_is_generated_from_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIGURATION.md");
    if std::env::var_os("LOCKSTEP_UPDATE_DOCS").is_some() {
        fs::write(path, markdown()).expect("the page can be written");
    }
    assert_eq!(
        fs::read_to_string(path).unwrap_or_default(),
        markdown(),
        "run this test with LOCKSTEP_UPDATE_DOCS=1"
    );
}
