//! How the driver connects.

use mongodb::error::{Error, ErrorKind};
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadPreference, SelectionCriteria, ServerAddress, Tls,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::SinkError;
use super::super::connect::{look_up, read_files, within};
use crate::config::{Sink, mongo_parts};

/// The driver's options, with the current password. Looks up the hosts first, because the driver only
/// reports that it could not select a server.
pub(super) async fn client_options(sink: &Sink) -> Result<ClientOptions, SinkError> {
    let address = full_address(sink).await?;
    let resolved = within(sink.timeout, async {
        let parsed = ClientOptions::parse(address.as_str()).await;
        let options = parsed.map_err(|error| invalid_address(&sink.address, &error))?;
        let names = options.hosts.iter().map(|address| match address {
            ServerAddress::Tcp { host, .. } => Some(host.as_str()),
            _ => None,
        });
        look_up(names.collect()).await?;
        Ok(options)
    });
    let mut options = resolved.await?;
    options
        .app_name
        .get_or_insert_with(|| "lockstep".to_owned());
    options.connect_timeout = Some(sink.timeout);
    // A little less, so that the driver reports what it waited for.
    options.server_selection_timeout = Some(sink.timeout.mul_f32(0.9));
    // Overrides the address: the claim must be checked on the primary.
    let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
    options.selection_criteria = Some(primary);
    let mut concern = options.write_concern.take().unwrap_or_default();
    // The server gives up too: it would otherwise wait for a majority that may never return.
    concern.w_timeout.get_or_insert(sink.timeout);
    if concern.w.is_none() {
        concern.w = Some(Acknowledgment::Majority);
        concern.journal.get_or_insert(true);
    }
    options.write_concern = Some(concern);
    if let (Some(Tls::Enabled(tls)), Some(file)) = (&mut options.tls, &sink.ca_file) {
        tls.ca_file_path.get_or_insert_with(|| file.clone());
    }
    Ok(options)
}

/// The address with the configured password in it.
async fn full_address(sink: &Sink) -> Result<String, SinkError> {
    let owned = sink.clone();
    let read = move || owned.read_password().map_err(SinkError::misconfigured);
    let Some(password) = read_files(sink.timeout, read).await? else {
        return Ok(sink.address.clone());
    };
    with_password(&sink.address, &password).ok_or_else(|| {
        SinkError::misconfigured("a password is configured, but the address names no user")
    })
}

fn invalid_address(address: &str, error: &Error) -> SinkError {
    match &*error.kind {
        ErrorKind::DnsResolve { .. } => SinkError::Absent {
            host: mongo_parts(address).map_or(address, |it| it.2).to_owned(),
        },
        // The driver's message may quote any part of the address.
        ErrorKind::InvalidArgument { message, .. } if !address.contains('@') => {
            SinkError::misconfigured(format!("the address is not valid: {message}"))
        }
        _ => SinkError::misconfigured(
            "the address is not valid: percent-encode special characters of the user and the \
             password, and use options that MongoDB's driver supports",
        ),
    }
}

/// The address with another password; `None` if it names no user.
fn with_password(address: &str, password: &str) -> Option<String> {
    let (scheme, user, hosts, behind) = mongo_parts(address)?;
    let (user, _) = user?.split_once(':').unwrap_or((user?, ""));
    let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
    Some(format!("{scheme}{user}:{password}@{hosts}{behind}"))
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
            let options = options(address, None).await.unwrap();
            let concern = options.write_concern.unwrap();
            assert_eq!(concern.w, Some(acknowledgment), "{address}");
            assert_eq!(concern.journal, journal, "{address}");
        }
    }

    #[tokio::test]
    async fn no_error_about_an_address_quotes_its_password() {
        for (address, password) in [
            ("mongodb://ann:se/cret@127.0.0.1", None),
            ("mongodb://127.0.0.1", Some("secret")),
        ] {
            let error = options(address, password).await.unwrap_err();
            assert!(
                matches!(error, SinkError::Misconfigured { .. }),
                "{error:?}"
            );
            assert!(!error.to_string().contains("cret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_host_that_has_no_address_is_absent() {
        let error = options("mongodb://no-such-host.invalid:1", None).await;
        let host = "no-such-host.invalid".to_owned();
        assert_eq!(error.unwrap_err(), SinkError::Absent { host });
    }

    /// The driver's options for an address.
    async fn options(address: &str, password: Option<&str>) -> Result<ClientOptions, SinkError> {
        client_options(&super::super::tests::config(address, "lockstep", password)).await
    }
}
