//! Tests whether the receiver would accept events.

use std::time::{Duration, Instant, SystemTime};

use humantime::format_duration;

use super::endpoint::Endpoint;
use super::message::check_body;
use crate::config::Sink;
use crate::sink::{CheckSteps, SinkError};

const MESSAGES: u32 = 3;

/// Sends messages of a type that carries no event, and one of them twice: a receiver must accept
/// repetitions, since a message whose answer was lost is sent again.
pub(super) async fn check(sink: &Sink, steps: &mut CheckSteps) -> Option<()> {
    let opening = Endpoint::open(sink, None);
    let opened = |_: &Endpoint| "the host name resolves".to_owned();
    let endpoint = steps.take("connect", opening, opened).await?;
    // The same in a repetition, which equals the first message in every byte.
    let (id, at) = (
        format!("check_{:032x}", rand::random::<u128>()),
        SystemTime::now(),
    );
    // The status and how long it took.
    let send = |number: u32| {
        let (id, endpoint) = (format!("{id}_{number}"), &endpoint);
        let body = check_body(sink.name.as_str(), number, at);
        async move {
            let began = Instant::now();
            match endpoint.send(&id, body).await {
                Ok(status) => Ok(format!("{} in {}", status.as_u16(), elapsed(began))),
                Err(error) => Err(SinkError::unavailable(format!("message {number}: {error}"))),
            }
        }
    };
    let inserting = async {
        let mut answers = vec![];
        for number in 1..=MESSAGES {
            answers.push(send(number).await?);
        }
        Ok(answers.join(", "))
    };
    let step = format!("insert {MESSAGES}");
    steps.take(step, inserting, String::clone).await?;
    let repeated = |answer: &String| format!("message 2 again: {answer}");
    steps.take("find one", send(2), repeated).await?;
    let nothing = |(): &()| "nothing to drop: the receiver owns what it stores".to_owned();
    steps.take("drop", async { Ok(()) }, nothing).await
}

/// In whole microseconds.
fn elapsed(began: Instant) -> impl std::fmt::Display {
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    format_duration(Duration::from_micros(micros))
}
