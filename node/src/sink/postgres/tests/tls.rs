//! TLS.

use std::path::PathBuf;

use anyhow::Result;
use lockstep_tests::postgres::{self as server, PASSWORD};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

use super::fixtures::config;
use crate::sink::Destination;
use crate::sink::postgres::Postgres;
use crate::sink::tests::fixtures::*;

/// A self-signed certificate for loopback, and its key, both PEM.
fn certificate() -> Result<(Vec<u8>, Vec<u8>)> {
    let key = PKey::from_rsa(Rsa::generate(2048)?)?;
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("CN", "postgres of a test")?;
    let name = name.build();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(BigNum::from_u32(1)?.to_asn1_integer()?.as_ref())?;
    builder.set_subject_name(&name)?;
    builder.set_issuer_name(&name)?;
    builder.set_pubkey(&key)?;
    builder.set_not_before(Asn1Time::days_from_now(0)?.as_ref())?;
    builder.set_not_after(Asn1Time::days_from_now(1)?.as_ref())?;
    builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    let mut names = SubjectAlternativeName::new();
    let names = names
        .ip("127.0.0.1")
        .build(&builder.x509v3_context(None, None))?;
    builder.append_extension(names)?;
    builder.sign(&key, MessageDigest::sha256())?;
    Ok((builder.build().to_pem()?, key.private_key_to_pem_pkcs8()?))
}

#[tokio::test]
async fn a_server_with_an_untrusted_certificate_gets_no_password() -> Result<()> {
    let mut server = server::Postgres::start_with(&["fsync=off"]).await?;
    let (certificate, key) = certificate()?;
    let path = server.put("server.crt", &certificate)?;
    let authority: PathBuf = path.clone();
    server.set(format!("ssl_cert_file={}", path.display()));
    let path = server.put("server.key", &key)?;
    server.set(format!("ssl_key_file={}", path.display()));
    server.set("ssl=on".to_owned());
    server.restart().await?;

    let open = async |mode: &str, authority: Option<PathBuf>| {
        let address = format!("{}?sslmode={mode}", server.address());
        let mut config = config(&address, PASSWORD);
        config.ca_file = authority;
        let mut sink = Postgres::new(config);
        let opened = sink.open(&claim(1)).await;
        (opened, sink)
    };
    let reason = misconfigured(open("require", None).await.0);
    assert!(reason.contains("certificate verify failed"), "{reason}");
    let empty = Some(server.put("empty.crt", b"")?);
    let reason = misconfigured(open("require", empty).await.0);
    assert!(reason.contains("no certificate"), "{reason}");
    misconfigured(open("require", Some("/nowhere.crt".into())).await.0);

    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE ssl AND application_name = 'lockstep'";
    let administrator = server.administrator().await?;
    for (mode, authority) in [
        ("verify-full", Some(authority.clone())),
        ("prefer", Some(authority)),
        ("prefer", None),
    ] {
        let (opened, sink) = open(mode, authority).await;
        opened?;
        let count: i64 = administrator.query_one(encrypted, &[]).await?.get(0);
        assert!(count > 0, "{mode} is not encrypted");
        drop(sink);
    }
    Ok(())
}
