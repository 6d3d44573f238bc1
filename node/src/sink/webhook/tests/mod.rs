//! A receiver in this process that fails, stalls, cuts connections and reorders.

mod addresses;
mod deliveries;
mod messages;

use std::sync::Arc;
use std::time::Duration;

use lockstep_machine::{
    Cause, Event, EventCursor, EventKind, GlobalRevision, Instance, Limits, Metadata, Revision,
    State, Version,
};
use lockstep_tests::receiver::Receiver;

use super::Webhook;
use crate::config::{Sink, SinkKind};
use crate::sink::tests::fixtures::{self, claim};
use crate::sink::{Backfill, Batch, Checkpoint, Current, Destination, SinkError, StoredCheckpoint};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAAA";
const OTHER_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8G";
/// Long enough for any answer on loopback.
const PATIENT: Duration = Duration::from_secs(20);

fn configured(address: &str) -> Sink {
    Sink {
        name: "hook".parse().unwrap(),
        timeout: PATIENT,
        retry_max: Duration::from_secs(30),
        ..fixtures::config(SinkKind::Webhook, address)
    }
}

/// A receiver, and a sink for it with changed settings.
async fn pair_as(set: impl FnOnce(&mut Sink)) -> (Receiver, Webhook) {
    let receiver = Receiver::start(&[SECRET]).await.unwrap();
    let mut sink = configured(&receiver.url());
    set(&mut sink);
    let mut hook = Webhook::new(sink);
    assert_eq!(
        hook.open(&claim(7)).await,
        Ok(StoredCheckpoint::Unsupported)
    );
    (receiver, hook)
}

async fn pair() -> (Receiver, Webhook) {
    pair_as(|_| {}).await
}

/// The event at a revision: of an instance, or of a definition.
fn event(revision: u64, instance: Option<&str>) -> Arc<Event> {
    let id = instance.unwrap_or("order/none");
    let moved = Event {
        version: Version(2),
        from: Some(fixtures::state("open")),
        metadata: Metadata::new([("by", "ann")]).unwrap(),
        ..fixtures::event(revision, id, EventKind::Transitioned, Some("paid"))
    };
    let defined = |moved| Event {
        kind: EventKind::Defined,
        name: None,
        from: None,
        to: None,
        ..moved
    };
    Arc::new(match instance {
        Some(_) => moved,
        None => defined(moved),
    })
}

/// `rounds` events of each instance, in turn.
fn changes(instances: &[&str], rounds: usize) -> Vec<Arc<Event>> {
    let all = std::iter::repeat_n(instances, rounds).flatten();
    (1..).zip(all).map(|(at, it)| event(at, Some(it))).collect()
}

fn cursor(revision: u64) -> EventCursor {
    fixtures::at(revision, 0)
}

/// A batch of consecutive events.
fn batch(events: &[Arc<Event>]) -> Batch<'_> {
    let before = events.first().unwrap().revision.0 - 1;
    let from = Checkpoint {
        cursor: EventCursor::after(GlobalRevision(before)),
        seeded: GlobalRevision(0),
    };
    fixtures::batch(from, events)
}

/// Writes a batch as a session does: opens again after an error, and leaves out a rejected event. The
/// rejected events, and the errors.
async fn write_all(
    hook: &mut Webhook,
    events: &[Arc<Event>],
) -> (Vec<EventCursor>, Vec<SinkError>) {
    let whole = batch(events);
    let (mut refused, mut errors) = (vec![], vec![]);
    let mut rest = events.to_vec();
    for _ in 0..200 {
        let part = Batch {
            events: &rest,
            ..whole
        };
        let error = match hook.write(&part).await {
            Ok(()) => return (refused, errors),
            Err(error) => error,
        };
        match &error {
            SinkError::Rejected {
                event: Some(event), ..
            } => {
                refused.push(*event);
                rest.retain(|it| it.cursor() != *event);
            }
            _ => assert_eq!(
                hook.open(&claim(7)).await,
                Ok(StoredCheckpoint::Unsupported)
            ),
        }
        errors.push(error);
    }
    panic!("it is never done: {:?}", errors.last());
}

/// The receiver accepted the events of each instance, in order.
fn assert_exact(receiver: &Receiver, events: &[Arc<Event>]) {
    let instances = receiver.by_instance();
    for (instance, accepted) in &instances {
        let ids: Vec<_> = accepted.iter().map(|it| it.id.clone()).collect();
        let is_of = |it: &&Arc<Event>| it.instance().is_some_and(|id| id.to_string() == *instance);
        let wanted: Vec<_> = events.iter().filter(is_of).map(|it| id_of(it)).collect();
        assert_eq!(ids, wanted, "{instance}");
    }
    assert_eq!(receiver.accepted_count(), events.len());
    assert_eq!(receiver.counts().overtaking, 0);
    assert_eq!(receiver.counts().forged, 0);
    assert_eq!(receiver.counts().altered, 0);
}

fn id_of(event: &Event) -> String {
    format!("c1.{}-{}", event.revision.0, event.position)
}

fn backfill() -> Backfill {
    fixtures::backfill(40, None, 0)
}

/// The built-in instance.
fn built_in() -> Instance {
    let state = State::new(Limits::default());
    let built_in = state.instance(&"triad/default".parse().unwrap());
    built_in.unwrap().clone()
}

/// The same under several names, as of the backfill.
fn instances(names: &[&str]) -> Vec<Current> {
    let built_in = built_in();
    let revision = backfill().revision;
    let named = |name: &&str| Current::of(&name.parse().unwrap(), &built_in, revision);
    names.iter().map(named).collect()
}
