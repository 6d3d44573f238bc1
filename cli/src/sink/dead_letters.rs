//! `lockstep sink dead-letters`.

use clap::Args;
use lockstep_client::{Client, DeadLetter, DeadLetterPage, DeadLettersCall};
use serde_json::json;

use super::shown;
use crate::args::{self, Extent, Maybe};
use crate::{Context, Failure, output, time};

/// List the events that a sink's destination rejected permanently, and why
#[derive(Debug, Args)]
#[command(after_help = "\
In the order of their events. The sink has continued after them. Fix the cause, then deliver them again
with `lockstep sink replay`, or drop them with `lockstep sink discard`. A dead letter of kind seeded is
not an event, but a state that was rejected during a backfill.

Examples:
  lockstep sink dead-letters reports
  lockstep sink dead-letters reports --all -o json | jq -r '.dead_letters[] | .cursor + \" \" + .reason'")]
pub(crate) struct DeadLetters {
    /// The sink
    #[arg(value_name = "NAME")]
    sink: String,

    #[command(flatten)]
    extent: Extent,
}

impl DeadLetters {
    pub(super) async fn run(self, context: &Context) -> Result<String, Failure> {
        let Self { sink, extent } = self;
        let wanted = extent.wanted();
        let call = DeadLettersCall::of(&sink).maybe(extent.cursor, DeadLettersCall::cursor);
        let client = context.target.client()?;
        let page = gather(&client, call, wanted).await?;
        let letters = &page.dead_letters;
        Ok(context.show(
            || json!(page),
            || {
                if letters.is_empty() {
                    output::say(&format!("lockstep: {sink} has no dead letters"));
                }
                if page.next_cursor.is_some() {
                    let shown = letters.len();
                    output::say(&format!("lockstep: {shown} shown; --all shows the rest"));
                }
                table(letters)
            },
        ))
    }
}

/// Up to `wanted` dead letters, and where the next list starts.
async fn gather(
    client: &Client,
    mut call: DeadLettersCall,
    wanted: u64,
) -> Result<DeadLetterPage, lockstep_client::Error> {
    let mut letters = vec![];
    loop {
        let left = wanted.saturating_sub(letters.len() as u64);
        let sized = call.clone().limit(args::page_size(left));
        let mut page = client.dead_letters(&sized).await?;
        letters.append(&mut page.dead_letters);
        let is_enough = letters.len() as u64 >= wanted;
        match call.following(&page) {
            Some(next) if !is_enough => call = next,
            _ => {
                page.dead_letters = letters;
                return Ok(page);
            }
        }
    }
}

fn table(letters: &[DeadLetter]) -> String {
    output::columns!(letters, |letter| {
        "EVENT": letter.event.cursor(),
        "SUBJECT": output::subject(&letter.event),
        "KIND": letter.event.kind.name(),
        "ATTEMPTS": letter.attempts,
        "REJECTED": time::local(letter.rejected_at),
        "LAST-ATTEMPT": time::local(letter.tried_at),
        "REPLAY": if letter.replay_wanted { "wanted" } else { "-" },
        "REASON": output::filled(&shown::one_line(&letter.reason)),
    })
}
