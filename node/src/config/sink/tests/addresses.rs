//! Which destinations are allowed.

use std::net::IpAddr;

use super::{SECRET, file_fault, from_file, hook_fault, sinks};
use crate::config::is_local;
use crate::config::postgres_config;

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
    assert!(hook_fault("https://u@example.com", "").contains("must not contain a user"));
    assert!(hook_fault("https://example.com/#a", "").contains("must not contain a fragment"));
    assert!(hook_fault("https://example.com/a b", "").contains("must not contain white space"));
    let text = wrong("postgres", "postgres://u:hun@ter2@h");
    assert!(text.contains("as %40") && !text.contains("ter2"), "{text}");
    for good in [
        "postgresql://u@h1:1,h2:2/x?sslmode=require&application_name=y",
        "postgres://u@h?sslmode=verify-full",
    ] {
        let of_good = sinks(&format!(
            "[sink.a]\nkind = \"postgres\"\naddress = \"{good}\""
        ));
        let parsed = postgres_config(&of_good[0].address).expect("a valid address");
        assert_eq!(
            parsed.get_ssl_mode(),
            tokio_postgres::config::SslMode::Require
        );
    }
}

#[test]
fn a_webhook_calls_a_local_address_only_with_allow_local() {
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
fn loopback_and_link_local_addresses_are_recognized() {
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
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
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
        "fd00:ec2::253",
    ];
    for text in others {
        assert_eq!(text.parse::<IpAddr>().map(is_local), Ok(false), "{text}");
    }
}

#[test]
fn two_sinks_do_not_overwrite_each_other() {
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
        text.contains("are both x: give each its own name"),
        "{text}"
    );
}
