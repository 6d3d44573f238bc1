//! Output that never blocks: a thread of its own writes it.
//!
//! Standard output and standard error may be a terminal that is paused, a pipe that is full and not read, or a
//! file on a full disk. None of that may stop or delay a process. What waits to be written is bounded; what
//! cannot be written is dropped and counted, and once writing works again, a report says how much was lost.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// How long the last texts may take when the process ends.
const LAST_TEXTS_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at the texts that wait.
const LAST_TEXTS_STEP: Duration = Duration::from_millis(1);

/// The texts that wait for the thread that writes them. Clones share it.
///
/// Not `tracing_appender`: when its guard is dropped while the queue is full, it prints to standard output, which
/// blocks if that is the same pipe, and panics if that is closed.
#[derive(Clone)]
pub struct Output {
    texts: SyncSender<Vec<u8>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Texts that are not written yet.
    waiting: AtomicUsize,
    /// Texts that could not be written, or for which the queue had no room.
    lost: AtomicU64,
}

impl Output {
    /// Starts the thread, which writes to `writer`. At most `texts_max` texts wait for it; each is a line or several.
    ///
    /// `report` says how many texts were lost. It may write to the writer, or add a text to this output.
    ///
    /// # Errors
    ///
    /// The system starts no thread.
    pub fn start<W, R>(thread: &str, texts_max: usize, writer: W, report: R) -> io::Result<Self>
    where
        W: Write + Send + 'static,
        R: FnMut(u64, &mut W) -> io::Result<()> + Send + 'static,
    {
        let (texts, received) = mpsc::sync_channel::<Vec<u8>>(texts_max);
        let counts = Arc::new(Counts::default());
        let mut writer = Writer {
            inner: writer,
            report,
            reported: 0,
            texts_max,
            counts: counts.clone(),
        };
        let write = move || {
            while let Ok(text) = received.recv() {
                writer.write(&text);
                writer.counts.waiting.fetch_sub(1, Ordering::Release);
            }
        };
        thread::Builder::new().name(thread.into()).spawn(write)?;
        Ok(Self { texts, counts })
    }

    /// Adds a text, or drops it if there is no room. Never blocks.
    pub fn say(&self, text: impl Into<Vec<u8>>) {
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        if self.texts.try_send(text.into()).is_err() {
            self.counts.waiting.fetch_sub(1, Ordering::Release);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many texts were lost so far.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }

    /// Waits until all texts are written, or for one second: they may never be.
    pub fn drain(&self) {
        let deadline = Instant::now() + LAST_TEXTS_TIMEOUT;
        while self.counts.waiting.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            thread::sleep(LAST_TEXTS_STEP);
        }
    }
}

impl Write for Output {
    /// Each call has one text. Never fails.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.say(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes texts, and says after a failure how many were lost.
struct Writer<W, R> {
    inner: W,
    report: R,
    /// How many lost texts were reported.
    reported: u64,
    texts_max: usize,
    counts: Arc<Counts>,
}

impl<W: Write, R: FnMut(u64, &mut W) -> io::Result<()>> Writer<W, R> {
    /// Writes one text, and then reports the texts lost, if the queue has room: the report may be a text itself, and
    /// must not be lost for want of it.
    fn write(&mut self, text: &[u8]) {
        let written = self.inner.write_all(text);
        if written.and_then(|()| self.inner.flush()).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = self.counts.lost.load(Ordering::Relaxed);
        let unreported = lost - self.reported;
        let has_room = self.counts.waiting.load(Ordering::Relaxed) <= self.texts_max / 2;
        if unreported > 0 && has_room && (self.report)(unreported, &mut self.inner).is_ok() {
            self.reported = lost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS_MAX: usize = 64;

    #[test]
    fn a_text_that_cannot_be_written_is_counted_and_reported_once_that_works_again() {
        struct Full(bool, Vec<u8>);
        impl Write for Full {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                match self.0 {
                    true => Err(io::ErrorKind::StorageFull.into()),
                    false => self.1.write(text),
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = Writer {
            inner: Full(true, vec![]),
            report: |lost, out: &mut Full| writeln!(out, "{lost} lost"),
            reported: 0,
            texts_max: TEXTS_MAX,
            counts: Arc::default(),
        };
        for _ in 0..3 {
            writer.write(b"a\n");
        }
        writer.inner.0 = false;
        // The report might be lost.
        writer.counts.waiting.store(TEXTS_MAX, Ordering::Relaxed);
        writer.write(b"b\n");
        writer.counts.waiting.store(1, Ordering::Relaxed);
        writer.write(b"c\n");
        writer.write(b"d\n");
        let written = String::from_utf8(writer.inner.1).unwrap();
        assert_eq!(written, "b\nc\n3 lost\nd\n");
    }

    #[test]
    fn a_writer_that_blocks_holds_no_more_than_the_queue_and_delays_no_end() {
        let (read, writer) = io::pipe().unwrap();
        let out = Output::start("test", TEXTS_MAX, writer, |_, _| Ok(())).unwrap();
        let began = Instant::now();
        for _ in 0..3 * TEXTS_MAX {
            out.say("x".repeat(64 << 10));
        }
        // The thread may hold one.
        assert!(out.counts.waiting.load(Ordering::Relaxed) <= TEXTS_MAX + 1);
        assert!(out.lost() >= TEXTS_MAX as u64);
        assert!(began.elapsed() < LAST_TEXTS_TIMEOUT);
        out.drain();
        assert!(began.elapsed() < 3 * LAST_TEXTS_TIMEOUT);
        drop(read);
    }

    #[test]
    fn all_is_written_before_the_end() {
        struct Slow(mpsc::Sender<u8>);
        impl Write for Slow {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                thread::sleep(Duration::from_millis(1));
                let sent = text.iter().try_for_each(|byte| self.0.send(*byte));
                sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
                Ok(text.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, written) = mpsc::channel();
        let out = Output::start("test", TEXTS_MAX, Slow(sender), |_, _| Ok(())).unwrap();
        for _ in 0..TEXTS_MAX {
            out.say("x");
        }
        out.drain();
        assert_eq!(written.try_iter().count(), TEXTS_MAX);
    }
}
