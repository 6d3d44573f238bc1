//! The writer thread: takes all queued operations, inserts them in order, flushes once, writes the
//! [watermark](super::watermark), and calls the completions in order.
//!
//! A failure is permanent: sled returns the error of a failed write forever, and the content of a disk after a
//! failed flush is unknown. So all later operations fail, too, until the node is restarted.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;

use super::log::Log;
use super::reserve::Reserve;
use super::slots::{SlotName, Slots};
use super::watermark::Watermark;
use super::{Done, Record, Slot, StoreError, StoreObserver};

/// Operations flushed together at most, so that a flush begins even while more keep coming.
const OPERATIONS_PER_FLUSH_MAX: usize = 4096;

/// Purged parts removed in one step when there is nothing else to do: about a millisecond's work.
const REMOVED_PER_STEP_MIN: usize = 64;

/// Something to write.
pub(super) enum Operation {
    Append(Vec<Record>),
    TruncateAfter(Option<u64>),
    Purge { upto: u64, marker: Bytes },
    Save { name: SlotName, value: Bytes },
}

struct Request {
    operation: Operation,
    done: Done,
}

/// The queue's entry. Dropping it waits until everything queued is written.
pub(super) struct Writer {
    queue: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        db: sled::Db,
        log: Log,
        slots: Slots,
        watermark: Watermark,
        reserve: Reserve,
        observer: Arc<dyn StoreObserver>,
    ) -> io::Result<Writer> {
        let (queue, requests) = mpsc::channel();
        let flusher = Flusher {
            db,
            log,
            slots,
            watermark,
            reserve,
            observer,
            removing_upto: None,
            failure: None,
        };
        let thread = thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || flusher.run(&requests))?;
        Ok(Writer {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Queues an operation. Never blocks.
    pub(super) fn submit(&self, operation: Operation, done: Done) {
        let request = Request { operation, done };
        let refused = match &self.queue {
            Some(queue) => queue.send(request).err().map(|refused| refused.0),
            None => Some(request),
        };
        if let Some(request) = refused {
            (request.done)(Err(ended().into()));
        }
    }

    /// Does one operation and waits for it. Blocks: not for async code.
    pub(super) fn perform(&self, operation: Operation) -> io::Result<()> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.submit(operation, Box::new(move |result| drop(answer.send(result))));
        answered.recv().unwrap_or_else(|_| Err(ended().into()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        // The last handle may be dropped by a callback, on this very thread.
        if let Some(thread) = self
            .thread
            .take()
            .filter(|thread| thread.thread().id() != thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

fn ended() -> StoreError {
    StoreError::Stopped {
        first: "its writing thread has ended".into(),
        kind: io::ErrorKind::Other,
    }
}

struct Failure {
    first: String,
    kind: io::ErrorKind,
}

struct Flusher {
    db: sled::Db,
    log: Log,
    slots: Slots,
    watermark: Watermark,
    reserve: Reserve,
    observer: Arc<dyn StoreObserver>,
    /// Records up to here are purged and may still take up space.
    removing_upto: Option<u64>,
    failure: Option<Failure>,
}

impl Flusher {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut batch = VecDeque::new();
        loop {
            match self.next(requests) {
                Ok(request) => batch.push_back(request),
                Err(TryRecvError::Empty) => {
                    self.remove_purged(REMOVED_PER_STEP_MIN);
                    self.sync_watermark_if_due();
                    continue;
                }
                Err(TryRecvError::Disconnected) => break,
            }
            batch.extend(requests.try_iter().take(OPERATIONS_PER_FLUSH_MAX - 1));
            self.write_batch(&mut batch);
            self.sync_watermark_if_due();
        }
        if self.failure.is_none()
            && let Err(error) = self.watermark.sync()
        {
            self.fail(&error);
        }
    }

    /// The next request; `Empty` when there is something else to do.
    fn next(&self, requests: &Receiver<Request>) -> Result<Request, TryRecvError> {
        if self.removing_upto.is_some() {
            return requests.try_recv();
        }
        match self.watermark.sync_at().filter(|_| self.failure.is_none()) {
            None => requests.recv().map_err(|_| TryRecvError::Disconnected),
            Some(at) => {
                let wait = at.saturating_duration_since(Instant::now());
                requests.recv_timeout(wait).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                })
            }
        }
    }

    fn sync_watermark_if_due(&mut self) {
        let due = self
            .watermark
            .sync_at()
            .is_some_and(|at| at <= Instant::now());
        if due
            && self.failure.is_none()
            && let Err(error) = self.watermark.sync()
        {
            self.fail(&error);
        }
    }

    fn write_batch(&mut self, batch: &mut VecDeque<Request>) {
        let mut waiting = Vec::with_capacity(batch.len());
        let mut removing_upto = None;
        let mut vote = None;
        let mut records = 0;
        for Request { operation, done } in batch.drain(..) {
            if let Operation::Append(appended) = &operation {
                records += appended.len();
            }
            if let Operation::Purge { upto, .. } = &operation {
                removing_upto = removing_upto.max(Some(*upto));
            }
            if let Operation::Save { name, value } = &operation
                && *name == SlotName::Public(Slot::Vote)
            {
                vote = Some(value.clone());
            }
            let needs_flush = !matches!(
                operation,
                Operation::Save {
                    name: SlotName::Public(Slot::Committed),
                    ..
                }
            );
            if self.failure.is_none()
                && let Err(error) = self.write(operation)
            {
                self.fail(&error);
            }
            if needs_flush || self.failure.is_some() {
                waiting.push(done);
            } else {
                done(Ok(()));
            }
        }
        if self.failure.is_none() && !waiting.is_empty() {
            self.flush(waiting.len(), vote);
        }
        for done in waiting {
            done(self.outcome());
        }
        // Only now is the purge point durable.
        self.removing_upto = self.removing_upto.max(removing_upto);
        self.remove_purged(REMOVED_PER_STEP_MIN.max(2 * records));
    }

    fn write(&mut self, operation: Operation) -> Result<(), StoreError> {
        match operation {
            Operation::Append(records) => records
                .iter()
                .try_for_each(|record| self.log.insert(record)),
            Operation::TruncateAfter(last_kept) => {
                self.watermark.lower(&self.log, last_kept)?;
                self.log.truncate_after(last_kept)
            }
            Operation::Purge { upto, marker } => {
                if self.log.purged().is_none_or(|purged| purged <= upto) {
                    self.slots.save_purge_point(upto, &marker)?;
                    self.log.purge(upto);
                }
                Ok(())
            }
            Operation::Save { name, value } => self.slots.save(name, &value),
        }
    }

    fn flush(&mut self, operations: usize, vote: Option<Bytes>) {
        let started = Instant::now();
        let flushed = self.db.flush();
        let flushed = flushed.map_err(StoreError::database("flush the log"));
        match flushed.and_then(|_| self.watermark.raise(&self.log, vote)) {
            Ok(()) => self.observer.flushed(started.elapsed(), operations),
            Err(error) => self.fail(&error),
        }
    }

    fn remove_purged(&mut self, parts_max: usize) {
        let Some(upto) = self.removing_upto.filter(|_| self.failure.is_none()) else {
            self.removing_upto = None;
            return;
        };
        match self.log.remove_purged(upto, parts_max) {
            Ok(true) => {}
            Ok(false) => self.removing_upto = None,
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &StoreError) {
        if error.is_disk_full() {
            self.reserve.give_back();
        }
        self.failure = Some(Failure {
            first: error.to_string(),
            kind: error.kind(),
        });
        self.observer.failed(error);
    }

    fn outcome(&self) -> io::Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(Failure { first, kind }) => Err(StoreError::Stopped {
                first: first.clone(),
                kind: *kind,
            }
            .into()),
        }
    }
}
