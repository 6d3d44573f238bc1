//! Order, repetition and failures.

use std::time::Instant;

use lockstep_tests::receiver::{Behaviour, Rule};

use super::*;

const INSTANCES: [&str; 10] = [
    "order/a", "order/b", "order/c", "order/d", "order/e", "order/f", "order/g", "order/h",
    "order/i", "order/j",
];

#[tokio::test]
async fn events_of_an_instance_keep_their_order_while_several_are_sent_at_once() {
    let (receiver, mut hook) = pair().await;
    let at_most = Duration::from_millis(8);
    receiver.obey(Rule::new(Behaviour::Slow { at_most }));
    let events = changes(&INSTANCES, 10);
    assert_eq!(write_all(&mut hook, &events).await, (vec![], vec![]));
    assert_exact(&receiver, &events);
    assert_eq!(receiver.counts().requests, events.len());
    let at_once = receiver.counts().at_once_max;
    assert!((2..=8).contains(&at_once), "{at_once} at once");
    let order: Vec<_> = receiver.accepted().into_iter().map(|it| it.id).collect();
    let sent: Vec<_> = events.iter().map(|it| id_of(it)).collect();
    assert_ne!(
        order, sent,
        "those of several instances overtook each other"
    );
}

#[tokio::test]
async fn what_was_accepted_is_not_sent_again_when_others_fail() {
    let (receiver, mut hook) = pair().await;
    let at_most = Duration::from_millis(3);
    for (times, instance) in (1..).zip(INSTANCES) {
        let failing = Rule::new(Behaviour::status(503)).instance(instance);
        receiver.obey(failing.times(times % 3));
    }
    receiver.obey(Rule::new(Behaviour::status(429)).id("c1.55-0").times(4));
    receiver.obey(Rule::new(Behaviour::Slow { at_most }));
    let events = changes(&INSTANCES, 10);
    let (refused, errors) = write_all(&mut hook, &events).await;
    assert_eq!(refused, vec![]);
    assert!(errors.len() >= 4, "{errors:?}");
    assert_exact(&receiver, &events);
    assert_eq!(receiver.counts().repeated, 0);
}

#[tokio::test]
async fn an_event_is_sent_again_after_an_incomplete_answer() {
    let (receiver, mut hook) = pair().await;
    for id in ["c1.3-0", "c1.14-0", "c1.27-0"] {
        receiver.obey(Rule::new(Behaviour::Cut).id(id).times(1));
    }
    let events = changes(&INSTANCES, 3);
    let (refused, errors) = write_all(&mut hook, &events).await;
    assert_eq!(refused, vec![]);
    let broke = |it: &SinkError| matches!(it, SinkError::Unavailable { .. });
    assert!(!errors.is_empty() && errors.iter().all(broke), "{errors:?}");
    assert_exact(&receiver, &events);
    assert_eq!(receiver.counts().repeated, 3);
}

#[tokio::test]
async fn a_batch_may_be_delivered_in_parts_and_without_its_beginning() {
    let (receiver, mut hook) = pair().await;
    let events = changes(&["order/a", "order/b"], 4);
    receiver.obey(Rule::new(Behaviour::status(503)).id("c1.7-0").times(1));
    assert!(hook.write(&batch(&events)).await.is_err());
    hook.write(&batch(&events[..3])).await.unwrap();
    hook.write(&batch(&events[3..])).await.unwrap();
    assert_exact(&receiver, &events);
    assert_eq!(receiver.counts().repeated, 0);

    hook.write(&batch(&events)).await.unwrap();
    assert_eq!(receiver.counts().repeated, 8, "it went back: all again");
    hook.open(&claim(8)).await.unwrap();
    hook.write(&batch(&events)).await.unwrap();
    assert_eq!(
        receiver.counts().repeated,
        16,
        "others may have been at work"
    );
}

#[tokio::test]
async fn a_rejected_event_is_named_and_each_is_sent_only_once() {
    let (receiver, mut hook) = pair().await;
    let refusal = Behaviour::failure(422, "", "what is\nthis?");
    for id in ["c1.4-0", "c1.12-0", "c1.14-0"] {
        receiver.obey(Rule::new(refusal.clone()).id(id));
    }
    let events = changes(&INSTANCES, 2);
    let (refused, errors) = write_all(&mut hook, &events).await;
    assert_eq!(refused, [cursor(4), cursor(12), cursor(14)]);
    let reason = errors[0].to_string();
    assert!(
        reason.contains("422") && reason.contains("what is\\nthis?"),
        "{reason}"
    );
    for id in ["c1.4-0", "c1.12-0", "c1.14-0"] {
        assert_eq!(receiver.came(id), 1, "{id}");
    }
    assert_eq!(receiver.accepted_count(), events.len() - 3);
    assert_eq!(receiver.counts().repeated, 0);
}

#[tokio::test]
async fn a_rejected_event_that_is_delivered_again_is_sent_again() {
    let (receiver, mut hook) = pair().await;
    receiver.obey(Rule::new(Behaviour::status(422)).times(1));
    let events = [event(1, Some("order/a"))];
    assert!(hook.write(&batch(&events)).await.is_err());
    hook.write(&batch(&events)).await.unwrap();
    assert_eq!(receiver.accepted_count(), 1);
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_not_waited_for_in_every_lane() {
    let short = Duration::from_millis(200);
    let (receiver, mut hook) = pair_as(|sink| {
        sink.timeout = short;
        sink.concurrency_max = 2;
    })
    .await;
    receiver.obey(Rule::new(Behaviour::Stall));
    let events = changes(&INSTANCES, 1);
    let began = Instant::now();
    let Err(SinkError::Unavailable { reason, .. }) = hook.write(&batch(&events)).await else {
        panic!("it never answers");
    };
    assert!(reason.contains("200ms"), "{reason}");
    assert!(began.elapsed() >= short);
    assert!(receiver.counts().requests <= 4, "{:?}", receiver.counts());
}

#[tokio::test]
async fn the_pause_that_a_receiver_requests_is_reported() {
    let (receiver, mut hook) = pair().await;
    let events = changes(&INSTANCES[..3], 1);
    receiver.obey(Rule::new(Behaviour::full("3")).id("c1.1-0").times(1));
    receiver.obey(Rule::new(Behaviour::full("9")).id("c1.2-0").times(1));
    let first = hook.write(&batch(&events)).await;
    receiver.obey(Rule::new(Behaviour::full("86400")));
    let second = hook.write(&batch(&events)).await;
    for (result, wanted) in [(first, 9), (second, 30)] {
        let Err(SinkError::Unavailable {
            reason,
            retry_after,
            ..
        }) = result
        else {
            panic!("{result:?}");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(wanted)));
        assert!(reason.contains("no room left"), "{reason}");
    }
}

#[tokio::test]
async fn an_event_that_always_fails_while_others_are_accepted_is_rejected() {
    let (receiver, mut hook) = pair_as(|sink| sink.concurrency_max = 1).await;
    receiver.obey(Rule::new(Behaviour::status(500)).instance("order/a"));
    let events = changes(&INSTANCES, 2);
    let (refused, errors) = write_all(&mut hook, &events).await;
    assert_eq!(refused, [cursor(1), cursor(11)]);
    assert_eq!(receiver.came("c1.1-0"), 3);
    assert_eq!(receiver.came("c1.11-0"), 3);
    assert_eq!(errors.len(), 6, "{errors:?}");
    assert!(errors[2].to_string().contains("3 attempts"), "{errors:?}");
    assert_eq!(receiver.accepted_count(), events.len() - 2);
    // Before each is rejected, the sink tests whether the receiver accepts anything.
    assert_eq!(receiver.counts().repeated, 2);
}

#[tokio::test]
async fn nothing_is_rejected_once_a_receiver_stops_accepting() {
    let (receiver, mut hook) = pair_as(|sink| sink.concurrency_max = 1).await;
    receiver.obey(Rule::new(Behaviour::status(500)).instance("order/a"));
    let events = changes(&INSTANCES, 2);
    // Failed lanes go last the second time.
    for _ in 0..2 {
        assert!(hook.write(&batch(&events)).await.is_err());
    }
    assert_eq!(receiver.accepted_count(), events.len() - 2);
    receiver.obey(Rule::new(Behaviour::status(500)));
    for _ in 0..10 {
        hook.open(&claim(7)).await.unwrap();
        let failed = hook.write(&batch(&events)).await;
        assert!(
            matches!(failed, Err(SinkError::Unavailable { .. })),
            "{failed:?}"
        );
    }
    receiver.behave();
    hook.write(&batch(&events)).await.unwrap();
    assert_exact(&receiver, &events);
}

#[tokio::test]
async fn while_nothing_is_accepted_nothing_is_rejected() {
    let (receiver, mut hook) = pair().await;
    let events = changes(&INSTANCES, 1);
    hook.write(&batch(&events)).await.unwrap();
    receiver.obey(Rule::new(Behaviour::status(500)));
    let more: Vec<_> = (11..)
        .zip(INSTANCES)
        .map(|(at, it)| event(at, Some(it)))
        .collect();
    for _ in 0..10 {
        let failed = hook.write(&batch(&more)).await;
        assert!(
            matches!(failed, Err(SinkError::Unavailable { .. })),
            "{failed:?}"
        );
        hook.open(&claim(7)).await.unwrap();
    }
    receiver.behave();
    hook.write(&batch(&more)).await.unwrap();
    assert_eq!(receiver.accepted_count(), 20);
}

#[tokio::test]
async fn a_receiver_that_crashes_and_returns_has_everything_in_order() {
    let (mut receiver, mut hook) = pair().await;
    let events = changes(&INSTANCES, 20);
    let at_most = Duration::from_millis(4);
    receiver.obey(Rule::new(Behaviour::Slow { at_most }));
    {
        let whole = batch(&events);
        let mut writing = hook.write(&whole);
        let half_way = async {
            while receiver.accepted_count() < 60 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            ended = &mut writing => panic!("{ended:?} too early"),
            () = half_way => receiver.kill().await,
        }
        let broke = tokio::time::timeout(PATIENT, writing).await.unwrap();
        assert!(
            matches!(broke, Err(SinkError::Unavailable { .. })),
            "{broke:?}"
        );
    }
    assert!(hook.write(&batch(&events)).await.is_err());
    receiver.start_again().await.unwrap();
    assert_eq!(write_all(&mut hook, &events).await, (vec![], vec![]));
    assert_exact(&receiver, &events);
}
