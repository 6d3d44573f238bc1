//! What `dev` prints.
//!
//! A thread writes it, because standard output may be a terminal that is paused or a pipe that is full and not
//! read: `dev` must still handle signals and watch its nodes.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

/// Texts that wait to be written, at most; further ones are dropped.
const TEXTS_MAX: usize = 64;
/// How long the last texts may take.
const LAST_TEXTS_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Output {
    texts: SyncSender<String>,
    /// Disconnected once every text is written.
    written: Receiver<Infallible>,
}

impl Output {
    pub(super) fn start(mut writer: impl Write + Send + 'static) -> io::Result<Self> {
        let (texts, waiting) = mpsc::sync_channel::<String>(TEXTS_MAX);
        let (done, written) = mpsc::channel();
        let write = move || {
            for text in waiting {
                // It may be closed: the nodes go on running.
                let _ = writer.write_all(text.as_bytes());
                let _ = writer.flush();
            }
            drop(done);
        };
        thread::Builder::new().name("output".into()).spawn(write)?;
        Ok(Self { texts, written })
    }

    /// Never blocks.
    pub(super) fn say(&self, text: String) {
        let _ = self.texts.try_send(text);
    }

    /// Waits until all is written, or for [`LAST_TEXTS_TIMEOUT`]: it may never be.
    pub(super) fn finish(self) {
        drop(self.texts);
        let _ = self.written.recv_timeout(LAST_TEXTS_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

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
        let out = Output::start(Slow(sender)).unwrap();
        for _ in 0..TEXTS_MAX {
            out.say("x".into());
        }
        out.finish();
        assert_eq!(written.try_iter().count(), TEXTS_MAX);
    }

    #[test]
    fn a_reader_that_does_not_read_blocks_nothing() {
        let (read, writer) = io::pipe().unwrap();
        let out = Output::start(writer).unwrap();
        let began = Instant::now();
        for _ in 0..2 * TEXTS_MAX {
            out.say("x".repeat(64 << 10));
        }
        assert!(began.elapsed() < LAST_TEXTS_TIMEOUT);
        out.finish();
        assert!(began.elapsed() < 3 * LAST_TEXTS_TIMEOUT);
        drop(read);
    }
}
