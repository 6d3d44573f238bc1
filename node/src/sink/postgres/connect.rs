//! A connection: where to, as whom, how it is kept safe and alive.

use std::path::{Path, PathBuf};
use std::time::Duration;

use native_tls::{Certificate, TlsConnector};
use postgres_native_tls::MakeTlsConnector;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config};

use super::fault::{Doing, fault, misconfigured, unavailable};
use super::{APPLICATION, within};
use crate::config::PostgresSink;
use crate::sink::SinkError;

/// How often a silent peer is probed before the connection is given up.
const PROBES: u32 = 3;

/// How to reach the server.
#[derive(Clone)]
pub(super) struct Settings {
    /// The sink's name, for messages.
    sink: String,
    postgres: PostgresSink,
    ca_file: Option<PathBuf>,
    /// How long one exchange may take.
    pub(super) timeout: Duration,
}

impl Settings {
    pub(super) fn new(config: &crate::config::Sink, postgres: &PostgresSink) -> Self {
        Self {
            sink: config.name.clone(),
            postgres: postgres.clone(),
            ca_file: config.ca_file.clone(),
            timeout: config.timeout,
        }
    }
}

/// A live connection. What carries it ends when it is dropped, whatever the server does.
pub(super) struct Connection {
    client: Client,
    carrier: JoinHandle<()>,
}

impl Connection {
    /// To speak through it.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether it can still be spoken through, as far as is known here.
    pub(super) fn is_alive(&self) -> bool {
        !self.client.is_closed()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // By itself it would say goodbye first, and wait for a server that may be stopped.
        self.carrier.abort();
    }
}

/// Connects, and makes the session's settings.
pub(super) async fn connect(settings: &Settings) -> Result<Connection, SinkError> {
    within(settings.timeout, connect_in_any_time(settings)).await
}

async fn connect_in_any_time(settings: &Settings) -> Result<Connection, SinkError> {
    let (config, tls) = read(settings).await?;
    look_up(&config).await?;
    let place = place(&config);
    let at_place = |error: SinkError| match error {
        SinkError::Unavailable {
            reason,
            retry_after,
        } => SinkError::Unavailable {
            reason: format!("{place}: {reason}"),
            retry_after,
        },
        SinkError::Misconfigured { reason } => misconfigured(format!("{place}: {reason}")),
        other => other,
    };
    let (client, carrier) = config
        .connect(tls)
        .await
        .map_err(|error| at_place(fault(Doing::Connecting, &error)))?;
    let carrier = tokio::spawn(async move {
        // Whoever waits for an answer is told of its end.
        let _ = carrier.await;
    });
    let connection = Connection { client, carrier };
    connection
        .client
        .batch_execute(&session_settings(settings.timeout))
        .await
        .map_err(|error| at_place(fault(Doing::Connecting, &error)))?;
    Ok(connection)
}

/// What is in files is read anew for each connection, so that it can be changed while the node runs.
async fn read(settings: &Settings) -> Result<(Config, MakeTlsConnector), SinkError> {
    let settings = settings.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let config = config(&settings)?;
        let tls = tls(settings.ca_file.as_deref(), config.get_ssl_mode())?;
        Ok((config, MakeTlsConnector::new(tls)))
    });
    match reading.await {
        Ok(read) => read,
        Err(error) => Err(unavailable(format!("reading the password: {error}"))),
    }
}

fn config(settings: &Settings) -> Result<Config, SinkError> {
    // The parser's own words may quote a part of the password.
    let mut config = settings.postgres.parsed().map_err(|_| {
        misconfigured(format!(
            "the address of sink {} is not one of PostgreSQL: \
             postgres://user@host:port/database?sslmode=...",
            settings.sink
        ))
    })?;
    if let Some(password) = &settings.postgres.password {
        config.password(password.read().map_err(misconfigured)?);
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION);
    }
    let timeout = settings.timeout;
    let hosts = config.get_hosts().len().max(1);
    // One address that swallows everything must leave time for the others.
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

/// `sslmode=require` verifies whom it speaks to. `prefer`, which anybody on the way can talk out of
/// TLS altogether, does so only where a certificate authority is configured.
fn tls(ca_file: Option<&Path>, mode: SslMode) -> Result<TlsConnector, SinkError> {
    let mut builder = TlsConnector::builder();
    match ca_file {
        Some(path) => {
            let named = |reason: String| misconfigured(format!("{}: {reason}", path.display()));
            let text = std::fs::read(path).map_err(|e| named(e.to_string()))?;
            let authorities =
                Certificate::stack_from_pem(&text).map_err(|e| named(e.to_string()))?;
            if authorities.is_empty() {
                return Err(named("there is no certificate in it".to_owned()));
            }
            for authority in authorities {
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
        .map_err(|e| misconfigured(format!("TLS cannot be set up: {e}")))
}

/// Whether any of the hosts has an address: one that was never started has none.
async fn look_up(config: &Config) -> Result<(), SinkError> {
    let mut unknown = None;
    for host in config.get_hosts() {
        let Host::Tcp(host) = host else {
            return Ok(());
        };
        let found = tokio::net::lookup_host((host.as_str(), 0)).await;
        if found.is_ok_and(|mut addresses| addresses.next().is_some()) {
            return Ok(());
        }
        unknown = Some(host.clone());
    }
    match unknown {
        // With `hostaddr` the names are for certificates only.
        Some(host) if config.get_hostaddrs().is_empty() => Err(SinkError::Absent { host }),
        _ => Ok(()),
    }
}

/// Where it is, without user and password.
fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            Host::Unix(folder) => format!("{}:{port}", folder.display()),
        }
    });
    hosts.collect::<Vec<_>>().join(",")
}

/// The server ends what this side no longer waits for.
///
/// The plans are made when the tables may still be empty, and kept: without these settings they could
/// read a whole table for a batch of a few rows once it has grown. (`jit` goes by estimated costs,
/// which such settings inflate.)
fn session_settings(timeout: Duration) -> String {
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
    use crate::config::Secret;

    fn settings(address: &str) -> Settings {
        Settings {
            sink: "reports".to_owned(),
            postgres: PostgresSink {
                address: address.to_owned(),
                password: Some(Secret::Text("hidden".to_owned())),
                schema: "lockstep".to_owned(),
                history: "history".to_owned(),
                instances: "instances".to_owned(),
            },
            ca_file: None,
            timeout: Duration::from_secs(9),
        }
    }

    #[test]
    fn an_address_is_shown_without_user_and_password() {
        let address = "postgres://ann:secret@one:1,two/books?sslmode=verify-full";
        // One port for all or one for each: the second host has none of its own.
        assert!(config(&settings(address)).is_ok());
        let config = config(&settings("postgres://ann:secret@one:1,two:2/books")).unwrap();
        assert_eq!(place(&config), "one:1,two:2");
        assert_eq!(config.get_password(), Some(&b"hidden"[..]));
        assert_eq!(
            config.get_target_session_attrs(),
            TargetSessionAttrs::ReadWrite
        );
    }

    #[test]
    fn an_address_that_cannot_be_read_is_not_quoted() {
        // With an `@` in the password that should have been written as %40.
        let refused = config(&settings("postgres://ann:p@se?cret@host/books")).unwrap_err();
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
            let config = config(&settings(&address)).unwrap();
            assert_eq!(config.get_ssl_mode(), SslMode::Require, "{mode}");
        }
    }
}
