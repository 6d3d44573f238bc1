//! How the driver connects.

use std::path::PathBuf;
use std::time::Duration;

use mongodb::error::{Error, ErrorKind};
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadPreference, SelectionCriteria, ServerAddress, Tls,
};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::super::{SinkError, read_files};
use crate::config::{MongoSink, Secret, Sink};

/// The default port of a server.
const PORT: u16 = 27017;

/// The configuration of a MongoDB sink.
#[derive(Debug, Clone)]
pub(super) struct MongoSettings {
    address: String,
    password: Option<Secret>,
    ca_file: Option<PathBuf>,
    /// Limit for one exchange.
    pub(super) timeout: Duration,
    /// The database.
    pub(super) database: String,
    /// The collection of all events.
    pub(super) history: String,
    /// The collection of current states.
    pub(super) instances: String,
}

impl MongoSettings {
    pub(super) fn new(config: &Sink, mongo: &MongoSink) -> Self {
        Self {
            address: mongo.address.clone(),
            password: mongo.password.clone(),
            ca_file: config.ca_file.clone(),
            timeout: config.timeout,
            database: mongo.database.clone(),
            history: mongo.history.clone(),
            instances: mongo.instances.clone(),
        }
    }

    /// The driver's options, with the current password. Looks up the hosts first, because the driver only
    /// reports that it could not select a server.
    pub(super) async fn client_options(&self) -> Result<ClientOptions, SinkError> {
        let address = self.full_address().await?;
        let parsed = timeout(self.timeout, ClientOptions::parse(address.as_str())).await;
        let parsed =
            parsed.map_err(|_| SinkError::unavailable("looking up its hosts took too long"))?;
        let mut options = parsed.map_err(|error| self.invalid_address(&error))?;
        look_up(&options.hosts, self.timeout).await?;
        options
            .app_name
            .get_or_insert_with(|| "lockstep".to_owned());
        options.connect_timeout = Some(self.timeout);
        // A little less, so that the driver reports what it waited for.
        options.server_selection_timeout = Some(self.timeout.mul_f32(0.9));
        // Whatever the address says: guards must be checked on the server that takes writes.
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        options.selection_criteria = Some(primary);
        let mut concern = options.write_concern.take().unwrap_or_default();
        // The server gives up too: it would otherwise wait for a majority that may never return.
        concern.w_timeout.get_or_insert(self.timeout);
        if concern.w.is_none() {
            concern.w = Some(Acknowledgment::Majority);
            concern.journal.get_or_insert(true);
        }
        options.write_concern = Some(concern);
        if let (Some(Tls::Enabled(tls)), Some(file)) = (&mut options.tls, &self.ca_file) {
            tls.ca_file_path.get_or_insert_with(|| file.clone());
        }
        Ok(options)
    }

    /// The address with the configured password in it.
    async fn full_address(&self) -> Result<String, SinkError> {
        let Some(password) = &self.password else {
            return Ok(self.address.clone());
        };
        let password = password.clone();
        let read = move || password.read().map_err(SinkError::misconfigured);
        let password = read_files(self.timeout, read).await?;
        with_password(&self.address, &password).ok_or_else(|| {
            SinkError::misconfigured("a password is configured, but the address names no user")
        })
    }

    fn invalid_address(&self, error: &Error) -> SinkError {
        match &*error.kind {
            ErrorKind::DnsResolve { .. } => SinkError::Absent {
                host: hosts(&self.address).to_owned(),
            },
            // The driver's message may quote any part of the address.
            ErrorKind::InvalidArgument { message, .. } if !self.address.contains('@') => {
                SinkError::misconfigured(format!("the address is not valid: {message}"))
            }
            _ => SinkError::misconfigured(
                "the address is not valid: percent-encode special characters of the user and the \
                 password, and use options that MongoDB's driver supports",
            ),
        }
    }
}

/// Checks that at least one of the hosts has an address.
async fn look_up(hosts: &[ServerAddress], limit: Duration) -> Result<(), SinkError> {
    let mut unknown = None;
    for address in hosts {
        let ServerAddress::Tcp { host, port } = address else {
            return Ok(());
        };
        let name = host.trim_start_matches('[').trim_end_matches(']');
        match timeout(limit, lookup_host((name, port.unwrap_or(PORT)))).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => {
                unknown.get_or_insert(name);
            }
            Err(_) => {
                return Err(SinkError::unavailable(format!(
                    "looking up {name} took longer than {limit:?}"
                )));
            }
        }
    }
    unknown.map_or(Ok(()), |host| {
        Err(SinkError::Absent {
            host: host.to_owned(),
        })
    })
}

/// The hosts in an address.
fn hosts(address: &str) -> &str {
    let (_, hosts, _) = parts(address);
    hosts
}

/// An address in three parts: before the hosts, the hosts, and after them.
fn parts(address: &str) -> (&str, &str, &str) {
    let start = address.find("://").map_or(0, |at| at + "://".len());
    let end = address[start..]
        .find(['/', '?'])
        .map_or(address.len(), |at| start + at);
    let hosts = address[start..end]
        .rfind('@')
        .map_or(start, |at| start + at + 1);
    (&address[..hosts], &address[hosts..end], &address[end..])
}

/// The address with another password; `None` if it names no user.
fn with_password(address: &str, password: &str) -> Option<String> {
    let (before, hosts, behind) = parts(address);
    let (scheme, user) = before.strip_suffix('@')?.split_once("://")?;
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    let password = percent_encoded(password);
    Some(format!("{scheme}://{user}:{password}@{hosts}{behind}"))
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_put_into_the_address_whatever_it_holds() {
        let cases = [
            (
                "mongodb://ann@a:1,b:2/x?w=1",
                "mongodb://ann:p%40%2Fs@a:1,b:2/x?w=1",
            ),
            ("mongodb://ann:old@a", "mongodb://ann:p%40%2Fs@a"),
            (
                "mongodb+srv://ann@a?w=1",
                "mongodb+srv://ann:p%40%2Fs@a?w=1",
            ),
        ];
        for (address, full) in cases {
            assert_eq!(with_password(address, "p@/s").as_deref(), Some(full));
        }
        assert_eq!(with_password("mongodb://a/x@y", "p"), None);
        assert_eq!(hosts("mongodb://ann:old@a:1,b/x?y=@"), "a:1,b");
    }

    #[tokio::test]
    async fn writes_go_to_the_majority_unless_the_address_says_otherwise() {
        for (address, acknowledgment, journal) in [
            ("mongodb://127.0.0.1", Acknowledgment::Majority, Some(true)),
            ("mongodb://127.0.0.1/?w=1", Acknowledgment::Nodes(1), None),
            (
                "mongodb://127.0.0.1/?journal=false",
                Acknowledgment::Majority,
                Some(false),
            ),
        ] {
            let options = settings(address, None).client_options().await.unwrap();
            let concern = options.write_concern.unwrap();
            assert_eq!(concern.w, Some(acknowledgment), "{address}");
            assert_eq!(concern.journal, journal, "{address}");
        }
    }

    #[tokio::test]
    async fn no_error_about_an_address_quotes_its_password() {
        let inline = settings("mongodb://ann:se/cret@127.0.0.1", None);
        let file = settings(
            "mongodb://127.0.0.1",
            Some(Secret::Text("secret".to_owned())),
        );
        for settings in [inline, file] {
            let error = settings.client_options().await.unwrap_err();
            assert!(
                matches!(error, SinkError::Misconfigured { .. }),
                "{error:?}"
            );
            assert!(!error.to_string().contains("cret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_host_that_has_no_address_is_absent() {
        let error = settings("mongodb://no-such-host.invalid:1", None)
            .client_options()
            .await;
        let host = "no-such-host.invalid".to_owned();
        assert_eq!(error.unwrap_err(), SinkError::Absent { host });
    }

    fn settings(address: &str, password: Option<Secret>) -> MongoSettings {
        MongoSettings {
            address: address.to_owned(),
            password,
            ca_file: None,
            timeout: Duration::from_secs(10),
            database: "lockstep".to_owned(),
            history: "history".to_owned(),
            instances: "instances".to_owned(),
        }
    }
}
