//! Tests whether the receiver would accept events.

use std::time::{Duration, Instant, SystemTime};

use humantime::format_duration;

use super::endpoint::Endpoint;
use super::message::Message;
use crate::config::{self, WebhookSink};
use crate::sink::{CheckSteps, SinkError};

/// Messages sent first.
const MESSAGES: u32 = 3;

/// Sends messages of a type that carries no event, and one of them twice: a receiver must accept
/// repetitions, since a message whose answer was lost is sent again.
pub(super) async fn check(
    sink: &config::Sink,
    webhook: &WebhookSink,
    steps: &mut CheckSteps,
) -> Option<()> {
    let opening = Endpoint::open(sink, webhook, None);
    let opened = |_: &Endpoint| "the host name resolves".to_owned();
    let round = Round {
        endpoint: steps.take("connect", opening, opened).await?,
        sink: sink.name.as_str(),
        id: format!("check_{:032x}", rand::random::<u128>()),
        at: SystemTime::now(),
    };
    let inserting = async {
        let mut answers = vec![];
        for number in 1..=MESSAGES {
            answers.push(round.send(number).await?);
        }
        Ok(answers.join(", "))
    };
    let step = format!("insert {MESSAGES}");
    steps.take(step, inserting, String::clone).await?;
    let repeated = |answer: &String| format!("message 2 again: {answer}");
    steps.take("find one", round.send(2), repeated).await?;
    let nothing = |(): &()| "nothing to drop: the receiver owns what it stores".to_owned();
    steps.take("drop", async { Ok(()) }, nothing).await
}

struct Round<'a> {
    endpoint: Endpoint,
    sink: &'a str,
    id: String,
    /// The same in a repetition, which equals the first message in every byte.
    at: SystemTime,
}

impl Round<'_> {
    /// Sends a message. The status and how long it took.
    async fn send(&self, number: u32) -> Result<String, SinkError> {
        let id = format!("{}_{number}", self.id);
        let message = Message::of_check(id, self.sink, number, self.at);
        let began = Instant::now();
        match self.endpoint.send(message).await {
            Ok(status) => Ok(format!("{} in {}", status.as_u16(), elapsed(began))),
            Err(failed) => Err(SinkError::unavailable(format!(
                "message {number}: {}",
                failed.error
            ))),
        }
    }
}

/// In whole microseconds.
fn elapsed(began: Instant) -> impl std::fmt::Display {
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    format_duration(Duration::from_micros(micros))
}
