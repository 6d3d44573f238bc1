//! Every call about sinks, against a scripted server.

use std::time::Duration;

use futures::StreamExt;
use lockstep_client::{
    CHECK_TIMEOUT_DEFAULT, DeadLetters, DeadLettersCall, Error, EventCursor, GlobalRevision,
    SeedProgress, SinkPhase,
};
use lockstep_proto::v1;
use lockstep_scripted::sinks::{
    checked, following, letter, letters, listed, unknown, unknown_letter,
};
use lockstep_scripted::{Answer, Node, closed_port};

use crate::{client, client_within};

fn cursor(revision: u64, position: u32) -> EventCursor {
    EventCursor {
        revision: GlobalRevision(revision),
        position,
    }
}

fn code(error: &Error) -> (&str, Vec<String>) {
    match error {
        Error::Rejected(rejected) => (&rejected.code, rejected.known.clone()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_sinks_status_is_read_in_full() {
    let node = Node::start([]).await;
    node.on(|_: v1::ListSinksRequest| {
        let seeding = v1::SinkStatus {
            phase: v1::SinkPhase::Seeding.into(),
            seeding: Some(v1::SeedProgress { done: 3, total: 9 }),
            ..following("stock")
        };
        let newer = v1::SinkStatus {
            phase: 99,
            ..following("zoo")
        };
        Ok(listed([following("reports"), seeding, newer]))
    });
    let client = client([&node.address]);
    let list = client.sinks().await.expect("listed");
    assert_eq!(list.node, "node2");
    let phases: Vec<_> = list.sinks.iter().map(|it| it.phase()).collect();
    let expected = [
        SinkPhase::Following,
        SinkPhase::Seeding,
        SinkPhase::Unspecified,
    ];
    assert_eq!(phases, expected);
    let progress = SeedProgress { done: 3, total: 9 };
    assert_eq!(list.sinks[1].seeding, Some(progress));
    let (sink, at) = client.sink("reports").await.expect("it is there");
    assert_eq!(at, "node2");
    assert_eq!(
        (sink.kind.as_str(), &sink.follows[..]),
        ("postgres", &["order".to_owned()][..])
    );
    assert_eq!(sink.cursor.map(EventCursor::from), Some(cursor(1204, 2)));
    assert_eq!(sink.seeded_revision, Some(17));
    assert_eq!((sink.lag_events, sink.lag_ms), (3, 250));
    assert_eq!(sink.written_at_ms, Some(1_700_000_001_000));
    let missing = client.sink("report").await.expect_err("it is not there");
    let known = ["reports", "stock", "zoo"].map(str::to_owned).to_vec();
    assert_eq!(code(&missing), ("unknown_sink", known));
}

#[tokio::test]
async fn a_check_has_longer_than_the_clients_timeout_and_all_of_it_at_one_node() {
    use v1::check_step::Result::{Failed, Seen};
    let node = Node::start([]).await;
    node.on(|_: v1::CheckSinkRequest| {
        std::thread::sleep(Duration::from_millis(300));
        Ok(checked(Seen("3 rows".to_owned())))
    });
    let other = closed_port();
    let client = client_within([&node.address, &other], 100);
    let check = client.check_sink("reports", CHECK_TIMEOUT_DEFAULT).await;
    let check = check.expect("it is done");
    assert_eq!((check.failed(), check.node.as_str()), (None, "node2"));
    assert_eq!(check.steps[0].took_us, 1500);
    assert_eq!(check.steps[1].outcome(), Ok("3 rows"));
    let sent = node.requests()[0].timeout.expect("the timeout is sent");
    assert!(
        sent > CHECK_TIMEOUT_DEFAULT - Duration::from_secs(10),
        "{sent:?}"
    );

    node.on(|_: v1::CheckSinkRequest| Ok(checked(Failed("no rights".to_owned()))));
    let check = client.check_sink("reports", CHECK_TIMEOUT_DEFAULT).await;
    let check = check.expect("a step that fails is no error");
    let failed = check.failed().map(|step| step.step.as_str());
    assert_eq!(failed, Some("insert 3"));
}

#[tokio::test]
async fn a_check_without_a_step_proves_nothing() {
    let node = Node::start([]).await;
    node.on(|_: v1::CheckSinkRequest| Ok(v1::CheckSinkResponse::default()));
    let client = client([&node.address]);
    let check = client.check_sink("reports", CHECK_TIMEOUT_DEFAULT).await;
    assert!(matches!(check, Err(Error::BadAnswer { .. })), "{check:?}");
}

#[tokio::test]
async fn dead_letters_come_page_by_page() {
    let node = Node::start([]).await;
    node.on(|request: v1::ListDeadLettersRequest| {
        Ok(match request.cursor.as_deref() {
            None => letters(
                [letter((7, 0), "too long"), letter((7, 1), "too long")],
                Some("7-1"),
            ),
            Some("7-1") => letters([letter((9, 0), "no such column")], None),
            other => panic!("{other:?}"),
        })
    });
    let client = client([&node.address]);
    let mut all = client.all_dead_letters(DeadLettersCall::of("reports").limit(2));
    let mut cursors = vec![];
    while let Some(letter) = all.next().await {
        let letter = letter.expect("a letter");
        assert_eq!(
            (letter.attempts, letter.rejected_at.0),
            (2, 1_700_000_002_000)
        );
        assert_eq!(letter.replay_wanted, letter.event.position == 1);
        cursors.push(letter.event.cursor());
    }
    assert_eq!(cursors, [cursor(7, 0), cursor(7, 1), cursor(9, 0)]);
    let asked = node.asked::<v1::ListDeadLettersRequest>();
    assert!(
        asked
            .iter()
            .all(|it| it.sink == "reports" && it.limit == Some(2))
    );
}

#[tokio::test]
async fn a_change_says_which_letters_and_how_many_there_were() {
    let node = Node::start([]).await;
    node.on(|request: v1::ReplayDeadLettersRequest| {
        use v1::replay_dead_letters_request::Which;
        use v1::replay_dead_letters_response::Outcome;
        let count = if request.which == Some(Which::All(true)) {
            3
        } else {
            1
        };
        let outcome = Some(Outcome::Marked(v1::DeadLettersMarked { count }));
        Ok(v1::ReplayDeadLettersResponse { outcome })
    });
    node.on(|_: v1::DiscardDeadLettersRequest| {
        use v1::discard_dead_letters_response::Outcome;
        let outcome = Some(Outcome::Rejected(unknown_letter()));
        Ok(v1::DiscardDeadLettersResponse { outcome })
    });
    let client = client([&node.address]);
    let one = DeadLetters::One(cursor(7, 2));
    assert_eq!(
        client.replay_dead_letters("reports", one).await.ok(),
        Some(1)
    );
    let all = client
        .replay_dead_letters("reports", DeadLetters::All)
        .await;
    assert_eq!(all.ok(), Some(3));
    let asked = node.asked::<v1::ReplayDeadLettersRequest>();
    let which: Vec<_> = asked.iter().filter_map(|it| it.which).collect();
    let event =
        v1::replay_dead_letters_request::Which::Event(lockstep_scripted::watching::cursor(7, 2));
    let all = v1::replay_dead_letters_request::Which::All(true);
    assert_eq!(which, [event, all]);
    let rejected = client.discard_dead_letters("reports", one).await;
    let rejected = rejected.expect_err("there is none");
    assert_eq!(code(&rejected), ("unknown_dead_letter", vec![]));
}

#[tokio::test]
async fn an_unknown_sink_is_rejected_with_those_that_are_known() {
    let node = Node::start([]).await;
    node.on(|_: v1::ReseedSinkRequest| Err(unknown()));
    let rejected = client([&node.address]).reseed_sink("report").await;
    let rejected = rejected.expect_err("there is none");
    let known = ["mail", "reports"].map(str::to_owned).to_vec();
    assert_eq!(code(&rejected), ("unknown_sink", known));
}

#[tokio::test]
async fn a_change_that_was_not_answered_may_have_been_made_and_is_asked_for_again() {
    let reseeded = |_: v1::ReseedSinkRequest| {
        use v1::reseed_sink_response::Outcome;
        let sink = "reports".to_owned();
        let outcome = Some(Outcome::Requested(v1::SeedRequested { sink }));
        Ok(v1::ReseedSinkResponse { outcome })
    };
    let node = Node::start([Answer::OutcomeUnknown, Answer::Unavailable, Answer::Done]).await;
    node.on(reseeded);
    let asked = client([&node.address]).reseed_sink("reports").await;
    asked.expect("it is asked for until it is answered");
    assert_eq!(node.requests().len(), 3);

    let node = Node::start([Answer::Hang]).await;
    let lost = client_within([&node.address], 2000)
        .reseed_sink("reports")
        .await;
    let error = lost.expect_err("no node answers");
    assert!(
        matches!(error, Error::OutcomeUnknown { key: None, .. }),
        "{error}"
    );
    assert_eq!(
        (error.code(), error.is_retryable()),
        ("outcome_unknown", true)
    );

    // The second response ends the call before its deadline: it asks for a longer pause than the time left.
    let overloaded = Answer::Overloaded {
        retry_after_ms: 60_000,
    };
    let node = Node::start([Answer::Unavailable, overloaded]).await;
    let rejected = client([&node.address]).reseed_sink("reports").await;
    let error = rejected.expect_err("there is no leader");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}
