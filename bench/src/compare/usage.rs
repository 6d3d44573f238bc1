//! What processes and their children have used.

use std::time::Duration;

use anyhow::{Context, Result};
use procfs::process::{Process, all_processes};

/// Processor time and bytes written since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    pub cpu: Duration,
    pub written: u64,
}

impl Used {
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            written: self.written.saturating_sub(before.written),
        }
    }
}

/// What these processes and their children have used, also those that have ended.
pub fn of(roots: &[u32]) -> Result<Used> {
    let mut used = Used::default();
    for process in with_children(roots)? {
        // One that ends meanwhile is counted with its parent.
        let (Ok(stat), Ok(io)) = (process.stat(), process.io()) else {
            continue;
        };
        let reaped = u64::try_from(stat.cutime + stat.cstime).unwrap_or_default();
        let ticks = stat.utime + stat.stime + reaped;
        used.cpu += Duration::from_secs(ticks).div_f64(procfs::ticks_per_second() as f64);
        used.written += io.write_bytes;
    }
    Ok(used)
}

/// Memory of these processes and their children in MiB, for each process: pages that several share are counted once.
pub fn memory(roots: &[u32]) -> Result<f64> {
    let mut bytes = 0;
    for process in with_children(roots)? {
        let Ok(rollup) = process.smaps_rollup() else {
            continue;
        };
        let maps = rollup.memory_map_rollup.into_iter();
        bytes += maps
            .filter_map(|map| map.extension.map.get("Pss").copied())
            .sum::<u64>();
    }
    Ok(bytes as f64 / f64::from(1 << 20) / roots.len().max(1) as f64)
}

fn with_children(roots: &[u32]) -> Result<Vec<Process>> {
    let all = all_processes().context("/proc")?;
    let mut parents = Vec::new();
    for process in all.filter_map(Result::ok) {
        if let Ok(stat) = process.stat() {
            parents.push((process, stat.ppid));
        }
    }
    let mut wanted: Vec<i32> = roots.iter().map(|root| root.cast_signed()).collect();
    let mut found = Vec::new();
    while let Some(id) = wanted.pop() {
        wanted.extend(
            parents
                .iter()
                .filter(|(_, parent)| *parent == id)
                .map(|(it, _)| it.pid),
        );
        if let Some(place) = parents.iter().position(|(it, _)| it.pid == id) {
            found.push(parents.swap_remove(place).0);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_time_and_memory_with_its_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("it starts");
        let own = std::process::id();
        let found = with_children(&[own]).expect("/proc is there");
        let ids: Vec<_> = found.iter().map(|it| it.pid.cast_unsigned()).collect();
        assert!(ids.contains(&own) && ids.contains(&child.id()), "{ids:?}");
        assert!(memory(&[own]).expect("/proc is there") > 0.);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
}
