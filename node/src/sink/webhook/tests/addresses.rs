//! Which addresses are called.

use lockstep_tests::receiver::{Behaviour, Receiver, Rule};

use super::*;

async fn open(address: &str, allow_local: bool) -> Result<StoredCheckpoint, SinkError> {
    let mut sink = configured(address);
    sink.allow_local = allow_local;
    Webhook::new(sink).open(&claim(7)).await
}

#[tokio::test]
async fn local_addresses_are_called_only_if_allowed() {
    let receiver = Receiver::start(&[SECRET]).await.unwrap();
    let port = receiver.address().port();
    let hosts = [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "localhost",
        "[::ffff:127.0.0.1]",
    ];
    for host in hosts {
        let address = format!("http://{host}:{port}/hook");
        let Err(SinkError::Misconfigured { reason }) = open(&address, false).await else {
            panic!("{host} was called");
        };
        assert!(reason.contains("allow_local"), "{host}: {reason}");
    }
    for host in [
        "0.0.0.0",
        "[::1]",
        "169.254.169.254",
        "[fe80::1]",
        "[64:ff9b::7f00:1]",
    ] {
        let refused = open(&format!("http://{host}/"), false).await;
        assert!(
            matches!(refused, Err(SinkError::Misconfigured { .. })),
            "{host}: {refused:?}"
        );
    }
    assert_eq!(receiver.counts().requests, 0);

    for (revision, host) in (1..).zip(hosts) {
        let mut hook = Webhook::new(configured(&format!("http://{host}:{port}/hook")));
        hook.open(&claim(7)).await.unwrap();
        let written = hook.write(&batch(&[event(revision, None)])).await;
        assert_eq!(written, Ok(()), "{host}");
    }
    assert_eq!(receiver.accepted_count(), hosts.len());
}

#[tokio::test]
async fn a_host_that_does_not_resolve_is_absent() {
    let absent = open("http://no-such-host.invalid/hook", true).await;
    let host = "no-such-host.invalid".to_owned();
    assert_eq!(absent, Err(SinkError::Absent { host }));
    let wrong = open("not a url", true).await;
    assert!(
        matches!(wrong, Err(SinkError::Misconfigured { .. })),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (receiver, mut hook) = pair().await;
    let elsewhere = Receiver::start(&[SECRET]).await.unwrap();
    receiver.obey(Rule::new(Behaviour::redirect(&elsewhere.url())));
    let Err(SinkError::Misconfigured { reason }) = hook.write(&batch(&[event(1, None)])).await
    else {
        panic!("it was redirected");
    };
    assert!(
        reason.contains("307") && reason.contains("redirects"),
        "{reason}"
    );
    assert_eq!(elsewhere.counts().requests, 0);
}

#[tokio::test]
async fn an_unreachable_receiver_is_unavailable_and_its_url_is_not_shown() {
    let (mut receiver, mut hook) = pair_as(|sink| sink.address += "?token=secret").await;
    receiver.kill().await;
    let Err(SinkError::Unavailable { reason, .. }) = hook.write(&batch(&[event(1, None)])).await
    else {
        panic!("nobody is there");
    };
    assert!(
        reason.contains("refused") && !reason.contains("secret"),
        "{reason}"
    );
}

#[tokio::test]
async fn authorities_are_read_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let mut sink = configured("https://127.0.0.1:1/");
    sink.ca_file = Some(file.clone());
    let mut hook = Webhook::new(sink);
    for text in [None, Some("no certificate")] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let Err(SinkError::Misconfigured { reason }) = hook.open(&claim(7)).await else {
            panic!("there is no authority in it");
        };
        assert!(reason.contains("ca.pem"), "{reason}");
    }
}
