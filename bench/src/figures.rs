//! Measurements and output that several benchmarks share.

use std::time::{Duration, SystemTime};

use lockstep_tests::cluster::Node;

/// The times within which half of all were done, 99 %, 99.9 %, and all.
pub type Latencies = [Duration; 4];

pub const P99: usize = 1;

/// None if nothing was done.
pub fn latencies(mut times: Vec<Duration>) -> Option<Latencies> {
    times.sort();
    let last = times.len().checked_sub(1)?;
    Some([0.5, 0.99, 0.999, 1.0].map(|share| times[(last as f64 * share).round() as usize]))
}

/// The four columns of a table.
pub fn shown(latencies: Option<Latencies>) -> String {
    let shown = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let columns = latencies.map_or(["-"; 4].map(str::to_owned), |it| it.map(shown));
    columns.join(" | ")
}

/// One row of a table: how many, and how their times are distributed.
pub fn row(what: &str, times: Vec<Duration>) -> String {
    let count = times.len();
    format!("| {what} | {count} | {} |", shown(latencies(times)))
}

/// The head of a table of [`row`]s.
pub fn head(what: &str, of: &str) -> String {
    format!("| {what} | {of} | p50 | p99 | p99.9 | max |\n|---|---:|---:|---:|---:|---:|")
}

/// How many in a second.
pub fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// A snapshot that a node has built, as its log tells.
#[derive(Debug, Clone, Copy)]
pub struct Built {
    /// Bytes.
    pub size: u64,
    /// How long it took.
    pub took: Duration,
    /// When it was complete.
    pub at: SystemTime,
}

/// The snapshots that a node has built, oldest first.
pub fn snapshots(node: &Node) -> Vec<Built> {
    let log = node.log();
    let built = log.lines().filter(|line| line.contains("snapshot built"));
    built.filter_map(read_built).collect()
}

fn read_built(line: &str) -> Option<Built> {
    let field = |name: &str| -> Option<u64> {
        let mut words = line.split_whitespace();
        words
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?
            .parse()
            .ok()
    };
    Some(Built {
        size: field("bytes")?,
        took: Duration::from_millis(field("took_ms")?),
        at: humantime::parse_rfc3339(line.split_whitespace().next()?).ok()?,
    })
}
