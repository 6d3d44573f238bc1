//! Requests and batches in memory, for tests of this crate and, under the feature `testing`, of others.

use bytes::Bytes;

use crate::codec::CodecError;
use crate::{
    Command, DecodedBatch, EncodedBatch, EncodedRequest, EventName, IdempotencyKey, Instance,
    InstanceId, Move, MoveFrom, Origin, Reply, RequestBody, State, StateDefinition, StateName,
    Timestamp,
};

/// Words of the errors of serde, serde_json, serde-saphyr, minicbor, prost, flate2 and the standard library. No
/// message about what a user, a peer or another system wrote may have one: it names the place, the value and the
/// rule.
const LIBRARY_WORDS: &[&str] = &[
    "serde",
    "deserialize",
    "budget",
    "breach",
    "EOF while parsing",
    " at line 1 column",
    "expected value",
    "expected ident",
    "trailing characters",
    "invalid type",
    "invalid value",
    "invalid length",
    "missing field",
    "duplicate field",
    "unknown field",
    "unknown variant",
    "unknown enum variant",
    "untagged enum",
    "invalid digit found",
    "number too large to fit",
    "cannot parse integer",
    "invalid socket address",
    "provided string was not",
    "unexpected type",
    "decode error",
    "end of input bytes",
    "struct ",
    "enum ",
    "expected f32",
    "expected f64",
    "Option<",
    "Vec<",
    "Map<",
    "&str",
    "while scanning",
    "while parsing",
    "did not find expected",
    "mapping ",
    "sequence start",
    "quoted scalar",
    "plain scalar",
    "block scalar",
    "string scalar",
    "simple key",
    "low surrogate",
    "recursion limit",
    "failed to decode",
    "wire type",
    "varint",
    "buffer underflow",
    "length delimiter",
    "delimited length",
    "end group tag",
    "decompressing",
    "deflate",
    "gzip header",
    "gzip stream",
];

/// Names of Rust's types; a message may have them within a word.
const LIBRARY_TYPES: &[&str] = &[
    "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "str",
    "bool", "Option", "Vec", "String", "BTreeMap", "HashMap",
];

/// The word of a library that a message has, if it has one.
pub fn library_words(message: &str) -> Option<&'static str> {
    let words = LIBRARY_WORDS.iter().find(|word| message.contains(**word));
    let is_word = |it: &str| {
        message
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .any(|word| word == it)
    };
    words
        .or_else(|| LIBRARY_TYPES.iter().find(|it| is_word(it)))
        .copied()
}

/// A request that is not encoded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where it entered the cluster.
    pub origin: Origin,
    /// The caller's own key, if it gave one.
    pub key: Option<IdempotencyKey>,
    /// What to do.
    pub command: Command,
}

impl Request {
    /// The request as it travels.
    pub fn encode(&self) -> EncodedRequest {
        let body = RequestBody {
            command: self.command.clone(),
            key: self.key.clone(),
        };
        EncodedRequest {
            origin: self.origin,
            body: body.encode(),
        }
    }
}

/// One log entry's worth of requests, under one leader's stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The proposing leader's clock.
    pub stamp: Timestamp,
    /// The requests, oldest first.
    pub requests: Vec<Request>,
}

impl Batch {
    /// The log entry's payload.
    pub fn encode(&self) -> Bytes {
        let mut batch = EncodedBatch::new(self.stamp);
        for request in &self.requests {
            let EncodedRequest { origin, body } = request.encode();
            batch.push(origin, &body);
        }
        batch.into_bytes()
    }

    /// Reads a payload whose requests are all well formed.
    ///
    /// # Errors
    ///
    /// As [`DecodedBatch::decode`], and if a request is malformed.
    pub fn decode(payload: &[u8]) -> Result<Self, CodecError> {
        let DecodedBatch { stamp, requests } = DecodedBatch::decode(payload)?;
        let request = |(origin, body): (Origin, Option<crate::request::DecodedBody<'_>>)| {
            let body =
                body.ok_or_else(|| CodecError::malformed("log entry", "a request is malformed"))?;
            let RequestBody { command, key } = body.body;
            Ok(Request {
                origin,
                key,
                command,
            })
        };
        let requests = requests
            .into_iter()
            .map(request)
            .collect::<Result<_, _>>()?;
        Ok(Self { stamp, requests })
    }
}

impl State {
    /// Applies requests as [`State::apply_decoded`] does.
    pub fn apply(&mut self, batch: &Batch) -> Vec<Reply> {
        let payload = batch.encode();
        self.apply_decoded(&DecodedBatch::decode(&payload).expect("it was encoded by this build"))
    }

    /// Every instance with its id, in order of id.
    pub fn instances(&self) -> impl Iterator<Item = (InstanceId, &Instance)> {
        self.world.machines.iter().flat_map(|(machine, it)| {
            let id = |name: &_| InstanceId::from_parts(machine.clone(), Clone::clone(name));
            it.instances
                .iter()
                .map(move |(name, instance)| (id(name), instance))
        })
    }

    /// When the next timeout is due, in cluster time.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.world.timers.get_min().map(|timer| timer.deadline)
    }
}

impl StateDefinition {
    /// A plain state: not final, no timeout, no description.
    pub fn new(name: StateName) -> Self {
        Self {
            name,
            description: String::new(),
            is_final: false,
            timeout: None,
        }
    }
}

impl Move {
    /// A transition between two states.
    pub fn new(from: StateName, to: StateName, event: Option<EventName>) -> Self {
        let from = MoveFrom::States(vec![from]);
        Self {
            from,
            to,
            event,
            description: String::new(),
        }
    }
}

#[cfg(test)]
pub(crate) use driver::*;

/// A state that is driven command by command.
#[cfg(test)]
mod driver {
    use std::sync::Arc;

    use crate::*;

    /// A state, and a caller that asks once for everything.
    #[derive(Clone)]
    pub(crate) struct Driver {
        pub(crate) state: State,
        pub(crate) now: u64,
        sequence: u64,
    }

    pub(crate) const ORDER: &str = r#"{
  "name": "order", "initial": "open",
  "states": {
    "open": {"timeout": {"after": "1s", "to": "expired"}},
    "paid": {}, "sent": {"timeout": {"after": "500ms", "to": "sent"}},
    "expired": {"final": true}, "done": {"final": true}
  },
  "transitions": [
    {"from": "open", "to": "paid", "event": "pay"},
    {"from": "paid", "to": "sent"},
    {"from": "sent", "to": "done"},
    {"from": "*", "to": "expired", "event": "cancel"}
  ]}"#;

    /// Changes the settings to these.
    pub(crate) fn configure(limits: Limits) -> Command {
        Command::UpdateSettings(Setting::ALL.map(|it| (it, limits.get(it))).into())
    }

    /// How much of a setting is used.
    pub(crate) fn used(state: &State, setting: Setting) -> u64 {
        let usage = state.usage();
        usage.iter().find(|it| it.0 == setting).unwrap().1
    }

    pub(crate) fn definition(text: &str) -> Arc<Definition> {
        serde_json::from_str(text).map(Arc::new).unwrap()
    }

    pub(crate) fn id(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    pub(crate) fn name(text: &str) -> StateName {
        StateName::new(text).unwrap()
    }

    pub(crate) fn machine(text: &str) -> MachineName {
        MachineName::new(text).unwrap()
    }

    pub(crate) fn meta(entries: &[(&str, &str)]) -> Metadata {
        Metadata::new(entries.iter().copied()).unwrap()
    }

    pub(crate) fn create(text: &str) -> Create {
        Create {
            instance: id(text),
            version: None,
            metadata: Metadata::default(),
        }
    }

    pub(crate) fn to(text: &str, state: &str) -> Transition {
        Transition::new(id(text), Trigger::To(name(state)))
    }

    pub(crate) fn delete(text: &str) -> Delete {
        Delete {
            instance: id(text),
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
        }
    }

    pub(crate) fn migrate(text: &str, states: &[(&str, &str)]) -> Migrate {
        Migrate {
            instance: id(text),
            version: None,
            states: states
                .iter()
                .map(|(from, to)| (name(from), name(to)))
                .collect(),
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
        }
    }

    pub(crate) fn sink(name: &str, change: SinkChange) -> Command {
        let sink = SinkName::new(name).unwrap();
        Command::Sink(Box::new(SinkCommand { sink, change }))
    }

    pub(crate) fn bury(term: u64, event: &Arc<Event>, reason: &str) -> SinkChange {
        SinkChange::Bury {
            term,
            event: event.clone(),
            reason: reason.to_owned(),
        }
    }

    impl Driver {
        pub(crate) fn new(limits: Limits) -> Self {
            Self {
                state: State::new(limits),
                now: 1000,
                sequence: 0,
            }
        }

        /// A state with [`ORDER`] defined.
        pub(crate) fn with_order(limits: Limits) -> Self {
            let mut driver = Self::new(limits);
            driver.run(Command::Define(definition(ORDER)));
            driver
        }

        pub(crate) fn keyed(&mut self, key: Option<&str>, command: Command) -> Reply {
            self.sequence += 1;
            let origin = Origin {
                session: SessionId(1),
                sequence: self.sequence,
                answered_below: self.sequence,
            };
            let key = key.map(|key| IdempotencyKey::new(key).unwrap());
            let requests = vec![Request {
                origin,
                key,
                command,
            }];
            self.state
                .apply(&Batch {
                    stamp: Timestamp(self.now),
                    requests,
                })
                .remove(0)
        }

        pub(crate) fn run(&mut self, command: Command) -> Outcome {
            let dry = {
                let mut ahead = self.state.clone();
                ahead.world.clock = Timestamp(self.now).max(ahead.now());
                ahead.dry_run(&command)
            };
            let reply = self.keyed(None, command);
            assert_eq!(reply.outcome, dry, "a dry run tells what would happen");
            assert_eq!(reply.revision, self.state.revision());
            reply.outcome
        }

        /// The outcome's name; a rejection's code.
        pub(crate) fn kind(&mut self, command: Command) -> &'static str {
            self.run(command).kind()
        }

        pub(crate) fn rejected(&mut self, command: Command) -> Rejection {
            let before = self.state.revision();
            match self.run(command) {
                Outcome::Rejected(rejection) => {
                    assert_eq!(self.state.revision(), before, "a rejection changes nothing");
                    rejection
                }
                other => panic!("{other:?}"),
            }
        }

        pub(crate) fn at(&self, text: &str) -> (String, u64) {
            let instance = self.state.instance(&id(text)).unwrap();
            (instance.state.to_string(), instance.revision.0)
        }

        /// Fires what is due now, as a leader would.
        pub(crate) fn expire(&mut self) -> Expired {
            let due = self.state.due(Timestamp(self.now), usize::MAX);
            match self.run(Command::Expire(due)) {
                Outcome::Expired(expired) => expired,
                other => panic!("{other:?}"),
            }
        }

        pub(crate) fn events_after(&self, revision: u64) -> Vec<Arc<Event>> {
            let cursor = EventCursor::after(GlobalRevision(revision));
            self.state.events_after(cursor, usize::MAX).unwrap()
        }
    }
}
