use std::net::IpAddr;
use std::time::Duration;

use super::address::{is_local, shown};
use super::keys::Kind;
use super::*;
use crate::config::keys::KeyDefault;
use crate::config::shape::Raw;
use crate::config::tests::{env, fault, from_env, in_file};
use crate::config::{Config, ConfigErrors, Warning, load, load_explained, show, sink_markdown};

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

/// A file that gives the node's name too.
fn from_file(text: &str) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let (_dir, sources) = in_file(&format!("name = \"node1\"\n{text}"));
    load(&sources)
}

fn sinks(text: &str) -> Vec<Sink> {
    from_file(text).expect("valid").0.sinks
}

/// The single fault's text, of a file.
fn file_fault(text: &str) -> String {
    let errors = from_file(text).expect_err("must be refused");
    assert_eq!(errors.faults.len(), 1, "{errors}");
    errors.to_string()
}

/// The single fault's text, of a webhook with these further lines.
fn hook_fault(address: &str, lines: &str) -> String {
    file_fault(&format!(
        "[sink.hook]\nkind = \"webhook\"\nsecret = \"{SECRET}\"\naddress = \"{address}\"\n{lines}"
    ))
}

fn postgres(sink: &Sink) -> &PostgresSink {
    match &sink.kind {
        SinkKind::Postgres(it) => it,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sink_needs_a_kind_and_an_address_and_has_defaults() {
    let sinks = sinks("[sink.audit]\nkind = \"postgres\"\naddress = \"postgres://lockstep@db/x\"");
    let [sink] = sinks.as_slice() else {
        panic!("{sinks:?}")
    };
    assert_eq!(sink.name, "audit");
    assert_eq!(sink.follows, []);
    assert_eq!(sink.batch_events_max, 500);
    assert_eq!(sink.timeout, Duration::from_secs(10));
    assert_eq!(sink.retry_max, Duration::from_secs(30));
    assert!(!sink.optional);
    let it = postgres(sink);
    assert_eq!(
        (it.schema.as_str(), it.history.as_str()),
        ("lockstep", "history")
    );
    assert_eq!((it.instances.as_str(), &it.password), ("instances", &None));

    let text = from_file("[sink.audit]").expect_err("refused").to_string();
    assert!(
        text.contains(
            "sink.audit.kind is not set; say which system it is, one of postgres, mongo, webhook"
        ),
        "{text}"
    );
    let text = file_fault("[sink.audit]\nkind = \"mongo\"");
    assert!(
        text.contains("sink.audit.address is not set; say where this mongo is"),
        "{text}"
    );
}

#[test]
fn the_environment_adds_sinks_and_beats_the_file() {
    let (_dir, mut sources) = in_file(
        "name = \"a\"\n[sink.b]\nkind = \"mongo\"\naddress = \"mongodb://db\"\ndatabase = \"x\"\noptional = true\n",
    );
    sources.env = env(&[
        ("LOCKSTEP_SINK_B_DATABASE", "y"),
        ("LOCKSTEP_SINK_B_OPTIONAL", ""),
        ("LOCKSTEP_SINK_A1_KIND", "webhook"),
        ("LOCKSTEP_SINK_A1_ADDRESS", "https://example.com/hook"),
        ("LOCKSTEP_SINK_A1_SECRET_FILE", "/run/secrets/hook"),
        ("LOCKSTEP_SINK_A1_MACHINES", "order, ticket/2026-"),
        ("LOCKSTEP_SINK_A1_START", "everything"),
        ("LOCKSTEP_SINK_UNSET_KIND", ""),
    ]);
    let loaded = load_explained(&sources).expect("valid");
    let names: Vec<&str> = loaded
        .config
        .sinks
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["a1", "b"]);
    let (hook, mongo) = (&loaded.config.sinks[0], &loaded.config.sinks[1]);
    let follows: Vec<String> = hook.follows.iter().map(ToString::to_string).collect();
    assert_eq!(follows, ["order", "ticket/2026-"]);
    let SinkKind::Webhook(webhook) = &hook.kind else {
        panic!("{hook:?}")
    };
    assert_eq!(webhook.secret, Secret::File("/run/secrets/hook".into()));
    assert_eq!(webhook.start, Start::Everything);
    assert_eq!((webhook.concurrency_max, webhook.attempts_max), (16, 10));
    assert!(mongo.optional, "an empty variable counts as unset");
    let SinkKind::Mongo(mongo) = &mongo.kind else {
        panic!("{mongo:?}")
    };
    assert_eq!(mongo.database, "y");
    let origin = |path| {
        let found = loaded.settings.iter().find(|it| it.path == path);
        found.map(|it| it.origin.to_string()).unwrap_or_default()
    };
    assert_eq!(origin("sink.b.database"), "LOCKSTEP_SINK_B_DATABASE");
    assert!(origin("sink.b.optional").ends_with("lockstep.toml:6"));
    assert_eq!(origin("sink.b.history"), "default");
}

#[test]
fn an_unknown_key_of_a_sink_names_the_nearest_known_one() {
    let text = from_file(
        "[sinks.a]\nkind = \"mongo\"\n[sink.b]\nadress = \"x\"\nzzzzzz = 1\n[sink]\nkind = \"mongo\"\n",
    )
    .expect_err("refused")
    .to_string();
    for line in [
        "lockstep.toml:2: unknown key sinks.a; did you mean sink.a?",
        "lockstep.toml:5: unknown key sink.b.adress; did you mean sink.b.address?",
        "lockstep.toml:6: unknown key sink.b.zzzzzz; `lockstepd check-config --markdown` lists all",
        "lockstep.toml:8: unknown key sink.kind; did you mean sink.<name>.kind?",
    ] {
        assert!(text.contains(line), "{line} not in:\n{text}");
    }
    let hint = |variable| fault(&[(variable, "x")]);
    for (wrong, right) in [
        ("LOCKSTEP_SINK_AUDIT_ADRESS", "LOCKSTEP_SINK_AUDIT_ADDRESS"),
        (
            "LOCKSTEP_SINK_MY_AUDIT_PASSWORD_FILE",
            "LOCKSTEP_SINK_MYAUDIT_PASSWORD_FILE",
        ),
        ("LOCKSTEP_SINK_audit_KIND", "LOCKSTEP_SINK_AUDIT_KIND"),
    ] {
        let text = hint(wrong);
        assert!(
            text.contains(&format!("unknown key {wrong}; did you mean {right}?")),
            "{text}"
        );
    }
    assert!(hint("LOCKSTEP_SINK_ADDRESS").contains("lists all"));
    from_env(&[
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ("LOCKSTEP_SINK_A_SERVICE_HOST", "10.0.0.2"),
    ])
    .expect("a service link of Kubernetes is nobody's mistake");
}

#[test]
fn names_of_sinks_are_small_letters_and_digits() {
    for name in ["Audit", "1a", "a-b", "a_b", &"a".repeat(33)] {
        let text = file_fault(&format!("[sink.\"{name}\"]\nkind = \"mongo\""));
        assert!(text.contains("a sink's name is a small letter"), "{text}");
    }
    let longest = "a".repeat(32);
    sinks(&format!(
        "[sink.{longest}]\nkind = \"mongo\"\naddress = \"mongodb://h\""
    ));
}

#[test]
fn every_fault_of_every_sink_is_told_at_once() {
    let errors = from_file(concat!(
        "[sink.a]\nkind = \"oracle\"\n",
        "[sink.b]\nkind = \"postgres\"\naddress = \"postgres://h\"\nbatch_events_max = 0\nhistory = \"Events\"\ninstances = \"seeds\"\nca_file = true\n",
        "[sink.c]\nkind = \"mongo\"\naddress = \"mongodb://h\"\nmachines = [\"order/\"]\noptional = \"yes\"\ntimeout = \"1h\"\n",
    ))
    .expect_err("refused");
    let text = errors.to_string();
    let expected = [
        "lockstep.toml:3: sink.a.kind = \"oracle\": expected postgres, mongo or webhook",
        "lockstep.toml:7: sink.b.batch_events_max = \"0\": must be between 1 and 10000",
        "lockstep.toml:8: sink.b.history = \"Events\": expected up to 63 small letters",
        "lockstep.toml:9: sink.b.instances = \"seeds\": seeds is in use already",
        "lockstep.toml:10: sink.b.ca_file = true: expected path, found true",
        "lockstep.toml:14: sink.c.machines = [\"order/\"]: order/: prefix \"\": it is empty",
        "lockstep.toml:15: sink.c.optional = \"yes\": expected true or false",
        "lockstep.toml:16: sink.c.timeout = \"1h\": must be between 100ms and 5m",
    ];
    for line in expected {
        assert!(text.contains(line), "{line} not in:\n{text}");
    }
    assert_eq!(errors.faults.len(), expected.len(), "{text}");
}

#[test]
fn a_key_of_another_kind_says_for_which_it_is() {
    let text =
        file_fault("[sink.a]\nkind = \"postgres\"\naddress = \"postgres://h\"\nallow_local = true");
    assert!(
        text.contains("lockstep.toml:5) is for sinks of kind webhook only, and this is one of kind postgres: leave it out"),
        "{text}"
    );
    let text = hook_fault("https://example.com", "password = \"x\"");
    assert!(
        text.contains("is for sinks of kind postgres or mongo only"),
        "{text}"
    );
}

#[test]
fn an_address_must_fit_the_kind() {
    let wrong = |kind: &str, address: &str| {
        file_fault(&format!(
            "[sink.a]\nkind = \"{kind}\"\naddress = \"{address}\""
        ))
    };
    for address in [
        "mysql://h",
        "host=h",
        "postgres://h:port/x",
        "postgres://h?sslmode=maybe",
        "postgres:///x",
    ] {
        let text = wrong("postgres", address);
        assert!(
            text.contains("expected a URL such as postgres://"),
            "{text}"
        );
    }
    for address in ["http://h", "mongodb://", "mongodb://u@/x"] {
        let text = wrong("mongo", address);
        assert!(text.contains("expected a URL such as mongodb://"), "{text}");
    }
    for address in ["ftp://example.com", "example.com/hook", "https://"] {
        let text = hook_fault(address, "");
        assert!(text.contains("expected a URL such as https://"), "{text}");
    }
    assert!(hook_fault("https://u@example.com", "").contains("no user or password"));
    assert!(hook_fault("https://example.com/#a", "").contains("no fragment"));
    assert!(hook_fault("https://example.com/a b", "").contains("holds no white space"));
    let text = wrong("postgres", "postgres://u:hun@ter2@h");
    assert!(
        text.contains("written as %40") && !text.contains("ter2"),
        "{text}"
    );
    for good in [
        "postgresql://u@h1:1,h2:2/x?sslmode=require&application_name=y",
        "postgres://u@h?sslmode=verify-full",
    ] {
        let of_good = sinks(&format!(
            "[sink.a]\nkind = \"postgres\"\naddress = \"{good}\""
        ));
        let parsed = postgres(&of_good[0]).parsed().expect("it was checked");
        assert_eq!(
            parsed.get_ssl_mode(),
            tokio_postgres::config::SslMode::Require
        );
    }
}

#[test]
fn a_webhook_calls_this_machine_only_if_it_is_allowed_to() {
    for host in [
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[ff02::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::169.254.169.254]",
    ] {
        let address = format!("http://{host}:8080/hook");
        let text = hook_fault(&address, "");
        assert!(text.contains("set allow_local = true"), "{host}: {text}");
        sinks(&format!(
            "[sink.a]\nkind = \"webhook\"\nsecret = \"{SECRET}\"\naddress = \"{address}\"\nallow_local = true"
        ));
    }
    for host in [
        "example.com",
        "localhost.example.com",
        "10.0.0.1",
        "[2001:db8::1]",
        "[::ffff:10.0.0.1]",
    ] {
        sinks(&format!(
            "[sink.a]\nkind = \"webhook\"\nsecret = \"{SECRET}\"\naddress = \"http://{host}/\""
        ));
    }
}

#[test]
fn addresses_of_this_machine_and_its_link_are_told_from_others() {
    let local = [
        "127.0.0.1",
        "127.255.0.9",
        "169.254.169.254",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "febf::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
    ];
    for text in local {
        assert_eq!(text.parse::<IpAddr>().map(is_local), Ok(true), "{text}");
    }
    let others = [
        "192.0.2.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "128.0.0.1",
        "169.253.0.1",
        "2001:db8::1",
        "fec0::1",
        "::ffff:192.0.2.1",
        "64:ff9b::192.0.2.1",
        "64:ff9b:1::127.0.0.1",
    ];
    for text in others {
        assert_eq!(text.parse::<IpAddr>().map(is_local), Ok(false), "{text}");
    }
}

#[test]
fn webhooks_are_signed_with_sound_secrets() {
    let base = "[sink.a]\nkind = \"webhook\"\naddress = \"https://example.com\"\n";
    let text = file_fault(base);
    assert!(
        text.contains("sink.a.secret is not set; requests are signed"),
        "{text}"
    );
    let short = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY=";
    for secret in ["hunter2", short, "whsec_%%%", "", &SECRET[6..]] {
        let text = file_fault(&format!("{base}secret = \"{SECRET} {secret} x\""));
        assert!(text.contains("sink.a.secret = (hidden): secret"), "{text}");
        assert!(
            !text.contains("hunter2") && !text.contains("AAEC"),
            "{text}"
        );
    }
    let two = sinks(&format!("{base}secret = \" {SECRET}  {SECRET} \""));
    let SinkKind::Webhook(it) = &two[0].kind else {
        panic!("{two:?}")
    };
    assert_eq!(it.secret, Secret::Text(format!("{SECRET} {SECRET}")));
    let text = file_fault(&format!(
        "{base}secret = \"{SECRET}\"\nsecret_file = \"/s\""
    ));
    assert!(text.contains("are both set: leave one out"), "{text}");
}

#[test]
fn a_password_is_given_once_and_better_not_in_the_address() {
    let base = "[sink.a]\nkind = \"postgres\"\n";
    let text = file_fault(&format!(
        "{base}address = \"postgres://h\"\npassword = \"hunter2\"\npassword_file = \"/p\""
    ));
    assert!(
        text.contains("sink.a.password (") && text.contains("are both set"),
        "{text}"
    );
    for address in [
        "postgres://u:hunter2@h",
        "postgres://u@h?password=hunter2",
        "postgres://u@h/x?sslmode=prefer&%70assword=hunter2",
    ] {
        let (config, warnings) =
            from_file(&format!("{base}address = \"{address}\"")).expect("allowed");
        let warned = format!("{warnings:?}");
        assert!(
            warned.contains("a password stands in sink.a.address")
                && warned.contains("password_file"),
            "{warned}"
        );
        assert!(!warned.contains("hunter2"), "{warned}");
        let shown = config.sinks[0].address();
        assert!(
            shown.contains("(hidden)") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert_eq!(postgres(&config.sinks[0]).address, address);
    }
    let (_, warnings) =
        from_file("[sink.a]\nkind = \"mongo\"\naddress = \"mongodb://u:p@h\"").expect("allowed");
    assert!(
        format!("{warnings:?}").contains("a password stands in"),
        "{warnings:?}"
    );
    let (_, warnings) = from_file(&format!("{base}address = \"postgres://u@h/x\"")).expect("valid");
    assert_eq!(warnings, []);
}

#[test]
fn what_may_be_secret_in_an_address_is_never_shown() {
    for (address, expected) in [
        (
            "postgres://u@h:1/x?sslmode=require",
            "postgres://u@h:1/x?sslmode=require",
        ),
        ("postgres://u:p@s/s?w@h/x", "postgres://u:(hidden)@h/x"),
        (
            "mongodb://u:p@h/?authMechanismProperties=AWS:x&w=1",
            "mongodb://u:(hidden)@h/?authMechanismProperties=(hidden)&w=1",
        ),
        ("https://h/hook?token=x", "https://h/hook?(hidden)"),
        ("https://token@h/hook", "https://(hidden)@h/hook"),
        ("u:p@h", "(hidden)@h"),
        ("https://h:8080/hook", "https://h:8080/hook"),
    ] {
        assert_eq!(shown(address), expected);
    }
    for text in [
        "address = \"redis://u:hunter2@h\"",
        "address = \"postgres://u:hunter2@h:port\"",
        "address = [\"postgres://u:hunter2@h\"]",
        "address = \"postgres://u:hunter2@h h\"",
        "address = \"postgres://h\"\npassword = [\"hunter2\"]",
    ] {
        let text = file_fault(&format!("[sink.a]\nkind = \"postgres\"\n{text}"));
        assert!(
            !text.contains("hunter2") && text.contains("(hidden)"),
            "{text}"
        );
    }
}

#[test]
fn two_sinks_do_not_write_over_each_other() {
    let two = |a: &str, b: &str| from_file(&format!("[sink.a]\n{a}\n[sink.b]\n{b}"));
    let refused = |a: &str, b: &str| {
        let errors = two(a, b).expect_err("refused");
        assert_eq!(errors.faults.len(), 1, "{errors}");
        assert!(errors.to_string().contains("sink.a and sink.b"), "{errors}");
    };
    let pg = |rest: &str| format!("kind = \"postgres\"\naddress = \"postgres://{rest}");
    refused(&pg("u@h/x\""), &pg("v:p@H:5432/x?sslmode=require\""));
    refused(&pg("x@h\""), &pg("u@h/x\""));
    two(&pg("u@h/x\""), &pg("u@h/y\"")).expect("two databases");
    two(&pg("u@h/x\""), &pg("u@h/x\"\nschema = \"other\"")).expect("two schemas");
    let mongo = |rest: &str| format!("kind = \"mongo\"\naddress = \"mongodb://{rest}");
    refused(&mongo("u@h:27017/admin\""), &mongo("h\""));
    two(&mongo("h\""), &mongo("h\"\ndatabase = \"other\"")).expect("two databases");
    let hook =
        format!("kind = \"webhook\"\nsecret = \"{SECRET}\"\naddress = \"https://example.com\"");
    two(&hook, &hook).expect("a receiver may have several");
    let text = file_fault(
        "[sink.a]\nkind = \"mongo\"\naddress = \"mongodb://h\"\nhistory = \"x\"\ninstances = \"x\"",
    );
    assert!(
        text.contains("are both x: give each a name of its own"),
        "{text}"
    );
}

#[test]
fn there_are_no_more_sinks_than_the_cluster_keeps_records_of() {
    let many = |count| {
        (0..count).fold(String::new(), |text, at| {
            text + &format!("[sink.s{at}]\nkind = \"mongo\"\naddress = \"mongodb://h{at}\"\n")
        })
    };
    assert_eq!(sinks(&many(64)).len(), 64);
    assert!(file_fault(&many(65)).contains("65 sinks are configured: at most 64"));
}

#[test]
fn what_is_shown_of_sinks_is_a_file_that_says_the_same_and_hides_secrets() {
    let (_dir, sources) = in_file(concat!(
        "name = \"a\"\n",
        "[sink.m]\nkind = \"mongo\"\naddress = \"mongodb://u@h\"\npassword = \"hunter2\"\nmachines = [\"order/1\"]\n",
        "[sink.p]\nkind = \"postgres\"\naddress = \"postgres://u@h/x?sslmode=require\"\noptional = true\n",
        "[sink.w]\nkind = \"webhook\"\naddress = \"https://example.com/hook\"\nsecret_file = \"/s\"\nstart = \"everything\"\n",
    ));
    let loaded = load_explained(&sources).expect("valid");
    let shown = show(&loaded.settings);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        shown.contains("# sink.m.password is set, and not shown"),
        "{shown}"
    );
    assert!(!shown.contains("sink.p.allow_local"), "{shown}");
    let (_dir, again) = in_file(&shown);
    let mut expected = loaded.config.sinks;
    let SinkKind::Mongo(mongo) = &mut expected[0].kind else {
        panic!("{expected:?}")
    };
    mongo.password = None;
    assert_eq!(load(&again).expect("valid").0.sinks, expected);
}

#[test]
fn every_default_can_be_read_and_every_key_is_in_the_table() {
    let table = sink_markdown();
    for key in SINK_KEYS {
        if let KeyDefault::Is(text) = key.default {
            let read = (key.read)(&mut Default::default(), &Raw::Text(text.into()));
            assert_eq!(read, Ok(()), "{}", key.name);
        }
        assert_eq!(
            of_env(&key.env("a1")).map(|(sink, key)| (sink, key.name)),
            Some(("a1".into(), key.name))
        );
        let upper = key.name.to_uppercase();
        let row = format!(
            "| `sink.<name>.{}` | `LOCKSTEP_SINK_<NAME>_{upper}` |",
            key.name
        );
        assert!(table.contains(&row), "{row}");
    }
    assert_eq!(Kind::ALL.len(), 3);
}
