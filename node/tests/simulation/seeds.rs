//! Runs the simulation for each seed, and reports the seed of a failure.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use openraft_rt::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

/// Known defects of the pinned openraft alpha, by the text of the panic.
const KNOWN_DEFECTS: [(&str, &str); 1] = [
    // A debug assertion. In release builds the position merely goes back.
    (
        "expect submitted:",
        "a follower received a snapshot older than its log",
    ),
];

/// How a history ended.
#[derive(Debug, PartialEq)]
pub enum End<T> {
    /// No invariant was violated.
    Held(T),
    /// This known defect of openraft ended it before anything else did.
    Void(&'static str),
    /// An invariant was violated.
    Failed(String),
}

thread_local! {
    /// The seed that runs on this thread, and the first panic under it.
    static RUNNING: RefCell<Option<(u64, Option<String>)>> = const { RefCell::new(None) };
}

/// The first seed and how many, as the environment wants them.
pub fn wanted(count: u64) -> (u64, u64) {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().expect("it must be a number"))
    };
    (
        number("LOCKSTEP_TEST_SEED").unwrap_or(1),
        number("LOCKSTEP_TEST_SEEDS").unwrap_or(count),
    )
}

/// What to say about a failure.
pub fn failure(seed: u64, what: &str) -> String {
    format!(
        "seed {seed} failed: {what}\nto see it again: LOCKSTEP_TEST_SEED={seed} LOCKSTEP_TEST_SEEDS=1 \
         cargo test -p lockstep-node --test simulation"
    )
}

/// The runtime catches panics of tasks, and with `panic = "abort"` the process ends; so a panic hook
/// records the panic and prints the seed.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let noted = RUNNING.with_borrow_mut(|running| {
                let (seed, first) = running.as_mut()?;
                let payload = info.payload();
                let text = payload.downcast_ref::<String>().map(String::as_str);
                let text = text
                    .or_else(|| payload.downcast_ref::<&str>().copied())
                    .unwrap_or("a panic without a text");
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                first.get_or_insert_with(|| format!("{text} ({place})"));
                Some(*seed)
            });
            match noted {
                Some(seed) if cfg!(panic = "abort") => {
                    eprintln!("{}", failure(seed, &info.to_string()))
                }
                Some(_) => {}
                None => default(info),
            }
        }));
    });
}

/// Runs one history.
pub fn run<T, F: Future<Output = T>>(seed: u64, history: impl FnOnce() -> F) -> End<T> {
    install_hook();
    RUNNING.set(Some((seed, None)));
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let mut runtime = SimRuntime::with_seed(seed);
        runtime.block_on(async { history().await })
    }));
    let panicked = RUNNING.take().and_then(|(_, first)| first);
    match (ended, panicked) {
        (Ok(ended), None) => End::Held(ended),
        (_, what) => {
            let what = what.unwrap_or_default();
            let known = KNOWN_DEFECTS.iter().find(|(text, _)| what.contains(text));
            known.map_or(End::Failed(what.clone()), |(_, defect)| End::Void(defect))
        }
    }
}
