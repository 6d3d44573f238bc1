//! `lockstep sink dead-letters`.

use clap::Args;
use lockstep_client::{Client, DeadLetter, DeadLettersCall};
use serde_json::json;

use super::{explained, shown};
use crate::args::Maybe;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::{Context, shape, time};

/// Dead letters on one page at most.
const PAGE_MAX: u32 = 1000;

/// List the events that a sink's far side refused for good, and why
#[derive(Debug, Args)]
#[command(after_help = "\
In the order of the events; the sink goes on behind them. Mend what the reason says, then have them
written once more with `lockstep sink replay`, or give them up with `lockstep sink discard`. One of the
kind seeded is no event: it stands for a state that was refused when all of them were written.

Examples:
  lockstep sink dead-letters reports
  lockstep sink dead-letters reports --all -o json | jq -r '.dead_letters[] | .place + \" \" + .reason'")]
pub(super) struct DeadLetters {
    /// The sink
    #[arg(value_name = "NAME")]
    sink: String,

    /// Dead letters to show at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,

    /// Show all there are
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// Begin where an earlier list ended: its next_cursor
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

impl DeadLetters {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let Self { sink, cursor, .. } = self;
        let wanted = if self.all { u64::MAX } else { self.limit };
        let call = DeadLettersCall::of(&sink).maybe(cursor, DeadLettersCall::cursor);
        let client = context.target.client()?;
        let gathered = gather(&client, call, wanted).await;
        let (letters, next_cursor) = gathered.map_err(|error| explained(error, &sink))?;
        if context.output == Format::Json {
            let letters: Vec<_> = letters.iter().map(shown::dead_letter).collect();
            let body = json!({ "dead_letters": letters, "next_cursor": next_cursor });
            return Ok(output::json(&body));
        }
        if letters.is_empty() {
            output::say(&format!("lockstep: {sink} has no dead letters"));
        }
        if next_cursor.is_some() {
            let shown = letters.len();
            output::say(&format!("lockstep: {shown} shown; --all shows the rest"));
        }
        Ok(output::table(
            [
                "EVENT", "SUBJECT", "KIND", "ATTEMPTS", "BURIED", "TRIED", "REPLAY", "REASON",
            ],
            letters.iter().map(row),
        ))
    }
}

/// Up to `wanted` dead letters, and where a later list goes on: there are only so many.
async fn gather(
    client: &Client,
    call: DeadLettersCall,
    wanted: u64,
) -> Result<(Vec<DeadLetter>, Option<String>), lockstep_client::Error> {
    let mut letters = vec![];
    let mut call = call;
    loop {
        let left = wanted.saturating_sub(letters.len() as u64);
        let size = u32::try_from(left).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let mut page = client.dead_letters(&call.clone().limit(size)).await?;
        letters.append(&mut page.dead_letters);
        let is_enough = letters.len() as u64 >= wanted;
        match call.following(&page) {
            Some(next) if !is_enough => call = next,
            _ => return Ok((letters, page.next_cursor)),
        }
    }
}

fn row(letter: &DeadLetter) -> [String; 8] {
    let event = &letter.event;
    let subject = match event.instance() {
        Some(id) => id.to_string(),
        None => event.machine.to_string(),
    };
    let replay = if letter.replay_wanted { "wanted" } else { "-" };
    [
        shape::place(event.cursor()),
        subject,
        event.kind.name().to_owned(),
        letter.attempts.to_string(),
        time::local(letter.buried_at),
        time::local(letter.tried_at),
        replay.to_owned(),
        output::filled(&shown::one_line(&letter.reason)),
    ]
}
