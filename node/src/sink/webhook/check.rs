//! A round trip through the receiver, to see whether it would take events.

use std::time::{Duration, Instant, SystemTime};

use humantime::format_duration;

use super::answer::Failure;
use super::endpoint::Endpoint;
use super::message::Message;
use crate::config::{self, WebhookSink};
use crate::sink::CheckStep;

/// Messages sent first.
const MESSAGES: u32 = 3;

/// Sends messages of a type that tells of nothing, one of them twice: a receiver has to take a
/// repetition, since a message whose answer got lost comes again. Nothing follows a step that failed.
pub(super) async fn check(sink: &config::Sink, webhook: &WebhookSink) -> Vec<CheckStep> {
    let mut steps = vec![];
    let began = Instant::now();
    let endpoint = match Endpoint::open(sink, webhook, None).await {
        Ok(endpoint) => endpoint,
        Err(error) => return vec![step("connect", began, Err(error.to_string()))],
    };
    steps.push(step("connect", began, Ok("it has an address".to_owned())));

    let round = Round {
        endpoint,
        sink: &sink.name,
        id: format!("check_{:032x}", rand::random::<u128>()),
        at: SystemTime::now(),
    };
    let began = Instant::now();
    let insert = round.insert().await;
    let failed = insert.is_err();
    steps.push(step(&format!("insert {MESSAGES}"), began, insert));
    if failed {
        return steps;
    }

    let began = Instant::now();
    let again = round.send(2).await;
    let failed = again.is_err();
    let again = again.map(|answer| format!("the second once more: {answer}"));
    steps.push(step("find one", began, again));
    if failed {
        return steps;
    }

    let nothing = "nothing to drop: what a receiver keeps is its own".to_owned();
    steps.push(step("drop", Instant::now(), Ok(nothing)));
    steps
}

struct Round<'a> {
    endpoint: Endpoint,
    sink: &'a str,
    id: String,
    /// The same in a repetition, which is equal to the first in every byte.
    at: SystemTime,
}

impl Round<'_> {
    async fn insert(&self) -> Result<String, String> {
        let mut answers = vec![];
        for number in 1..=MESSAGES {
            answers.push(self.send(number).await?);
        }
        Ok(answers.join(", "))
    }

    /// The status and how long it took.
    async fn send(&self, number: u32) -> Result<String, String> {
        let id = format!("{}_{number}", self.id);
        let message = Message::of_check(id, self.sink, number, self.at);
        let began = Instant::now();
        match self.endpoint.send(message).await {
            Ok(status) => Ok(format!("{} in {}", status.as_u16(), since(began))),
            Err(Failure::Refused(reason)) => Err(format!("message {number}: {reason}")),
            Err(Failure::Failed(error) | Failure::Down(error)) => {
                Err(format!("message {number}: {error}"))
            }
        }
    }
}

fn step(step: &str, began: Instant, result: Result<String, String>) -> CheckStep {
    CheckStep {
        step: step.to_owned(),
        took: began.elapsed(),
        result,
    }
}

/// In whole microseconds: more is noise.
fn since(began: Instant) -> impl std::fmt::Display {
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    format_duration(Duration::from_micros(micros))
}
