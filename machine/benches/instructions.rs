//! What `scripts/instructions` counts: `instructions PATH REPETITIONS` prepares a path, and takes it so often.
//!
//! The script runs each path with and without repetitions; the difference is what these cost.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_machine::{
    Batch, Command, Create, DecodedBatch, Definition, Expectation, IdempotencyKey, InstanceId,
    ListQuery, MachineName, Metadata, Operation, Origin, Precondition, Request, RequestBody,
    Revision, SessionId, State, StateName, Timestamp, Transaction, Transition, Trigger,
};

/// Requests in one log entry.
const BATCH: u64 = 64;
const INSTANCES: u64 = 160 * BATCH;

const DEFINITION: &str = r#"{
  "name": "order", "initial": "open", "states": {"open": {}, "paid": {}, "sent": {}},
  "transitions": [
    {"from": "open", "to": "paid", "event": "pay"},
    {"from": "paid", "to": "sent", "event": "send"},
    {"from": "sent", "to": "open", "event": "reopen"}
  ]}"#;

/// Where the `round`th visit moves an instance.
const STATES: [&str; 3] = ["paid", "sent", "open"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, repetitions] = &arguments[..] else {
        // Cargo also runs benchmarks as tests, without arguments of ours.
        return;
    };
    let repetitions = repetitions.parse().expect("a number of repetitions");
    take(path, repetitions);
}

fn take(path: &str, repetitions: u64) {
    let mut orders = Orders::new();
    let mut repeat = |what: &mut dyn FnMut(&mut Orders, u64)| {
        for number in 0..repetitions {
            what(&mut orders, number);
        }
    };
    match path {
        "encode" => repeat(&mut |orders, number| {
            black_box(orders.batch(number, moved(number)).encode());
        }),
        "decode" => {
            let payload = Orders::new().payload(0, moved(0));
            repeat(&mut |_, _| drop(black_box(DecodedBatch::decode(&payload).unwrap())));
        }
        "validate" => {
            let body = body(moved(0)(0), None);
            repeat(&mut |_, _| {
                for _ in 0..BATCH {
                    RequestBody::validate(black_box(&body)).unwrap();
                }
            });
        }
        "transition" => repeat(&mut |orders, number| orders.apply(number, moved(number))),
        "keyed transition" => repeat(&mut |orders, number| orders.apply_keyed(number)),
        "rejection" => repeat(&mut |orders, number| orders.apply(number, |at| to(at, "sent"))),
        "transaction" => repeat(&mut |orders, number| orders.apply(number, transaction(number))),
        "creation" => repeat(&mut |orders, number| {
            orders.apply(number, |at| create(INSTANCES + number * BATCH + at));
        }),
        "read" => repeat(&mut |orders, number| {
            let state = orders.state.clone();
            for at in 0..BATCH {
                let id = order(number * BATCH + at);
                let instance = state.instance(&id).expect("it was created");
                black_box(state.view(&id, instance));
            }
        }),
        "list" => repeat(&mut |orders, _| {
            let query = ListQuery {
                machine: Some(MachineName::new("order").unwrap()),
                limit: 100,
                scan_max: 100,
                ..ListQuery::default()
            };
            black_box(orders.state.list(&query));
        }),
        "snapshot" => repeat(&mut |orders, _| {
            for record in orders.state.records() {
                black_box(record);
            }
        }),
        other => panic!("no path is named {other:?}"),
    }
}

/// A state with [`INSTANCES`] orders.
struct Orders {
    state: State,
    sequence: u64,
}

impl Orders {
    fn new() -> Self {
        let mut orders = Self {
            state: State::default(),
            sequence: 0,
        };
        let definition: Arc<Definition> = serde_json::from_str(DEFINITION).unwrap();
        // Sixty-three times, it is already there.
        orders.apply(0, |_| Command::Define(definition.clone()));
        for number in 0..INSTANCES / BATCH {
            orders.apply(number, |at| create(number * BATCH + at));
        }
        orders
    }

    fn batch(&mut self, number: u64, command: impl Fn(u64) -> Command) -> Batch {
        let requests = (0..BATCH).map(|at| {
            self.sequence += 1;
            let origin = Origin {
                session: SessionId(1),
                sequence: self.sequence,
                // As many are in flight as one entry holds.
                answered_below: self.sequence.saturating_sub(BATCH).max(1),
            };
            Request {
                origin,
                key: None,
                command: command(at),
            }
        });
        Batch {
            stamp: Timestamp(1000 + number),
            requests: requests.collect(),
        }
    }

    fn payload(&mut self, number: u64, command: impl Fn(u64) -> Command) -> Bytes {
        self.batch(number, command).encode()
    }

    fn apply(&mut self, number: u64, command: impl Fn(u64) -> Command) {
        let payload = self.payload(number, command);
        self.apply_payload(&payload);
    }

    fn apply_payload(&mut self, payload: &[u8]) {
        let batch = DecodedBatch::decode(payload).unwrap();
        black_box(self.state.apply_decoded(&batch));
    }

    /// With a key, an expected revision and a metadata entry each.
    fn apply_keyed(&mut self, number: u64) {
        let mut batch = self.batch(number, |at| {
            let Command::Transition(mut transition) = moved(number)(at) else {
                unreachable!("it is one")
            };
            transition.expect_revision = Some(Revision(number * BATCH / INSTANCES));
            transition.metadata = Metadata::new([("by", "ada")]).unwrap();
            Command::Transition(transition)
        });
        for request in &mut batch.requests {
            let key = format!("key-{}", request.origin.sequence);
            request.key = Some(IdempotencyKey::new(key).unwrap());
        }
        self.apply_payload(&batch.encode());
    }
}

fn body(command: Command, key: Option<IdempotencyKey>) -> Bytes {
    RequestBody { command, key }.encode()
}

fn order(number: u64) -> InstanceId {
    InstanceId::new("order", format!("{:08}", number % INSTANCES)).unwrap()
}

fn create(number: u64) -> Command {
    Command::Create(Create {
        instance: InstanceId::new("order", format!("{number:08}")).unwrap(),
        version: None,
        metadata: Metadata::default(),
    })
}

fn to(number: u64, state: &str) -> Command {
    let state = StateName::new(state).unwrap();
    Command::Transition(Transition::new(order(number), Trigger::To(state)))
}

/// The transitions of the `number`th entry: each next instance in turn, to its next state.
fn moved(number: u64) -> impl Fn(u64) -> Command {
    move |at| {
        let visit = number * BATCH + at;
        to(visit, STATES[(visit / INSTANCES) as usize % STATES.len()])
    }
}

/// The same, each after a check of another instance.
fn transaction(number: u64) -> impl Fn(u64) -> Command {
    move |at| {
        let Command::Transition(transition) = moved(number)(at) else {
            unreachable!("it is one")
        };
        let instance = order(number * BATCH + at + 1);
        let expect = Expectation::Exists;
        Command::Transaction(Transaction {
            operations: vec![
                Operation::Check(Precondition { instance, expect }),
                Operation::Transition(transition),
            ],
        })
    }
}
