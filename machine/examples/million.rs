//! What a million instances cost: `cargo run --release -p lockstep-machine --example million`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use lockstep_machine::*;

/// Counts the bytes that are allocated, without the allocator's own overhead.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const INSTANCES: u64 = 1_000_000;
const ORDER: &str = r#"{"name": "order", "initial": "open", "states": {
    "open": {"timeout": {"after": "30days", "to": "expired"}}, "paid": {},
    "expired": {"final": true}, "sent": {"final": true}},
    "transitions": [{"from": "open", "to": "paid", "event": "pay"}, {"from": "paid", "to": "sent"}]}"#;

fn id(i: u64) -> InstanceId {
    InstanceId::new("order", format!("{i:08}")).expect("a good name")
}

/// Applies one command per instance, in batches.
fn apply_all(state: &mut State, sequence: &mut u64, command: impl Fn(u64) -> Command) {
    let start = Instant::now();
    for from in (0..INSTANCES).step_by(100) {
        let request = |i| {
            *sequence += 1;
            let origin = Origin {
                session: SessionId(1),
                sequence: *sequence,
                answered_below: *sequence,
            };
            Request {
                origin,
                key: None,
                command: command(i),
            }
        };
        let requests = (from..from + 100).map(request).collect();
        state.apply(&Batch {
            stamp: Timestamp(*sequence),
            requests,
        });
    }
    println!(
        "  {:.0} ns each, decoding included",
        start.elapsed().as_nanos() as f64 / INSTANCES as f64
    );
}

fn report(state: &State, empty: usize) {
    let bytes = BYTES.load(Ordering::Relaxed) - empty;
    println!("  {} bytes per instance", bytes / INSTANCES as usize);
    println!(
        "  {} instances, {} timers",
        state.instance_count(),
        state.pending_timers()
    );
}

fn main() {
    let small = std::env::args().any(|it| it == "--no-events");
    let events_max = if small {
        0
    } else {
        Limits::default().events_max
    };
    let limits = Limits {
        events_max,
        ..Limits::default()
    };
    let empty = BYTES.load(Ordering::Relaxed);
    let mut state = State::new(limits);
    let mut sequence = 1;
    let definition = lockstep_document::parse_json(ORDER, &limits).expect("a good definition");
    let origin = Origin {
        session: SessionId(1),
        sequence,
        answered_below: 1,
    };
    let command = Command::Define(definition.into());
    let requests = vec![Request {
        origin,
        key: None,
        command,
    }];
    state.apply(&Batch {
        stamp: Timestamp(1),
        requests,
    });

    println!("created, waiting for a timeout:");
    let create = |i| Create {
        instance: id(i),
        version: None,
        metadata: Metadata::default(),
    };
    apply_all(&mut state, &mut sequence, |i| Command::Create(create(i)));
    report(&state, empty);

    println!("moved once, no timeout:");
    let to = StateName::new("paid").expect("a good name");
    apply_all(&mut state, &mut sequence, |i| {
        Command::Transition(Transition {
            instance: id(i),
            trigger: Trigger::To(to.clone()),
            expect_state: None,
            expect_revision: None,
            metadata: Metadata::default(),
        })
    });
    report(&state, empty);

    let start = Instant::now();
    let bytes: usize = state.records().map(|record| record.len()).sum();
    println!(
        "snapshot: {} MB written in {:?}",
        bytes / 1_000_000,
        start.elapsed()
    );
    let start = Instant::now();
    let hash = state.hash();
    println!("hash: {:?}", start.elapsed());

    let records: Vec<_> = state.records().collect();
    drop(state);
    let before = BYTES.load(Ordering::Relaxed);
    let start = Instant::now();
    let mut restore = Restore::new();
    for record in &records {
        restore.push(record).expect("a good record");
    }
    let restored = restore.finish().expect("a whole snapshot");
    println!("restore: {:?}", start.elapsed());
    report(&restored, before);
    assert_eq!(restored.hash(), hash);

    let query = ListQuery {
        limit: 100,
        scan_max: 10_000,
        ..ListQuery::default()
    };
    let start = Instant::now();
    let page = restored.list(&query);
    println!(
        "first page of {}: {:?}",
        page.instances.len(),
        start.elapsed()
    );
}
