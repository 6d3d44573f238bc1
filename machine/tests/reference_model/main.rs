//! Compares the state machine with a model that is simple enough to be obviously correct.
//!
//! A million random requests go to both: every command, executed, repeated, reordered, expired,
//! under reused keys, with unknown names and false expectations, in transactions that fail, for
//! sinks of several terms, under limits that change, while time also goes backwards. Every reply and every event must be the
//! same. Every so often the state is written down and read back, and both go on side by side until
//! the next time, when their hashes must be equal.

// A refusal is the common answer here, not a rare error: as in the crate itself.
#![allow(clippy::result_large_err)]

mod machines;
mod model;
mod requests;
mod sink_traffic;
mod sinks;
mod traffic;

use std::collections::BTreeMap;

use lockstep_machine::*;
use model::Model;
use requests::Requests;
use traffic::{LIMITS, Traffic};

const OPERATIONS: usize = 1_000_000;

fn restore(records: impl Iterator<Item = Vec<u8>>) -> State {
    let mut restore = Restore::new();
    for record in records {
        restore.push(&record).unwrap();
    }
    restore.finish().unwrap()
}

fn assert_alike(state: &State, requests: &Requests) {
    let model = &requests.model;
    assert_eq!(
        (state.now().0, state.revision().0),
        (model.now, model.revision)
    );
    assert_eq!(state.limits(), model.limits);
    let replies = requests
        .clients
        .iter()
        .map(|client| client.replies.len())
        .sum();
    assert_eq!(state.remembered(), (requests.keys.len(), replies));
    assert_eq!(state.instance_count(), model.places.len() as u64);

    let instances: Vec<_> = state.instances().collect();
    assert_eq!(instances.len(), model.places.len());
    for ((id, it), (expected_id, place)) in instances.into_iter().zip(&model.places) {
        assert_eq!(id, *expected_id);
        assert_eq!(
            (it.version.0, &it.state, it.revision.0),
            (place.version, &place.state, place.revision)
        );
        assert_eq!(
            (it.created_at.0, it.changed_at.0),
            (place.created, place.changed)
        );
        assert_eq!(it.deadline.map(|at| at.0), place.deadline);
        assert_eq!(it.metadata, place.metadata);
        assert!(
            it.history().map(|event| &**event).eq(&place.history),
            "history of {id}"
        );
    }
    assert_definitions_alike(state, model);
    assert_events_alike(state, model);
    sinks::assert_alike(state, model);

    let mut due: Vec<_> = model
        .places
        .iter()
        .filter_map(|(id, it)| Some((it.deadline?, id.clone())))
        .collect();
    due.sort();
    assert_eq!(
        state.next_deadline().map(|at| at.0),
        due.first().map(|it| it.0)
    );
    due.retain(|(deadline, _)| *deadline <= model.now);
    let listed = state
        .due(state.now(), 100)
        .into_iter()
        .map(|it| (it.deadline.0, it.instance));
    assert_eq!(listed.collect::<Vec<_>>(), due);
}

fn assert_definitions_alike(state: &State, model: &Model) {
    let mut names: Vec<_> = model
        .definitions
        .keys()
        .map(|(name, _)| name.clone())
        .collect();
    names.dedup();
    assert_eq!(
        state.machines().map(|it| it.0.clone()).collect::<Vec<_>>(),
        names
    );
    for name in names {
        let expected = model.definitions.iter().filter(|((it, _), _)| *it == name);
        let expected = expected.map(|((_, version), it)| (Version(*version), &**it));
        assert!(state.versions(&name).eq(expected), "versions of {name}");
        let mut totals = Totals {
            versions: state
                .versions(&name)
                .map(|(version, _)| (version, 0))
                .collect(),
            ..Totals::default()
        };
        for place in model
            .places
            .iter()
            .filter(|(id, _)| id.machine == name)
            .map(|it| it.1)
        {
            totals.instances += 1;
            *totals.states.entry(place.state.clone()).or_default() += 1;
            *totals.versions.entry(Version(place.version)).or_default() += 1;
        }
        assert_eq!(state.totals(&name), Some(totals));
    }
}

fn assert_events_alike(state: &State, model: &Model) {
    let (revision, position) = (GlobalRevision(model.events_gone.0), model.events_gone.1);
    let all = state
        .events_after(EventCursor { revision, position }, usize::MAX)
        .unwrap();
    assert!(
        all.iter().map(|event| &**event).eq(&model.events),
        "the recent events"
    );
    assert_eq!(state.oldest_event().0, model.events_gone.0 + 1);
    if model.events_gone.0 > 0 {
        assert!(state.events_after(EventCursor::default(), 1).is_err());
    }
    for (count, event) in model.events.iter().rev().enumerate() {
        assert_eq!(state.events_behind(event.cursor()), count as u64);
        let next = model.events.iter().rev().take(count).next_back();
        let behind = state.oldest_behind(event.cursor());
        assert_eq!(behind.map(|it| &**it), next);
    }
}

/// A random list, against a filter over everything.
fn assert_lists_alike(state: &State, model: &Model, traffic: &mut Traffic) {
    let ids: Vec<_> = model.places.keys().cloned().collect();
    let place = &model.places[&traffic.pick(&ids)];
    let mut query = ListQuery {
        machine: traffic.chance(50).then(|| traffic.pick(&ids).machine),
        state: traffic.chance(50).then(|| place.state.clone()),
        prefix: if traffic.chance(30) {
            "a".to_owned()
        } else {
            String::new()
        },
        label: traffic
            .chance(20)
            .then(|| ("who".to_owned(), "ann".to_owned())),
        after: traffic.chance(30).then(|| traffic.pick(&ids)),
        limit: traffic.pick(&[1, 2, 5, 100]),
        scan_max: traffic.pick(&[1, 3, 100]),
    };
    let wanted = |(id, place): &(&InstanceId, &model::Place)| {
        query.machine.as_ref().is_none_or(|it| *it == id.machine)
            && query.state.as_ref().is_none_or(|it| *it == place.state)
            && id.name().starts_with(&query.prefix)
            && query
                .label
                .as_ref()
                .is_none_or(|(key, value)| place.metadata.get(key) == Some(value))
            && query.after.as_ref().is_none_or(|it| it < *id)
    };
    let expected: Vec<_> = model
        .places
        .iter()
        .filter(wanted)
        .map(|(id, _)| id.clone())
        .collect();
    let mut listed = vec![];
    loop {
        let page = state.list(&query);
        assert!(page.instances.len() <= query.limit.min(query.scan_max));
        listed.extend(page.instances.into_iter().map(|(id, _)| id));
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert_eq!(listed, expected, "{query:?}");
}

#[test]
fn a_million_random_requests_get_the_replies_of_a_plain_model() {
    let seed = match std::env::var("LOCKSTEP_TEST_SEED") {
        Ok(seed) => seed.parse().expect("LOCKSTEP_TEST_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("run again with LOCKSTEP_TEST_SEED={seed}");

    let mut traffic = Traffic::new(seed);
    let mut state = State::new(LIMITS);
    let mut requests = Requests::new(Model::new(LIMITS, &state));
    let mut twin = state.clone();
    let (mut kept, mut kept_hash) = (state.clone(), state.hash());
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let (mut operations, mut batches, mut restores) = (0, 0, 0);

    while operations < OPERATIONS {
        let batch = traffic.batch(&requests.model);
        let replies = state.apply(&batch);
        let expected = requests.apply(&batch);
        assert_eq!(
            replies, expected,
            "seed {seed}, after {operations}: {batch:?}"
        );
        assert_eq!(
            twin.apply(&batch),
            replies,
            "seed {seed}, after {operations}: {batch:?}"
        );
        operations += batch.requests.len();
        batches += 1;
        for reply in replies {
            *seen.entry(reply.outcome.kind().to_owned()).or_default() += 1;
            *seen.entry("replayed".to_owned()).or_default() += usize::from(reply.replayed);
            if let Outcome::Expired(expired) = reply.outcome {
                *seen.entry("fired".to_owned()).or_default() += expired.fired as usize;
            }
        }

        if batches % 100 == 0 {
            assert_alike(&state, &requests);
            assert_lists_alike(&state, &requests.model, &mut traffic);
            assert_eq!(twin.hash(), state.hash(), "seed {seed}, after {operations}");
            twin = state;
            state = restore(twin.records());
            assert!(
                state.records().eq(twin.records()),
                "seed {seed}, after {operations}"
            );
            assert_alike(&state, &requests);
            restores += 1;

            // The clone shares structure with the state that was changed since; it must be unchanged.
            assert_eq!(kept.hash(), kept_hash, "seed {seed}, after {operations}");
            kept = state.clone();
            kept_hash = kept.hash();
        }
    }
    seen.insert("repeated".to_owned(), requests.repeats);
    println!("{operations} requests, {batches} batches, {restores} restores: {seen:?}");
    assert_enough_seen(&seen, seed);
}

/// What happened too rarely was not tested.
fn assert_enough_seen(seen: &BTreeMap<String, usize>, seed: u64) {
    let often = [
        "transitioned",
        "created",
        "deleted",
        "migrated",
        "committed",
        "expired",
        "fired",
        "defined",
        "definition_deleted",
        "settings_updated",
        "sink_changed",
        "sink_fenced",
        "unknown_dead_letter",
        "too_many_sinks",
        "too_many_dead_letters",
        "replayed",
        "repeated",
        "unknown_machine",
        "unknown_instance",
        "unknown_state",
        "unknown_event",
        "illegal_transition",
        "state_mismatch",
        "revision_mismatch",
        "idempotency_key_reused",
        "request_expired",
        "invalid_definition",
        "unknown_version",
        "definition_in_use",
        "built_in",
        "instance_exists",
        "already_at_version",
        "unmapped_state",
        "empty_transaction",
        "instance_twice",
        "operation_failed",
        "too_many_instances",
        "too_many_operations",
        "metadata_too_large",
        "too_many_metadata_entries",
        "too_many_versions",
        "too_many_definitions",
    ];
    for what in often {
        let count = seen.get(what).copied().unwrap_or_default();
        assert!(
            count >= 50,
            "seed {seed}: {what} happened only {count} times; the traffic proves little"
        );
    }
}
