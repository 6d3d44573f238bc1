use super::*;

/// A service whose first operation takes long, and the others no time.
#[derive(Clone, Default)]
struct Stalling {
    stall: Duration,
    executed: Arc<Mutex<u64>>,
    refuses: bool,
}

impl Service for Stalling {
    type Client = Self;

    async fn connect(&self, clients: Range<usize>) -> Result<Vec<Self>, Failed> {
        if self.refuses {
            return Err(Failed::unavailable("unavailable", "refused"));
        }
        Ok(clients.map(|_| self.clone()).collect())
    }
}

impl Client for Stalling {
    async fn execute(&mut self, _: Operation) -> Result<(), Failed> {
        let first = {
            let mut executed = self.executed.lock();
            *executed += 1;
            *executed == 1
        };
        if first {
            tokio::time::sleep(self.stall).await;
        }
        Ok(())
    }
}

fn plan() -> Plan {
    Plan {
        clients: 1,
        threads: 1,
        rate: None,
        warm_up: Duration::ZERO,
        measured: Duration::from_millis(400),
        overtime: Duration::from_secs(60),
        mix: Operation::Read.into(),
    }
}

async fn recorded(service: &Stalling, plan: &Plan) -> Record {
    let record = run(service.clone(), plan, &Stop::default(), |_, _| ()).await;
    record.expect("it connects")
}

/// How many operations took at least so long.
fn slow(record: &Record, at_least: Duration) -> u64 {
    let done = &record.tallies[&Operation::Read].done;
    done.count_between(at_least.as_micros() as u64, u64::MAX)
}

#[tokio::test]
async fn in_an_open_loop_a_stall_shows_in_every_operation_that_waited_for_it() {
    let stall = Duration::from_millis(200);
    let service = Stalling {
        stall,
        ..Stalling::default()
    };
    let record = recorded(
        &service,
        &Plan {
            rate: Some(1000),
            ..plan()
        },
    )
    .await;
    assert_eq!(record.total().done.len(), 400, "none is left out");
    // Those that were due in the first half of the stall. A slow machine only adds to them.
    let waited = slow(&record, stall / 2);
    assert!(waited >= 95, "{waited}");
}

#[tokio::test]
async fn in_a_closed_loop_a_stall_is_one_slow_operation() {
    let service = Stalling {
        stall: Duration::from_millis(300),
        ..Stalling::default()
    };
    let record = recorded(&service, &plan()).await;
    assert_eq!(record.total().done.len(), *service.executed.lock());
    assert!(slow(&record, service.stall) >= 1);
    assert!(record.total().done.len() > 1, "it goes on after the stall");
}

#[tokio::test]
async fn what_an_open_loop_could_not_send_counts_as_failed() {
    let service = Stalling {
        stall: Duration::from_millis(500),
        ..Stalling::default()
    };
    let plan = Plan {
        rate: Some(1000),
        overtime: Duration::ZERO,
        ..plan()
    };
    let total = recorded(&service, &plan).await.total();
    assert_eq!((total.done.len(), total.failures()), (1, 399));
    assert_eq!(total.failed["not_sent"].count, 399);
}

#[tokio::test]
async fn warm_up_is_not_recorded() {
    let service = Stalling::default();
    let plan = Plan {
        rate: Some(100),
        warm_up: Duration::from_millis(300),
        measured: Duration::from_millis(200),
        ..plan()
    };
    let record = recorded(&service, &plan).await;
    assert_eq!(record.total().done.len(), 20);
    assert_eq!(*service.executed.lock(), 50);
    assert!(record.measured >= plan.measured);
}

#[tokio::test]
async fn all_clients_of_all_threads_take_part_and_no_tick_is_lost() {
    let service = Stalling::default();
    let plan = Plan {
        clients: 7,
        threads: 3,
        rate: Some(2000),
        measured: Duration::from_millis(1500),
        ..plan()
    };
    let mut ticked = 0;
    let tick = |second: &Record, _| ticked += second.total().done.len();
    let record = run(service, &plan, &Stop::default(), tick).await.unwrap();
    assert_eq!(record.total().done.len(), 3000);
    assert!((1..=3000).contains(&ticked), "{ticked}");
}

#[tokio::test]
async fn a_stopped_run_ends_and_reports_what_it_has() {
    for rate in [None, Some(10)] {
        let plan = Plan {
            rate,
            measured: Duration::from_secs(3600),
            ..plan()
        };
        let stop = Stop::default();
        let first = |_: &Record, since: Duration| {
            if since > Duration::from_millis(500) {
                stop.set();
            }
        };
        let record = run(Stalling::default(), &plan, &stop, first).await.unwrap();
        assert!(!record.total().done.is_empty(), "{rate:?}");
        assert!(record.measured < Duration::from_secs(3600), "{rate:?}");
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_an_error() {
    let service = Stalling {
        refuses: true,
        ..Stalling::default()
    };
    let refused = run(service, &plan(), &Stop::default(), |_, _| ()).await;
    assert_eq!(refused.expect_err("it refuses").code, "unavailable");
}
