//! Changes of every kind, at a given pace, until stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::bulk::{Entrances, create, transition};
use crate::http::{Api, after};
use crate::wait::wait_for;

/// Writers, each with instances of its own.
const WRITERS: usize = 4;
/// Instances of one writer, all changed in one transaction.
const INSTANCES: usize = 20;
/// A generation of instances moves this often, then makes way for the next.
const MOVES: usize = 5;
/// How long more changes may take, faults included.
const MORE_DEADLINE: Duration = Duration::from_secs(60);

/// Writers under way.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicUsize>,
    tasks: JoinSet<Result<()>>,
}

impl Traffic {
    /// Through `nodes`, with so long between two transactions of a writer.
    pub fn start(nodes: &[Api], pause: Duration) -> Self {
        let mut traffic = Self {
            stop: Arc::default(),
            changes: Arc::default(),
            tasks: JoinSet::new(),
        };
        let run: u32 = rand::random();
        for writer in 0..WRITERS {
            let course = Course {
                name: format!("t{run:08x}-{writer}"),
                entrances: Entrances::new(nodes, writer),
                pause,
                stop: traffic.stop.clone(),
                changes: traffic.changes.clone(),
            };
            traffic.tasks.spawn(course.run());
        }
        traffic
    }

    /// Waits until so many more changes are acknowledged.
    pub async fn more(&self, count: usize) -> Result<()> {
        let goal = self.changes.load(Ordering::Acquire) + count;
        wait_for(format!("{count} more changes"), MORE_DEADLINE, async || {
            let reached = self.changes.load(Ordering::Acquire);
            ensure!(reached >= goal, "{reached} of {goal}");
            Ok(())
        })
        .await
    }

    /// Ends it; how many changes were acknowledged.
    pub async fn stop(mut self) -> Result<usize> {
        self.stop.store(true, Ordering::Release);
        while let Some(done) = self.tasks.join_next().await {
            done.context("a writer panicked")??;
        }
        Ok(self.changes.load(Ordering::Acquire))
    }
}

struct Course {
    name: String,
    entrances: Entrances,
    pause: Duration,
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicUsize>,
}

impl Course {
    async fn run(mut self) -> Result<()> {
        for generation in 0.. {
            let ids: Vec<String> = (0..INSTANCES)
                .map(|n| format!("triad/{}-{}-{n}", self.name, generation % 2))
                .collect();
            let operations = |one: &dyn Fn(&str) -> Value| ids.iter().map(|id| one(id)).collect();
            self.commit(generation, "create", operations(&create))
                .await?;
            let mut state = "first";
            for round in 0..MOVES {
                state = after(state);
                let moved = operations(&|id| transition(id, state));
                self.commit(generation, &round.to_string(), moved).await?;
                if self.stop.load(Ordering::Acquire) {
                    return Ok(());
                }
            }
            // The same names come again a generation later, as other instances.
            let gone = operations(&|id| json!({ "delete": { "id": id } }));
            self.commit(generation, "delete", gone).await?;
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        generation: usize,
        step: &str,
        operations: Vec<Value>,
    ) -> Result<()> {
        let key = format!("{}-{generation}-{step}", self.name);
        self.entrances.commit(Some(&key), &operations).await?;
        self.changes.fetch_add(operations.len(), Ordering::AcqRel);
        tokio::time::sleep(self.pause).await;
        Ok(())
    }
}
