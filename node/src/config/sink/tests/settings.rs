//! Which settings there are, and which sources may set them.

use std::time::Duration;

use super::{file_fault, from_file, hook_fault, sinks};
use crate::config::lookup::Slot;
use crate::config::shape::Raw;
use crate::config::tests::{env, from_env, in_file, warnings};
use crate::config::{KeyDefault, SINK_KEYS, SinkKind, Start, load};

#[test]
fn a_sink_needs_a_kind_and_an_address_and_has_defaults() {
    let sinks = sinks("[sink.audit]\nkind = \"postgres\"\naddress = \"postgres://lockstep@db/x\"");
    let [sink] = sinks.as_slice() else {
        panic!("{sinks:?}")
    };
    assert_eq!(sink.name.as_str(), "audit");
    assert_eq!((sink.kind, sink.machines.len()), (SinkKind::Postgres, 0));
    assert_eq!(sink.batch_events_max, 500);
    assert_eq!(sink.timeout, Duration::from_secs(10));
    assert_eq!(sink.retry_max, Duration::from_secs(30));
    assert!(!sink.optional);
    assert_eq!(
        (sink.schema.as_str(), sink.history.as_str()),
        ("lockstep", "history")
    );
    assert_eq!(
        (sink.instances.as_str(), &sink.password),
        ("instances", &None)
    );

    let text = from_file("[sink.audit]").expect_err("refused").to_string();
    assert!(
        text.contains(
            "sink.audit.kind is not set; set the kind of the destination: postgres, mongo, webhook"
        ),
        "{text}"
    );
    let text = file_fault("[sink.audit]\nkind = \"mongo\"");
    assert!(
        text.contains("sink.audit.address is not set; set the address of this mongo"),
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
    let loaded = load(&sources).expect("valid");
    let names: Vec<&str> = loaded
        .config
        .sinks
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["a1", "b"]);
    let (hook, mongo) = (&loaded.config.sinks[0], &loaded.config.sinks[1]);
    let follows: Vec<String> = hook.machines.iter().map(ToString::to_string).collect();
    assert_eq!(follows, ["order", "ticket/2026-"]);
    assert_eq!(hook.kind, SinkKind::Webhook);
    assert_eq!(hook.secret_file, Some("/run/secrets/hook".into()));
    assert_eq!(hook.start, Start::Everything);
    assert_eq!((hook.concurrency_max, hook.attempts_max), (16, 10));
    assert!(mongo.optional, "an empty variable counts as unset");
    assert_eq!(
        (mongo.kind, mongo.database.as_str()),
        (SinkKind::Mongo, "y")
    );
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
        "lockstep.toml:6: unknown key sink.b.zzzzzz; `lockstepd check-config --markdown` lists all keys",
        "lockstep.toml:8: unknown key sink.kind; did you mean sink.<name>.kind?",
    ] {
        assert!(text.contains(line), "{line} not in:\n{text}");
    }
    let hint = |variable| warnings(&[(variable, "x")]);
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
            text.contains(&format!(
                "{wrong} is no setting and was ignored; did you mean {right}?"
            )),
            "{text}"
        );
    }
    assert!(hint("LOCKSTEP_SINK_ADDRESS").contains("is no setting"));
    from_env(&[("LOCKSTEP_SINK_A_SERVICE_HOST", "10.0.0.2")])
        .expect("a service link of Kubernetes is not a setting");
}

#[test]
fn names_of_sinks_are_lowercase_letters_and_digits() {
    for name in ["Audit", "1a", "a-b", "a_b", &"a".repeat(33)] {
        let text = file_fault(&format!("[sink.\"{name}\"]\nkind = \"mongo\""));
        assert!(text.contains(&format!("sink.{name} = a table: ")), "{text}");
    }
    let longest = "a".repeat(32);
    sinks(&format!(
        "[sink.{longest}]\nkind = \"mongo\"\naddress = \"mongodb://h\""
    ));
}

#[test]
fn every_fault_of_every_sink_is_reported_at_once() {
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
        "lockstep.toml:8: sink.b.history = \"Events\": character 1 is 'E'; use 1 to 63 lowercase",
        "lockstep.toml:9: sink.b.instances = \"seeds\": seeds is already in use",
        "lockstep.toml:10: sink.b.ca_file = true: expected a path, found true",
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
fn a_key_of_another_kind_names_the_kinds_that_have_it() {
    let text =
        file_fault("[sink.a]\nkind = \"postgres\"\naddress = \"postgres://h\"\nallow_local = true");
    assert!(
        text.contains("lockstep.toml:5) is only for sinks of kind webhook, and this sink is of kind postgres: remove it"),
        "{text}"
    );
    let text = hook_fault("https://example.com", "password = \"x\"");
    assert!(
        text.contains("is only for sinks of kind postgres or mongo"),
        "{text}"
    );
}

#[test]
fn a_table_that_postgres_sinks_keep_for_themselves_is_reserved_there_only() {
    let named = |kind, scheme| {
        format!(
            "[sink.a]\nkind = \"{kind}\"\naddress = \"{scheme}://h/d\"\nhistory = \"migrations\""
        )
    };
    let text = file_fault(&named("postgres", "postgres"));
    assert!(text.contains("keeps for itself"), "{text}");
    sinks(&named("mongo", "mongodb"));
}

#[test]
fn there_are_at_most_as_many_sinks_as_the_cluster_keeps_records_of() {
    let many = |count| {
        (0..count).fold(String::new(), |text, at| {
            text + &format!("[sink.s{at}]\nkind = \"mongo\"\naddress = \"mongodb://h{at}\"\n")
        })
    };
    assert_eq!(sinks(&many(64)).len(), 64);
    assert!(file_fault(&many(1025)).contains("1025 sinks are configured, maximum 1024"));
}

#[test]
fn every_default_is_valid_and_every_key_has_a_variable() {
    for key in SINK_KEYS {
        if let KeyDefault::Is(text) = key.default {
            let read = key.shape.read(&Raw::Text(text.into()));
            assert!(read.is_ok(), "{}: {read:?}", key.path);
        }
        let variable = key.env_in(Some("a1"));
        let upper = key.path.to_uppercase();
        assert_eq!(variable, format!("LOCKSTEP_SINK_A1_{upper}"));
        let slot = Slot::of_env(&variable).expect("it is a variable");
        assert_eq!(slot.path(), format!("sink.a1.{}", key.path));
    }
}
