//! The state machine against a model of it that is too plain to be wrong: lists searched from one
//! end to the other, written from the contract and not from the code.
//!
//! A million random requests go to both: executed, repeated, reordered, expired, under reused
//! keys, with unknown names and false expectations, while time also goes backwards. Every reply
//! must be the same. Every so often the state is written down, read back, and goes on from there.

use std::collections::HashMap;

use lockstep_machine::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const OPERATIONS: usize = 1_000_000;
const LIMITS: Limits = Limits {
    keys_max: 12,
    key_retention_ms: 400,
    sessions_max: 5,
};

/// machine, version, from, to, event
type Step = (
    &'static str,
    u32,
    &'static str,
    &'static str,
    Option<&'static str>,
);

const STATES: &[(&str, u32, &[&str])] = &[
    ("order", 1, &["open", "paid", "sent", "done"]),
    ("order", 3, &["open", "paid", "done"]),
    ("triad", 1, &["first", "second", "third"]),
];
const STEPS: &[Step] = &[
    ("order", 1, "open", "paid", Some("pay")),
    ("order", 1, "open", "done", Some("cancel")),
    ("order", 1, "open", "paid", Some("gift")),
    ("order", 1, "paid", "sent", None),
    ("order", 1, "paid", "paid", Some("touch")),
    ("order", 1, "sent", "open", Some("reopen")),
    ("order", 1, "sent", "done", None),
    ("order", 3, "open", "paid", Some("pay")),
    ("order", 3, "paid", "done", Some("pay")),
    ("order", 3, "done", "open", Some("reopen")),
    ("triad", 1, "first", "second", None),
    ("triad", 1, "first", "third", None),
    ("triad", 1, "second", "third", None),
    ("triad", 1, "third", "first", None),
];
const INSTANCES: &[(&str, &str, u32, &str)] = &[
    ("order", "ends", 1, "open"),
    ("order", "turns", 3, "open"),
    ("triad", "default", 1, "first"),
];

fn state_name(name: &str) -> StateName {
    StateName::new(name).unwrap()
}

fn event_name(name: &str) -> EventName {
    EventName::new(name).unwrap()
}

/// The start of both, written by hand: a snapshot's form is a promise to disks, so it is spelt out
/// here a second time.
fn first_state() -> State {
    let mut records = vec![];
    let limits = (
        LIMITS.keys_max,
        LIMITS.key_retention_ms,
        LIMITS.sessions_max,
    );
    let counts = (STATES.len() as u64, INSTANCES.len() as u64, 0u64, 0u64);
    records.push(postcard::to_stdvec(&(0u8, SNAPSHOT_FORMAT, 0u64, limits, 0u64, counts)).unwrap());
    for (machine, version, states) in STATES {
        let moves: Vec<_> = STEPS
            .iter()
            .filter(|step| (step.0, step.1) == (*machine, *version))
            .map(|(_, _, from, to, event)| (from, to, event))
            .collect();
        let record = (1u8, version, machine, states[0], states.to_vec(), moves);
        records.push(postcard::to_stdvec(&record).unwrap());
    }
    for (machine, name, version, state) in INSTANCES {
        let record = (2u8, (machine, name), (version, state, 0u64, 0u64, 0u64));
        records.push(postcard::to_stdvec(&record).unwrap());
    }
    records.push(vec![6]);
    restore(records.into_iter())
}

fn restore(records: impl Iterator<Item = Vec<u8>>) -> State {
    let mut restore = Restore::new();
    for record in records {
        restore.push(&record).unwrap();
    }
    restore.finish().unwrap()
}

struct Place {
    id: InstanceId,
    version: u32,
    state: String,
    revision: u64,
}

struct Client {
    session: SessionId,
    answered_below: u64,
    replies: Vec<(u64, Reply)>,
}

struct KeyUse {
    key: IdempotencyKey,
    command: Command,
    outcome: Outcome,
    at: u64,
}

struct Model {
    now: u64,
    places: Vec<Place>,
    /// Oldest first.
    keys: Vec<KeyUse>,
    /// The one idle for longest first.
    clients: Vec<Client>,
    /// Requests answered from a client's list, which no reply shows.
    repeats: usize,
}

impl Model {
    fn new() -> Self {
        let place = |(machine, name, version, state): &(&str, &str, u32, &str)| Place {
            id: InstanceId::new(machine, name).unwrap(),
            version: *version,
            state: (*state).to_owned(),
            revision: 0,
        };
        let places = INSTANCES.iter().map(place).collect();
        Self {
            now: 0,
            places,
            keys: vec![],
            clients: vec![],
            repeats: 0,
        }
    }

    fn apply(&mut self, batch: &Batch) -> Vec<Reply> {
        if batch.stamp.0 > self.now {
            self.now = batch.stamp.0;
        }
        let now = self.now;
        self.keys
            .retain(|it| it.at + LIMITS.key_retention_ms >= now);
        batch
            .requests
            .iter()
            .map(|request| self.request(request))
            .collect()
    }

    fn request(&mut self, request: &Request) -> Reply {
        let expired = Reply {
            outcome: Outcome::Rejected(Rejection::RequestExpired),
            replayed: false,
        };
        let origin = request.origin;
        let mut client = match self
            .clients
            .iter()
            .position(|it| it.session == origin.session)
        {
            Some(at) => self.clients.remove(at),
            None if origin.answered_below > 1 => return expired,
            None => {
                if self.clients.len() == LIMITS.sessions_max as usize {
                    self.clients.remove(0);
                }
                Client {
                    session: origin.session,
                    answered_below: 0,
                    replies: vec![],
                }
            }
        };
        if origin.answered_below > client.answered_below {
            client.answered_below = origin.answered_below;
        }
        let below = client.answered_below;
        client.replies.retain(|(sequence, _)| *sequence >= below);
        let known = client
            .replies
            .iter()
            .find(|(sequence, _)| *sequence == origin.sequence);
        let reply = if origin.sequence < below {
            expired
        } else if let Some((_, reply)) = known {
            self.repeats += 1;
            reply.clone()
        } else {
            let reply = self.keyed(request);
            client.replies.push((origin.sequence, reply.clone()));
            reply
        };
        self.clients.push(client);
        reply
    }

    fn keyed(&mut self, request: &Request) -> Reply {
        let Some(key) = &request.key else {
            return Reply {
                outcome: self.command(&request.command),
                replayed: false,
            };
        };
        if let Some(first) = self.keys.iter().find(|it| it.key == *key) {
            if first.command == request.command {
                return Reply {
                    outcome: first.outcome.clone(),
                    replayed: true,
                };
            }
            return Reply {
                outcome: Outcome::Rejected(Rejection::KeyReused),
                replayed: false,
            };
        }
        let outcome = self.command(&request.command);
        self.keys.push(KeyUse {
            key: key.clone(),
            command: request.command.clone(),
            outcome: outcome.clone(),
            at: self.now,
        });
        if self.keys.len() > LIMITS.keys_max as usize {
            self.keys.remove(0);
        }
        Reply {
            outcome,
            replayed: false,
        }
    }

    fn command(&mut self, command: &Command) -> Outcome {
        let Command::Transition(command) = command else {
            unreachable!("{command:?}")
        };
        match self.transition(command) {
            Ok(made) => Outcome::Transitioned(made),
            Err(why) => Outcome::Rejected(why),
        }
    }

    fn transition(&mut self, command: &Transition) -> Result<Transitioned, Rejection> {
        let instance = command.instance.clone();
        let machine = instance.machine.clone();
        if !STATES.iter().any(|(name, ..)| *name == machine.as_str()) {
            return Err(Rejection::UnknownMachine { machine });
        }
        let Some(place) = self.places.iter_mut().find(|it| it.id == instance) else {
            return Err(Rejection::UnknownInstance { instance });
        };
        let current = state_name(&place.state);
        let revision = Revision(place.revision);
        if let Some(expected) = command.expect_state.clone()
            && expected != current
        {
            return Err(Rejection::StateMismatch {
                instance,
                expected,
                current,
                revision,
            });
        }
        if let Some(expected) = command.expect_revision
            && expected != revision
        {
            return Err(Rejection::RevisionMismatch {
                instance,
                expected,
                current,
                revision,
            });
        }
        let here: Vec<&Step> = STEPS
            .iter()
            .filter(|it| it.0 == machine.as_str() && it.1 == place.version && it.2 == place.state)
            .collect();
        let (to, event) = match &command.trigger {
            Trigger::Event(event) => match here.iter().find(|it| it.4 == Some(event.as_str())) {
                Some(step) => (state_name(step.3), Some(event.clone())),
                None => {
                    let event = event.clone();
                    return Err(Rejection::UnknownEvent {
                        instance,
                        event,
                        current,
                        revision,
                    });
                }
            },
            Trigger::To(to) if here.iter().any(|it| it.3 == to.as_str()) => (to.clone(), None),
            Trigger::To(to) => {
                let (state, to) = (to.clone(), to.clone());
                let known = STATES
                    .iter()
                    .find(|it| it.0 == machine.as_str() && it.1 == place.version)
                    .map(|it| it.2.iter().map(|name| state_name(name)).collect::<Vec<_>>())
                    .unwrap();
                if !known.contains(&state) {
                    return Err(Rejection::UnknownState {
                        machine,
                        state,
                        known,
                        current,
                        revision,
                    });
                }
                let mut allowed = vec![];
                for step in here {
                    if !allowed.contains(&state_name(step.3)) {
                        allowed.push(state_name(step.3));
                    }
                }
                return Err(Rejection::IllegalTransition {
                    instance,
                    from: current,
                    to,
                    allowed,
                    revision,
                });
            }
        };
        place.state = to.to_string();
        place.revision += 1;
        Ok(Transitioned {
            instance,
            version: Version(place.version),
            from: current,
            to,
            event,
            revision: Revision(place.revision),
            at: Timestamp(self.now),
        })
    }
}

/// Draws requests: mostly sensible ones, from clients that are often confused.
struct Traffic {
    rng: StdRng,
    time: u64,
    /// Session, next number, answered below.
    clients: Vec<(u64, u64, u64)>,
    sessions: u64,
    sent: Vec<Request>,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        let clients = (1..=7).map(|session| (session, 1, 1)).collect();
        Self {
            rng: StdRng::seed_from_u64(seed),
            time: 1000,
            clients,
            sessions: 7,
            sent: vec![],
        }
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())].clone()
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn batch(&mut self, model: &Model) -> Batch {
        self.time += self.rng.random_range(0..30);
        if self.chance(1) {
            self.time += 500;
        }
        let back = if self.chance(10) {
            self.rng.random_range(0..1000)
        } else {
            0
        };
        let count = self.rng.random_range(0..=8);
        let requests = (0..count).map(|_| self.request(model)).collect();
        Batch {
            stamp: Timestamp(self.time.saturating_sub(back)),
            requests,
        }
    }

    fn request(&mut self, model: &Model) -> Request {
        if !self.sent.is_empty() && self.chance(15) {
            // The very same again, or with the newer word on what is answered.
            let sent = std::mem::take(&mut self.sent);
            let mut again = self.pick(&sent);
            self.sent = sent;
            if self.chance(30) {
                again.origin.answered_below += self.rng.random_range(0..3);
            }
            return again;
        }
        let request = Request {
            origin: self.origin(),
            key: self.key(),
            command: Command::Transition(self.transition(model)),
        };
        if self.sent.len() == 40 {
            let at = self.rng.random_range(0..40);
            self.sent.swap_remove(at);
        }
        self.sent.push(request.clone());
        request
    }

    fn origin(&mut self) -> Origin {
        // The first clients speak more often, so that the last ones are forgotten.
        let at = self.rng.random_range(0..7) * self.rng.random_range(0..7) / 6;
        if self.chance(1) {
            self.sessions += 1;
            self.clients[at] = (self.sessions, 1, self.rng.random_range(0..=1));
        }
        let confused = self.chance(10);
        let (session, next, answered_below) = &mut self.clients[at];
        let session = SessionId(*session);
        if confused {
            let sequence = (*next + 5).saturating_sub(self.rng.random_range(0..12));
            return Origin {
                session,
                sequence,
                answered_below: *answered_below,
            };
        }
        let sequence = *next;
        *next += 1;
        if sequence > *answered_below + 1 && self.rng.random_bool(0.4) {
            *answered_below = self.rng.random_range(*answered_below..sequence);
        }
        Origin {
            session,
            sequence,
            answered_below: *answered_below,
        }
    }

    fn key(&mut self) -> Option<IdempotencyKey> {
        if self.chance(70) {
            return None;
        }
        let key = format!("key {}", self.rng.random_range(0..30));
        Some(IdempotencyKey::new(key).unwrap())
    }

    fn transition(&mut self, model: &Model) -> Transition {
        let at = self.rng.random_range(0..model.places.len());
        let place = &model.places[at];
        let mut instance = place.id.clone();
        if self.chance(2) {
            instance = self
                .pick(&["order/nobody", "nothing/default", "nothing/ends"])
                .parse()
                .unwrap();
        }
        let legal: Vec<&Step> = STEPS
            .iter()
            .filter(|it| {
                it.0 == place.id.machine.as_str() && it.1 == place.version && it.2 == place.state
            })
            .collect();
        let trigger = if !legal.is_empty() && self.chance(60) {
            let step = self.pick(&legal);
            match step.4 {
                Some(event) if self.chance(50) => Trigger::Event(event_name(event)),
                _ => Trigger::To(state_name(step.3)),
            }
        } else if self.chance(70) {
            let names = [
                "first", "second", "third", "open", "paid", "sent", "done", "nowhere",
            ];
            Trigger::To(state_name(self.pick(&names)))
        } else {
            let names = ["pay", "cancel", "gift", "touch", "reopen", "explode"];
            Trigger::Event(event_name(self.pick(&names)))
        };
        let expect_state = match self.rng.random_range(0..10) {
            0..=7 => None,
            8 => Some(place.state.as_str()),
            _ => Some(self.pick(&["first", "second", "open", "paid", "nowhere"])),
        };
        let expect_revision = match self.rng.random_range(0..10) {
            0..=7 => None,
            8 => Some(place.revision),
            _ => Some(self.rng.random_range(0..=place.revision + 1)),
        };
        Transition {
            instance,
            trigger,
            expect_state: expect_state.map(state_name),
            expect_revision: expect_revision.map(Revision),
        }
    }
}

/// `order/ends` comes to an end; put everything at its start again, as a new cluster would.
fn at_its_end(model: &Model) -> bool {
    model.places[0].state == "done"
}

fn assert_alike(state: &State, model: &Model) {
    assert_eq!(state.now().0, model.now);
    let replies = model
        .clients
        .iter()
        .map(|client| client.replies.len())
        .sum();
    assert_eq!(state.remembered(), (model.keys.len(), replies));
    let instances: Vec<_> = state
        .instances()
        .map(|(id, it)| {
            (
                id.clone(),
                it.version.0,
                it.state.to_string(),
                it.revision.0,
            )
        })
        .collect();
    let places: Vec<_> = model
        .places
        .iter()
        .map(|it| (it.id.clone(), it.version, it.state.clone(), it.revision))
        .collect();
    assert_eq!(instances, places);
}

#[test]
fn a_million_random_requests_get_the_replies_of_a_plain_model() {
    let seed = match std::env::var("LOCKSTEP_TEST_SEED") {
        Ok(seed) => seed.parse().expect("LOCKSTEP_TEST_SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("run again with LOCKSTEP_TEST_SEED={seed}");

    let mut traffic = Traffic::new(seed);
    let (mut state, mut model) = (first_state(), Model::new());
    let (mut kept, mut kept_hash) = (state.clone(), state.hash());
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let (mut operations, mut batches, mut restores) = (0, 0, 0);

    while operations < OPERATIONS {
        let batch = traffic.batch(&model);
        let replies = state.apply(&batch);
        assert_eq!(
            replies,
            model.apply(&batch),
            "seed {seed}, after {operations}: {batch:?}"
        );
        operations += batch.requests.len();
        batches += 1;
        for reply in replies {
            let what = match &reply.outcome {
                Outcome::Rejected(why) => why.code(),
                _ => "transitioned",
            };
            *seen.entry(what).or_default() += 1;
            *seen.entry("replayed").or_default() += usize::from(reply.replayed);
        }

        if batches % 100 == 0 {
            assert_alike(&state, &model);
            let restored = restore(state.records());
            assert!(
                restored.records().eq(state.records()),
                "seed {seed}, after {operations}"
            );
            assert_eq!(
                restored.hash(),
                state.hash(),
                "seed {seed}, after {operations}"
            );
            state = restored;
            restores += 1;

            // A clone shares its structure with what went on: it must not have moved along.
            assert_eq!(kept.hash(), kept_hash, "seed {seed}, after {operations}");
            kept = state.clone();
            kept_hash = kept.hash();

            if at_its_end(&model) {
                *seen.entry("repeated").or_default() += model.repeats;
                (state, model) = (first_state(), Model::new());
                let (time, rng) = (traffic.time, traffic.rng.random());
                traffic = Traffic {
                    time,
                    ..Traffic::new(rng)
                };
            }
        }
    }

    println!("{operations} requests, {batches} batches, {restores} restores: {seen:?}");
    for what in [
        "transitioned",
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
    ] {
        let count = seen.get(what).copied().unwrap_or_default();
        assert!(
            count >= 1000,
            "seed {seed}: {what} happened only {count} times; the traffic proves little"
        );
    }
}
