//! A connection: address, user, TLS, keepalive.

use std::time::Duration;

use native_tls::{Certificate, TlsConnector};
use postgres_native_tls::MakeTlsConnector;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Error};
use tokio_util::task::AbortOnDropHandle;

use super::errors::{Operation, classify};
use crate::config::{Sink, postgres_config, postgres_hosts};
use crate::sink::SinkError;
use crate::sink::connect::{authorities, look_up, read_files, within};

const APPLICATION: &str = "lockstep";
/// Keepalive probes that a silent server may miss.
const PROBES: u32 = 3;

pub(super) struct Connection {
    pub(super) client: Client,
    /// Aborted when dropped: it would otherwise send a goodbye first, and wait for a server that may be
    /// stopped.
    _task: AbortOnDropHandle<()>,
}

/// Connects, and applies the server settings.
pub(super) async fn connect(sink: &Sink) -> Result<Connection, SinkError> {
    within(sink.timeout, connect_untimed(sink)).await
}

async fn connect_untimed(sink: &Sink) -> Result<Connection, SinkError> {
    let read = {
        let sink = sink.clone();
        move || {
            let config = driver_config(&sink)?;
            let tls = tls(&sink, config.get_ssl_mode())?;
            Ok((config, MakeTlsConnector::new(tls)))
        }
    };
    let (config, tls) = read_files(sink.timeout, read).await?;
    // With `hostaddr` the names are for certificates only.
    if config.get_hostaddrs().is_empty() {
        let names = config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => Some(name.as_str()),
            Host::Unix(_) => None,
        });
        look_up(names.collect()).await?;
    }
    let hosts = postgres_hosts(&config);
    let failed = |error: Error| classify(Operation::Connecting(&hosts), &error);
    let (client, driver) = config.connect(tls).await.map_err(failed)?;
    // Calls that wait for an answer report its error.
    let task = tokio::spawn(async move { drop(driver.await) });
    let connection = Connection {
        client,
        _task: AbortOnDropHandle::new(task),
    };
    let settings = server_settings(sink.timeout);
    let applied = connection.client.batch_execute(&settings).await;
    applied.map_err(failed)?;
    Ok(connection)
}

fn driver_config(sink: &Sink) -> Result<Config, SinkError> {
    // The parser's message may quote a part of the password.
    let mut config = postgres_config(&sink.address).map_err(|_| {
        SinkError::misconfigured(format!(
            "the address of sink {} is not a PostgreSQL address: \
             postgres://user@host:port/database?sslmode=...",
            sink.name
        ))
    })?;
    if let Some(password) = sink.read_password().map_err(SinkError::misconfigured)? {
        config.password(password);
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION);
    }
    let timeout = sink.timeout;
    let hosts = config.get_hosts().len().max(1);
    // A host that does not answer must leave time for the others.
    let each = timeout / u32::try_from(hosts + 1).unwrap_or(u32::MAX);
    config
        .connect_timeout(each.max(Duration::from_millis(1)))
        .tcp_user_timeout(timeout)
        .keepalives(true)
        .keepalives_idle(timeout.max(Duration::from_secs(1)))
        .keepalives_interval((timeout / PROBES).max(Duration::from_secs(1)))
        .keepalives_retries(PROBES);
    // Several hosts are a primary and its standbys, and only one of them takes writes.
    if hosts > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    Ok(config)
}

/// `sslmode=require` verifies the server's certificate. `prefer`, which an attacker can downgrade to no TLS
/// at all, does so only if a certificate authority is configured.
fn tls(sink: &Sink, mode: SslMode) -> Result<TlsConnector, SinkError> {
    let mut builder = TlsConnector::builder();
    match &sink.ca_file {
        Some(file) => {
            for authority in authorities(file, Certificate::stack_from_pem)? {
                builder.add_root_certificate(authority);
            }
        }
        None if mode == SslMode::Prefer => {
            builder.danger_accept_invalid_certs(true);
        }
        None => {}
    }
    builder
        .build()
        .map_err(|e| SinkError::misconfigured(format!("setting up TLS: {e}")))
}

/// Settings of the server's session. The server ends statements that this side no longer waits for.
///
/// Plans are prepared when the tables may still be empty, and kept: without these settings they could
/// scan a whole table for a batch of a few rows once it has grown. (`jit` depends on estimated costs,
/// which such settings inflate.)
fn server_settings(timeout: Duration) -> String {
    let ms = timeout.as_millis().clamp(1, i32::MAX as u128);
    format!(
        "SET statement_timeout = {ms}; SET lock_timeout = {ms}; \
         SET idle_in_transaction_session_timeout = {ms}; \
         SET client_min_messages = warning; \
         SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
         SET jit = off"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As configured with an address.
    fn config(address: &str) -> Result<Config, SinkError> {
        driver_config(&super::super::tests::config(address, "hidden"))
    }

    #[test]
    fn an_address_is_shown_without_user_and_password() {
        let address = "postgres://ann:secret@one:1,two/books?sslmode=verify-full";
        // One port for all or one for each: the second host has none of its own.
        assert!(config(address).is_ok());
        let config = config("postgres://ann:secret@one:1,two:2/books").unwrap();
        assert_eq!(postgres_hosts(&config), "one:1,two:2");
        assert_eq!(config.get_password(), Some(&b"hidden"[..]));
        assert_eq!(
            config.get_target_session_attrs(),
            TargetSessionAttrs::ReadWrite
        );
    }

    #[test]
    fn an_address_that_cannot_be_read_is_not_quoted() {
        // With an `@` in the password that should have been written as %40.
        let refused = config("postgres://ann:p@se?cret@host/books").unwrap_err();
        let SinkError::Misconfigured { reason } = refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains("sink reports"), "{reason}");
        assert!(!reason.contains("cret"), "{reason}");
    }

    #[test]
    fn the_stricter_modes_of_tls_require_it() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let address = format!("postgres://ann@host/books?sslmode={mode}");
            let config = config(&address).unwrap();
            assert_eq!(config.get_ssl_mode(), SslMode::Require, "{mode}");
        }
    }
}
