//! Sinks: the other systems that follow the cluster's events.

mod change;
mod check;
mod letters;
mod status;

pub use change::Letters;
pub use check::{CHECK_PATIENCE_DEFAULT, CheckStep, SinkCheck};
pub use letters::{DeadLetter, DeadLetterPage, DeadLetters, DeadLettersCall};
pub use status::{SinkList, SinkPhase, SinkStatus};
