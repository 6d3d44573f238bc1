//! How long applying one transition takes: `cargo run --release -p lockstep-machine --example
//! apply_speed`. Requests come in batches of 100, each with its place in a session's window.

use std::time::Instant;

use lockstep_machine::*;

const BATCHES: u64 = 3000;
const BATCH: u64 = 100;

fn request(session: u64, sequence: u64, command: Command) -> Request {
    let origin = Origin {
        session: SessionId(session),
        sequence,
        answered_below: sequence.saturating_sub(255),
    };
    Request {
        origin,
        key: None,
        command,
    }
}

fn transition(instance: &InstanceId, to: &StateName) -> Command {
    Command::Transition(Transition {
        instance: instance.clone(),
        trigger: Trigger::To(to.clone()),
        expect_state: None,
        expect_revision: None,
        metadata: Metadata::default(),
    })
}

/// Moves the instances around in turn, each through its three states.
fn run(name: &str, mut state: State, ids: &[InstanceId], cloned: bool) {
    let names = ["second", "third", "first"].map(|name| StateName::new(name).expect("a good name"));
    let mut sequence = 0;
    for pass in 0..3 {
        let batch = |b: u64, sequence: &mut u64| {
            let requests = (0..BATCH).map(|i| {
                *sequence += 1;
                let n = b * BATCH + i;
                let round = (n / ids.len() as u64) as usize;
                let which = n.wrapping_mul(7919) % ids.len() as u64;
                request(
                    1,
                    *sequence,
                    transition(&ids[which as usize], &names[round % 3]),
                )
            });
            let requests = requests.collect();
            Batch {
                stamp: Timestamp(*sequence),
                requests,
            }
        };
        let batches: Vec<_> = (0..BATCHES).map(|b| batch(b, &mut sequence)).collect();
        let mut moved = 0;
        let mut kept = state.clone();
        let start = Instant::now();
        for (i, batch) in batches.iter().enumerate() {
            if cloned && i % 100 == 0 {
                kept = state.clone();
            }
            let replies = state.apply(batch);
            moved += replies
                .iter()
                .filter(|it| matches!(it.outcome, Outcome::Transitioned(_)))
                .count();
        }
        let each = start.elapsed().as_nanos() as f64 / (BATCHES * BATCH) as f64;
        println!("{name}, pass {pass}: {each:.0} ns per transition, {moved} made");
        drop(kept);
    }
}

fn with_instances(count: u64) -> (State, Vec<InstanceId>) {
    let mut state = State::default();
    let ids: Vec<InstanceId> = (0..count)
        .map(|i| InstanceId::new("triad", format!("i{i:06}")).expect("a good name"))
        .collect();
    let create = |instance: &InstanceId| {
        let instance = instance.clone();
        Command::Create(Create {
            instance,
            version: None,
            metadata: Metadata::default(),
        })
    };
    for (chunk, ids) in (0..).zip(ids.chunks(BATCH as usize)) {
        let one = |(i, id)| request(2, chunk * BATCH + i, create(id));
        let requests = (1..).zip(ids).map(one).collect();
        state.apply(&Batch {
            stamp: Timestamp(1),
            requests,
        });
    }
    (state, ids)
}

fn main() {
    let default = InstanceId::new("triad", "default").expect("a good name");
    run("triad/default", State::default(), &[default], false);
    let (state, ids) = with_instances(100_000);
    run("100,000 instances", state.clone(), &ids, false);
    run("100,000 instances, cloned every 10,000", state, &ids, true);
}
