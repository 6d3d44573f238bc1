//! The writer thread: takes all queued operations, carries them out in order, flushes once, writes the
//! [watermark](super::watermark), and calls the completions in order.
//!
//! Entries go to a segment of the log, everything else to a slot in sled: two flushes, in the order of the
//! operations. Batches with both are rare, because the committed position, which changes with every batch and waits
//! for no flush, is written to its slot only now and then.
//!
//! A failure is permanent: the content of a disk after a failed flush is unknown. So all later operations fail,
//! too, until the node is restarted.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::log::Log;
use super::log_writer::LogWriter;
use super::reserve::Reserve;
use super::slots::{SlotName, Slots};
use super::watermark::Watermark;
use super::{Done, Record, Slot, StoreError, StoreObserver};

/// Operations flushed together at most, so that a flush begins even while more keep coming.
const OPERATIONS_PER_FLUSH_MAX: usize = 4096;

/// The longest time that a committed position stays unwritten.
const COMMITTED_EVERY: Duration = Duration::from_millis(100);

/// Something to write.
pub(super) enum Operation {
    Append(Vec<Record>),
    TruncateAfter(Option<u64>),
    Purge {
        upto: u64,
        marker: Bytes,
    },
    Save {
        name: SlotName,
        value: Bytes,
    },
    /// A committed position was left in the mailbox.
    NoteCommitted,
}

/// The newest committed position that is not in its slot yet. The thread is woken when it is filled, not when it
/// changes: otherwise, every entry would wake the thread once more.
type Mailbox = Arc<Mutex<Option<Bytes>>>;

struct Request {
    operation: Operation,
    done: Done,
}

/// The queue's entry. Dropping it waits until everything queued is written.
pub(super) struct Writer {
    queue: Option<Sender<Request>>,
    committed: Mailbox,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(
        (log, log_writer, slots): (Log, LogWriter, Slots),
        watermark: Watermark,
        reserve: Reserve,
        observer: Arc<dyn StoreObserver>,
    ) -> io::Result<Writer> {
        let (queue, requests) = mpsc::channel();
        let committed = Mailbox::default();
        let flusher = Flusher {
            log,
            log_writer,
            slots,
            slots_changed: false,
            committed: committed.clone(),
            committed_since: None,
            watermark,
            reserve,
            reserve_given_back: false,
            observer,
            cleaning: true,
            failure: None,
        };
        let thread = thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || flusher.run(&requests))?;
        Ok(Writer {
            queue: Some(queue),
            committed,
            thread: Some(thread),
        })
    }

    /// Notes how far the log is committed. It is durable some time later.
    pub(super) fn note_committed(&self, position: Bytes) {
        if self.committed.lock().replace(position).is_none() {
            self.submit(Operation::NoteCommitted, Box::new(|_| ()));
        }
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
    log: Log,
    log_writer: LogWriter,
    slots: Slots,
    /// Whether slots were written since their last flush.
    slots_changed: bool,
    committed: Mailbox,
    /// Since when the mailbox is filled.
    committed_since: Option<Instant>,
    watermark: Watermark,
    reserve: Reserve,
    /// It is allocated again once a purge has freed space.
    reserve_given_back: bool,
    observer: Arc<dyn StoreObserver>,
    /// Whether the disk may hold what is no longer in the log.
    cleaning: bool,
    failure: Option<Failure>,
}

impl Flusher {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut batch = VecDeque::new();
        loop {
            match self.next(requests) {
                Ok(request) => batch.push_back(request),
                Err(TryRecvError::Empty) => {
                    self.clean();
                    self.write_what_is_due(Instant::now());
                    continue;
                }
                Err(TryRecvError::Disconnected) => break,
            }
            batch.extend(requests.try_iter().take(OPERATIONS_PER_FLUSH_MAX - 1));
            self.write_batch(&mut batch);
            self.write_what_is_due(Instant::now());
        }
        while self.cleaning && self.failure.is_none() {
            self.clean();
        }
        self.attempt(|it| {
            it.write_committed()?;
            it.slots.flush()?;
            it.watermark.sync()
        });
    }

    /// The next request; `Empty` when there is something else to do.
    fn next(&self, requests: &Receiver<Request>) -> Result<Request, TryRecvError> {
        if self.cleaning {
            return requests.try_recv();
        }
        match self.due_at().filter(|_| self.failure.is_none()) {
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

    /// When something has to be written although nothing came.
    fn due_at(&self) -> Option<Instant> {
        let committed = self.committed_at();
        let watermark = self.watermark.sync_at();
        committed.into_iter().chain(watermark).min()
    }

    fn committed_at(&self) -> Option<Instant> {
        self.committed_since.map(|since| since + COMMITTED_EVERY)
    }

    fn write_what_is_due(&mut self, now: Instant) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.committed_at()) {
            self.attempt(Self::write_committed);
        }
        if is_due(self.watermark.sync_at()) {
            self.attempt(|it| it.watermark.sync());
        }
    }

    /// The entries up to this position were flushed before. It is durable with sled's next flush.
    fn write_committed(&mut self) -> Result<(), StoreError> {
        self.committed_since = None;
        let value = self.committed.lock().take();
        match value {
            Some(value) => self.slots.save(SlotName::Public(Slot::Committed), &value),
            None => Ok(()),
        }
    }

    fn write_batch(&mut self, batch: &mut VecDeque<Request>) {
        let mut waiting = Vec::with_capacity(batch.len());
        let mut vote = None;
        for Request { operation, done } in batch.drain(..) {
            match operation {
                Operation::NoteCommitted => {
                    self.committed_since.get_or_insert_with(Instant::now);
                    continue;
                }
                Operation::Save {
                    name: SlotName::Public(Slot::Vote),
                    ref value,
                } => vote = Some(value.clone()),
                _ => {}
            }
            self.attempt(|it| it.write(operation));
            waiting.push(done);
        }
        if !waiting.is_empty() {
            let (started, operations) = (Instant::now(), waiting.len());
            self.attempt(|it| {
                it.flush()?;
                it.watermark.raise(&it.log, vote)?;
                it.observer.flushed(started.elapsed(), operations);
                Ok(())
            });
        }
        for done in waiting {
            done(self.outcome());
        }
        self.clean();
    }

    /// Carries out one operation; the order in which slots and entries are flushed is theirs.
    fn write(&mut self, operation: Operation) -> Result<(), StoreError> {
        match operation {
            Operation::Append(records) => {
                if self.slots_changed {
                    self.flush_slots()?;
                }
                records.iter().try_for_each(|record| self.append(record))
            }
            Operation::TruncateAfter(last_kept) => {
                self.begin_slots()?;
                self.watermark.lower(&self.log, last_kept)?;
                self.log_writer.truncate_after(last_kept)
            }
            Operation::Purge { upto, marker } => {
                self.begin_slots()?;
                if self.log.purged().is_none_or(|purged| purged <= upto) {
                    self.slots.save_purge_point(upto, &marker)?;
                    self.log_writer.purge(upto)?;
                }
                if std::mem::take(&mut self.reserve_given_back) {
                    self.reserve_given_back = !self.reserve.ensure();
                }
                Ok(())
            }
            Operation::Save { name, value } => {
                self.begin_slots()?;
                self.slots.save(name, &value)
            }
            Operation::NoteCommitted => Ok(()),
        }
    }

    /// Where another segment does not fit, it takes the space of the reserve: nothing was written yet.
    fn append(&mut self, record: &Record) -> Result<(), StoreError> {
        match self.log_writer.append(record) {
            Err(StoreError::NoSpace { .. }) if self.reserve.give_back() => {
                self.reserve_given_back = true;
                self.log_writer.append(record)
            }
            appended => appended,
        }
    }

    /// Call before slots are changed.
    fn begin_slots(&mut self) -> Result<(), StoreError> {
        self.slots_changed = true;
        self.log_writer.flush()
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.log_writer.flush()?;
        if self.slots_changed {
            self.flush_slots()?;
        }
        self.cleaning |= self.log_writer.has_leftovers();
        Ok(())
    }

    fn flush_slots(&mut self) -> Result<(), StoreError> {
        self.slots.flush()?;
        self.slots_changed = false;
        // A purge or a truncation may have been among them.
        self.cleaning = true;
        Ok(())
    }

    /// One step, so that requests need not wait.
    fn clean(&mut self) {
        if self.cleaning {
            self.cleaning = false;
            self.attempt(|it| {
                it.cleaning = it.log_writer.clean()?;
                Ok(())
            });
        }
    }

    /// Does something, unless the store has failed. A failure is final.
    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Result<(), StoreError>) {
        if self.failure.is_none()
            && let Err(error) = work(self)
        {
            self.fail(&error);
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
