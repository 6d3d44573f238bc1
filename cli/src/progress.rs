//! A progress bar on stderr, if that is a terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that goes away when it is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Over so many bytes of input; over an unknown number without one.
    pub(super) fn over_bytes(total: Option<u64>) -> Self {
        let bar = "{bar:30} {bytes}/{total_bytes} {msg} {eta}";
        Self::new(total, bar, "{spinner} {msg}")
    }

    /// Over so many things.
    pub(super) fn over_count(total: u64) -> Self {
        let bar = "{bar:30} {human_pos}/{human_len} {msg} {eta}";
        Self::new(Some(total), bar, bar)
    }

    /// Over so many seconds.
    pub(super) fn over_seconds(total: u64) -> Self {
        let bar = "{bar:30} {pos}/{len} s {msg}";
        Self::new(Some(total), bar, bar)
    }

    fn new(total: Option<u64>, with_total: &str, without: &str) -> Self {
        // Draws nothing unless stderr is a terminal.
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        let template = if total.is_some() { with_total } else { without };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// Shows the position, with a text beside it.
    pub(super) fn show(&self, position: u64, beside: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_position(position);
            self.0.set_message(beside());
        }
    }

    /// Hides the bar while something is printed to stderr.
    pub(super) fn aside<T>(&self, say: impl FnOnce() -> T) -> T {
        self.0.suspend(say)
    }

    /// Hides the bar while something is printed to stdout, if that is the same terminal.
    pub(super) fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        if io::stdout().is_terminal() {
            self.0.suspend(print)
        } else {
            print()
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
