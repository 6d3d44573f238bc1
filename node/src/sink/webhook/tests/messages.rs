//! Messages and their signatures.

use lockstep_tests::receiver::{Behaviour, Receiver, Rule};
use serde_json::json;

use super::*;
use crate::sink::check::check;
use crate::sink::{Change, CheckStep, Sinks};

#[tokio::test]
async fn an_event_has_the_json_form_of_watch_and_the_clusters_id() {
    let (receiver, mut hook) = pair().await;
    let mut timed_out = Event::clone(&event(2, Some("order/1")));
    timed_out.cause = Cause::Timeout { late_ms: 12 };
    timed_out.metadata = Metadata::default();
    let events = [
        event(1, Some("order/1")),
        Arc::new(timed_out),
        event(3, None),
    ];
    hook.write(&batch(&events)).await.unwrap();

    let mut accepted = receiver.accepted();
    accepted.sort_by(|a, b| a.id.cmp(&b.id));
    let ids: Vec<_> = accepted.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["c1.1-0", "c1.2-0", "c1.3-0"]);
    assert!(accepted.iter().all(|it| it.term == Some(7)));
    let moved = json!({
        "type": "instance.transitioned",
        "timestamp": "2023-11-14T22:13:20.001Z",
        "data": {
            "cluster": "c1", "revision": 1, "position": 0, "kind": "transitioned",
            "machine": "order", "id": "order/1", "version": 2, "from": "open", "to": "paid",
            "instance_revision": 1, "at": "2023-11-14T22:13:20.001Z", "cause": "request",
            "metadata": {"by": "ann"},
        },
    });
    assert_eq!(accepted[0].json(), moved);
    let late = accepted[1].json();
    assert_eq!(late["data"]["cause"], "timeout");
    assert_eq!(late["data"]["late_ms"], 12);
    assert_eq!(late["data"].get("metadata"), None);
    let defined = json!({
        "type": "machine.defined",
        "timestamp": "2023-11-14T22:13:20.003Z",
        "data": {
            "cluster": "c1", "revision": 3, "position": 0, "kind": "defined",
            "machine": "order", "version": 2, "instance_revision": 3,
            "at": "2023-11-14T22:13:20.003Z", "cause": "request", "metadata": {"by": "ann"},
        },
    });
    assert_eq!(accepted[2].json(), defined);

    let headers = receiver.last_headers();
    let version = concat!("lockstep/", env!("CARGO_PKG_VERSION"));
    assert_eq!(headers["user-agent"], version);
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["lockstep-term"], "7");
}

#[tokio::test]
async fn two_secrets_give_two_valid_signatures() {
    let receiver = Receiver::start(&[SECRET, OTHER_SECRET]).await.unwrap();
    let mut sink = configured(&receiver.url());
    let mut with_one = Webhook::new(sink.clone());
    with_one.open(&claim(7)).await.unwrap();
    let refused = with_one.write(&batch(&[event(1, None)])).await;
    assert!(
        matches!(refused, Err(SinkError::Misconfigured { .. })),
        "{refused:?}"
    );
    assert_eq!(receiver.counts().forged, 1);

    sink.secret = fixtures::hidden(&format!("{SECRET} {OTHER_SECRET}"));
    let mut with_both = Webhook::new(sink);
    with_both.open(&claim(7)).await.unwrap();
    with_both.write(&batch(&[event(1, None)])).await.unwrap();
    assert_eq!(receiver.accepted_count(), 1);
    let signatures = receiver.last_headers()["webhook-signature"].clone();
    let signatures: Vec<_> = signatures.to_str().unwrap().split(' ').collect();
    assert_eq!(signatures.len(), 2);
    assert!(
        signatures.iter().all(|it| it.starts_with("v1,")),
        "{signatures:?}"
    );
}

#[tokio::test]
async fn secrets_are_read_again_when_the_sink_opens() {
    let receiver = Receiver::start(&[OTHER_SECRET]).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let mut sink = configured(&receiver.url());
    sink.secret_file = Some(file.clone());
    let mut hook = Webhook::new(sink);
    let unreadable = hook.open(&claim(7)).await;
    assert!(
        matches!(unreadable, Err(SinkError::Misconfigured { .. })),
        "{unreadable:?}"
    );
    let closed = hook.write(&batch(&[event(1, None)])).await;
    assert!(
        matches!(closed, Err(SinkError::Unavailable { .. })),
        "{closed:?}"
    );

    std::fs::write(&file, "hunter2").unwrap();
    let Err(SinkError::Misconfigured { reason }) = hook.open(&claim(7)).await else {
        panic!("that is no secret");
    };
    assert!(
        reason.contains("whsec_") && !reason.contains("hunter2"),
        "{reason}"
    );

    for (secret, taken) in [(SECRET, false), (OTHER_SECRET, true)] {
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        hook.open(&claim(7)).await.unwrap();
        let written = hook.write(&batch(&[event(1, None)])).await;
        assert_eq!(written.is_ok(), taken, "{written:?}");
    }
}

#[tokio::test]
async fn a_backfill_sends_each_state_once_under_its_own_id() {
    let (receiver, mut hook) = pair().await;
    receiver.obey(
        Rule::new(Behaviour::status(503))
            .instance("triad/b")
            .times(1),
    );
    let page = instances(&["triad/a", "triad/b", "triad/v1.0"]);
    let failed = hook.backfill_page(&backfill(), &page).await;
    assert!(
        matches!(failed, Err(SinkError::Unavailable { .. })),
        "{failed:?}"
    );
    hook.open(&claim(7)).await.unwrap();
    hook.backfill_page(&backfill(), &page).await.unwrap();
    hook.finish_backfill(&backfill()).await.unwrap();

    let mut accepted = receiver.accepted();
    accepted.sort_by(|a, b| a.id.cmp(&b.id));
    let ids: Vec<_> = accepted.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "c1.40-seed.triad/a",
            "c1.40-seed.triad/b",
            "c1.40-seed.triad/v1%2E0"
        ]
    );
    assert_eq!(receiver.counts().repeated, 0);
    let first = json!({
        "type": "instance.seeded",
        "data": {
            "cluster": "c1", "revision": 40, "machine": "triad", "id": "triad/a", "version": 1,
            "state": "first", "instance_revision": 0, "created_at": null, "changed_at": null,
        },
    });
    assert_eq!(accepted[0].json(), first);

    receiver.obey(Rule::new(Behaviour::failure(422, "", "unknown")).instance("triad/a"));
    hook.backfill_page(&backfill(), &page[1..]).await.unwrap();
    let Err(SinkError::Rejected { event, reason }) = hook.backfill_page(&backfill(), &page).await
    else {
        panic!("it was refused");
    };
    assert_eq!(event, None);
    assert!(
        reason.contains("triad/a") && reason.contains("unknown"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_replayed_event_keeps_its_id() {
    let (receiver, mut hook) = pair().await;
    let poisoned = event(5, Some("order/1"));
    receiver.obey(Rule::new(Behaviour::status(422)).times(2));
    receiver.obey(Rule::new(Behaviour::status(500)).times(1));
    let refused = |it| matches!(it, Err(SinkError::Rejected { event: Some(event), .. }) if event == cursor(5));
    assert!(refused(
        hook.write(&batch(std::slice::from_ref(&poisoned))).await
    ));
    assert!(refused(hook.replay(&poisoned, None).await));
    // It stays a dead letter: the events after it do not wait for it.
    assert!(refused(hook.replay(&poisoned, None).await));
    hook.replay(&poisoned, None).await.unwrap();
    assert_eq!(receiver.accepted()[0].id, "c1.5-0");
}

#[tokio::test]
async fn a_replayed_state_is_sent_unchanged_unless_the_instance_has_changed() {
    let (receiver, mut hook) = pair().await;
    receiver.obey(Rule::new(Behaviour::status(422)).times(1));
    let page = instances(&["triad/a"]);
    let refused = hook.backfill_page(&backfill(), &page).await;
    assert!(
        matches!(refused, Err(SinkError::Rejected { event: None, .. })),
        "{refused:?}"
    );
    let id = &page[0].id;
    let dead_letter = Event::seeded((backfill().revision, backfill().at), 0, id, &built_in());
    let later = Current {
        revision: GlobalRevision(90),
        ..page[0].clone()
    };
    let changed = Current {
        instance_revision: Revision(1),
        ..later.clone()
    };
    for told_since in [None, Some(Change::Is(changed))] {
        hook.replay(&dead_letter, told_since).await.unwrap();
    }
    assert_eq!(receiver.accepted_count(), 0);
    hook.replay(&dead_letter, Some(Change::Is(later)))
        .await
        .unwrap();
    hook.open(&claim(8)).await.unwrap();
    hook.backfill_page(&backfill(), &page).await.unwrap();
    let accepted = receiver.accepted();
    assert_eq!(accepted[0].id, "c1.40-seed.triad/a");
    assert_eq!(accepted[0].json()["type"], "instance.seeded");
    let counts = receiver.counts();
    assert_eq!((counts.repeated, counts.altered), (1, 0));
}

#[tokio::test]
async fn a_check_sends_several_messages_and_repeats_one() {
    let (receiver, mut hook) = pair().await;
    let steps = check(&mut hook).await;
    let names: Vec<_> = steps.iter().map(|it| it.step.as_str()).collect();
    assert_eq!(names, ["connect", "insert 3", "find one", "drop"]);
    let answers: Vec<_> = steps.iter().map(said).collect();
    assert!(steps.iter().all(|it| it.outcome().is_ok()), "{steps:?}");
    assert_eq!(answers[1].matches("200 in ").count(), 3, "{answers:?}");
    assert_eq!(answers[2].matches("200 in ").count(), 1, "{answers:?}");
    assert!(steps[1].took_us > 0);

    let accepted = receiver.accepted();
    let times: Vec<_> = accepted.iter().map(|it| it.times).collect();
    assert_eq!(times, [1, 2, 1]);
    assert_eq!(
        receiver.counts().altered,
        0,
        "a repetition is equal in every byte"
    );
    for accepted in accepted {
        assert_eq!(accepted.json()["type"], "lockstep.check");
        assert!(!accepted.id.contains('.'), "{}", accepted.id);
    }

    receiver.obey(Rule::new(Behaviour::failure(403, "", "not you")));
    let steps = check(&mut hook).await;
    assert_eq!(
        steps.len(),
        2,
        "nothing follows a step that failed: {steps:?}"
    );
    let said = said(&steps[1]);
    assert!(said.contains("403") && said.contains("not you"), "{said}");
}

#[tokio::test]
async fn a_check_ends_with_the_step_that_gets_no_answer_however_long_the_timeout() {
    let receiver = Receiver::start(&[SECRET]).await.unwrap();
    receiver.obey(Rule::new(Behaviour::Stall));
    let mut sink = configured(&receiver.url());
    sink.timeout = Duration::from_secs(300);
    let steps = Sinks::lone(&[sink]).check_destination("hook").await;
    let steps = steps.unwrap();
    let names: Vec<_> = steps.iter().map(|it| it.step.as_str()).collect();
    assert_eq!(names, ["connect", "insert 3"]);
    let said = said(&steps[1]);
    assert!(said.contains("no answer within 10s"), "{said}");
}

/// What a step says.
fn said(step: &CheckStep) -> &str {
    step.outcome().unwrap_or_else(|failed| failed)
}
