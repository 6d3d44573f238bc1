//! Executes a plan.

use std::cell::Cell;
use std::future::Future;
use std::ops::Range;
use std::panic;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use crate::operation::Operation;
use crate::plan::{Plan, Schedule, Times};
use crate::record::{Failed, Record};

/// Before a client's next operation, when the last was not answered: a service that refuses at once is not flooded.
const PAUSE: Duration = Duration::from_millis(50);
/// Operations that become due within this are released together: more wake-ups would only cost processor time.
const PACE_MIN: Duration = Duration::from_micros(100);
/// How long it may take to notice that a run was stopped.
const PACE_MAX: Duration = Duration::from_millis(100);
/// How often the progress is shown.
const TICK: Duration = Duration::from_secs(1);

/// What is put under load.
pub trait Service: Send + Sync + 'static {
    /// A client of it.
    type Client: Client;

    /// Connects the clients of one thread, by their numbers.
    fn connect(
        &self,
        clients: Range<usize>,
    ) -> impl Future<Output = Result<Vec<Self::Client>, Failed>>;
}

/// A client, which executes one operation at a time.
pub trait Client: 'static {
    /// Executes one operation, within a deadline of its own.
    fn execute(&mut self, operation: Operation) -> impl Future<Output = Result<(), Failed>>;
}

/// Ends a run early. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends the run: no further operation is sent.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is to end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Executes a plan. `tick` gets what was recorded in each second, and how long the run takes so far.
///
/// # Errors
/// A client cannot connect. Once all are connected, failures are counted.
pub async fn run<S: Service>(
    service: S,
    plan: &Plan,
    stop: &Stop,
    mut tick: impl FnMut(&Record, Duration),
) -> Result<Record, Failed> {
    let service = Arc::new(service);
    let (start, started) = watch::channel(None);
    let (ready, mut connected) = mpsc::channel(plan.threads);
    let mut threads = Vec::new();
    for number in 0..plan.threads {
        let thread = Thread {
            number,
            plan: plan.clone(),
            stop: stop.clone(),
            record: Arc::default(),
        };
        let record = thread.record.clone();
        let (service, started, ready) = (service.clone(), started.clone(), ready.clone());
        let handle = thread::spawn(move || thread.run(&*service, started, &ready));
        threads.push((handle, record));
    }
    drop(ready);
    for _ in 0..plan.threads {
        // None: a thread has panicked.
        if let Some(connected) = connected.recv().await {
            connected?;
        }
    }

    let times = Times::of(plan, Instant::now());
    let _ = start.send(Some(times));
    let mut record = Record::default();
    let mut cpu_before = process_cpu();
    let mut ticks = tokio::time::interval(TICK);
    let warm = tokio::time::sleep_until(times.recorded_from.into());
    let mut warm = std::pin::pin!(warm);
    let mut is_warm = false;
    loop {
        tokio::select! {
            () = &mut warm, if !is_warm => {
                is_warm = true;
                cpu_before = process_cpu();
            }
            _ = ticks.tick() => {
                let second = take(&threads);
                tick(&second, times.start.elapsed());
                record.merge(&second);
            }
            // Every thread has ended.
            _ = connected.recv() => break,
        }
    }
    record.merge(&take(&threads));
    record.generator_cpu = process_cpu().saturating_sub(cpu_before);
    let elapsed = times.recorded_from.elapsed();
    record.measured = match plan.rate {
        _ if stop.is_set() => elapsed.min(plan.measured),
        None => plan.measured,
        // What was sent late took longer.
        Some(_) => elapsed.max(plan.measured),
    };
    for (handle, _) in threads {
        if let Err(panicked) = handle.join() {
            panic::resume_unwind(panicked);
        }
    }
    Ok(record)
}

/// What the threads have recorded since the last time.
fn take(threads: &[(JoinHandle<()>, Arc<Mutex<Record>>)]) -> Record {
    let mut all = Record::default();
    for (_, record) in threads {
        all.merge(&std::mem::take(&mut *record.lock()));
    }
    all
}

/// Processor time of this process.
fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.try_into().unwrap_or_default()
}

/// One thread of the generator.
struct Thread {
    number: usize,
    plan: Plan,
    stop: Stop,
    record: Arc<Mutex<Record>>,
}

impl Thread {
    fn run<S: Service>(
        self,
        service: &S,
        started: watch::Receiver<Option<Times>>,
        ready: &mpsc::Sender<Result<(), Failed>>,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = ready.try_send(Err(Failed::unavailable("local", error)));
                return;
            }
        };
        LocalSet::new().block_on(&runtime, self.generate(service, started, ready));
    }

    async fn generate<S: Service>(
        self,
        service: &S,
        mut started: watch::Receiver<Option<Times>>,
        ready: &mpsc::Sender<Result<(), Failed>>,
    ) {
        let clients = service.connect(self.clients()).await;
        let (clients, connected) = match clients {
            Ok(clients) => (clients, Ok(())),
            Err(failed) => (Vec::new(), Err(failed)),
        };
        // There is room for a message of each thread.
        let _ = ready.try_send(connected);
        // Where another thread could not connect, nothing starts.
        let Ok(times) = started.wait_for(Option::is_some).await.map(|it| *it) else {
            return;
        };
        let Some(times) = times else { return };
        let arrivals = Rc::new(self.arrivals(&times));
        let this = Rc::new(self);
        let mut tasks = JoinSet::new();
        for client in clients {
            tasks.spawn_local(this.clone().drive(client, arrivals.clone(), times));
        }
        tasks.join_all().await;
    }

    /// The numbers of its clients.
    fn clients(&self) -> Range<usize> {
        let bound = |thread: usize| thread * self.plan.clients / self.plan.threads;
        bound(self.number)..bound(self.number + 1)
    }

    fn arrivals(&self, times: &Times) -> Arrivals {
        let Some(rate) = self.plan.rate else {
            return Arrivals::Closed;
        };
        let schedule = Schedule::of(rate, times, self.number, self.plan.threads);
        let due = Arc::new(Semaphore::new(0));
        let (released, stop) = (due.clone(), self.stop.clone());
        // A thread, because the runtime's timers have a resolution of a millisecond.
        thread::spawn(move || pace(&schedule, &released, &stop));
        Arrivals::Open {
            schedule,
            due,
            taken: Cell::new(0),
        }
    }

    /// Has one client execute operations until the end.
    async fn drive(self: Rc<Self>, mut client: impl Client, arrivals: Rc<Arrivals>, times: Times) {
        while let Some(from) = arrivals.next().await {
            let is_late = match *arrivals {
                Arrivals::Closed => from >= times.end,
                Arrivals::Open { .. } => false,
            };
            if is_late || self.stop.is_set() {
                return;
            }
            let operation = self.plan.mix.pick();
            let is_sent = Instant::now() < times.last;
            let result = match is_sent {
                true => client.execute(operation).await,
                false => Err(not_sent()),
            };
            if from >= times.recorded_from {
                self.record.lock().add(operation, from.elapsed(), &result);
            }
            if is_sent && result.is_err_and(|failed| !failed.rejected) {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn not_sent() -> Failed {
    Failed::unavailable(
        "not_sent",
        "no client was free in time: the service does not keep up with the rate",
    )
}

/// When operations begin.
enum Arrivals {
    /// As soon as a client is free.
    Closed,
    /// When they are due.
    Open {
        schedule: Schedule,
        /// A permit for each that is due. Closed when the run is stopped.
        due: Arc<Semaphore>,
        /// How many have a client.
        taken: Cell<u64>,
    },
}

impl Arrivals {
    /// The time from which the latency of the next operation counts, as soon as it is to be sent. None after the
    /// last.
    async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed => {
                // A service that answers without a wait leaves no time for other clients.
                tokio::task::coop::consume_budget().await;
                Some(Instant::now())
            }
            Self::Open {
                schedule,
                due,
                taken,
            } => {
                let number = taken.get();
                if number >= schedule.count {
                    return None;
                }
                taken.set(number + 1);
                due.acquire().await.ok()?.forget();
                Some(schedule.due(number))
            }
        }
    }
}

/// Releases the operations of one thread when they are due.
fn pace(schedule: &Schedule, due: &Semaphore, stop: &Stop) {
    let mut released = 0;
    while released < schedule.count {
        if stop.is_set() {
            due.close();
            return;
        }
        let by_now = schedule.due_by(Instant::now());
        due.add_permits((by_now - released) as usize);
        released = by_now;
        let wait = schedule
            .due(released)
            .saturating_duration_since(Instant::now());
        thread::sleep(wait.clamp(PACE_MIN, PACE_MAX));
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
