//! The command [`Sink`](crate::Command::Sink): what became of events at a destination, and what
//! operators want of it. It is kept beside the instances: no event, no revision.

use std::sync::Arc;

use imbl::OrdMap;

use crate::event::{Event, EventCursor, EventKind};
use crate::ids::{SinkName, Timestamp};
use crate::limits::Quota;
use crate::rejection::Rejection;
use crate::sink::{DeadLetter, SinkChange, SinkCheckpoint, SinkCommand, SinkRecord};
use crate::world::World;

/// How many letters it marked or removed; for all else, 1 if anything changed.
pub(crate) fn execute(world: &mut World, command: &SinkCommand) -> Result<u64, Rejection> {
    let SinkCommand { sink, change } = command;
    match change {
        SinkChange::Claim { term } => write(world, sink, Some(*term), |_, _| Ok(false)),
        SinkChange::Advance { term, checkpoint } => {
            write(world, sink, Some(*term), |world, record| {
                Ok(advance(world, record, *checkpoint))
            })
        }
        SinkChange::Bury {
            term,
            event,
            reason,
        } => write(world, sink, Some(*term), |world, record| {
            bury(world, record, event, reason)
        }),
        SinkChange::Settle {
            term,
            cursor,
            refused,
        } => write(world, sink, Some(*term), |world, record| {
            Ok(settle(record, *cursor, refused.as_deref(), world.clock))
        }),
        SinkChange::Seeding { term } => write(world, sink, Some(*term), |_, record| {
            Ok(drop_states(record))
        }),
        SinkChange::Seeded { term, asked } => write(world, sink, Some(*term), |_, record| {
            let done = (*asked).clamp(record.seeds_done, record.seeds_asked);
            Ok(std::mem::replace(&mut record.seeds_done, done) != done)
        }),
        SinkChange::Seed => write(world, sink, None, |_, record| {
            record.seeds_asked = record.seeds_asked.saturating_add(1);
            Ok(true)
        }),
        SinkChange::Replay { which } => replay(world, sink, *which),
        SinkChange::Discard { which } => discard(world, sink, *which),
        SinkChange::Forget => Ok(u64::from(world.sinks.remove(sink).is_some())),
    }
}

/// Changes a sink's record, which is made if there is something to keep: 1 if anything changed.
///
/// Who runs the sink says in which term; operators are of no term.
fn write(
    world: &mut World,
    sink: &SinkName,
    term: Option<u64>,
    change: impl FnOnce(&World, &mut SinkRecord) -> Result<bool, Rejection>,
) -> Result<u64, Rejection> {
    // A copy, which shares the letters: a refusal leaves the record as it was.
    let mut record = world.sinks.get(sink).cloned().unwrap_or_default();
    let term = term.unwrap_or(record.term);
    if term < record.term {
        return Err(Rejection::SinkFenced {
            sink: sink.clone(),
            term: record.term,
        });
    }
    let raised = term > record.term;
    record.term = term;
    let changed = change(world, &mut record)? || raised;
    if !changed {
        return Ok(0);
    }
    if !world.sinks.contains_key(sink) {
        world.check_quota(Quota::Sinks, world.sinks.len() as u64 + 1)?;
    }
    world.sinks.insert(sink.clone(), record);
    Ok(1)
}

fn advance(world: &World, record: &mut SinkRecord, checkpoint: SinkCheckpoint) -> bool {
    let reached = checkpoint.cursor.revision.max(checkpoint.seeded);
    reached <= world.revision && record.checkpoint.replace(checkpoint) != Some(checkpoint)
}

fn bury(
    world: &World,
    record: &mut SinkRecord,
    event: &Arc<Event>,
    reason: &str,
) -> Result<bool, Rejection> {
    let cursor = event.cursor();
    if let Some(letter) = record.letters.get_mut(&cursor) {
        letter.refused_again(reason, world.clock);
        return Ok(true);
    }
    let Some(event) = past(world, event) else {
        return Ok(false);
    };
    world.check_quota(Quota::DeadLetters, record.letters.len() as u64 + 1)?;
    let letter = DeadLetter::new(event, reason, world.clock);
    record.letters.insert(cursor, letter);
    Ok(true)
}

/// The event as the recent ones have it, which is shared then; the one given, if those do not
/// reach back to it. None if it never was: what is kept must agree with the events there are.
fn past(world: &World, event: &Arc<Event>) -> Option<Arc<Event>> {
    let was = match event.kind {
        EventKind::Seeded => event.is_seeded(world.revision),
        _ if event.cursor() > world.ring.gone() => {
            return world.ring.at(event.cursor()).cloned();
        }
        _ => true,
    };
    (was && event.at <= world.clock).then(|| event.clone())
}

/// Removes the letters that stand for states.
fn drop_states(record: &mut SinkRecord) -> bool {
    let before = record.letters.len();
    if record.letters().any(DeadLetter::is_state) {
        let all = std::mem::take(&mut record.letters).into_iter();
        record.letters = all.filter(|(_, letter)| !letter.is_state()).collect();
    }
    record.letters.len() < before
}

fn settle(
    record: &mut SinkRecord,
    cursor: EventCursor,
    refused: Option<&str>,
    now: Timestamp,
) -> bool {
    match (refused, record.letters.get_mut(&cursor)) {
        (Some(reason), Some(letter)) => {
            letter.refused_again(reason, now);
            true
        }
        (None, Some(_)) => record.letters.remove(&cursor).is_some(),
        (_, None) => false,
    }
}

fn replay(
    world: &mut World,
    sink: &SinkName,
    which: Option<EventCursor>,
) -> Result<u64, Rejection> {
    let record = world.sinks.get_mut(sink);
    let Some(cursor) = which else {
        let Some(record) = record else {
            return Ok(0);
        };
        let all = std::mem::take(&mut record.letters).into_iter();
        let marked = all.map(|(cursor, letter)| (cursor, wanted(letter)));
        record.letters = marked.collect();
        return Ok(record.letters.len() as u64);
    };
    match record.and_then(|record| record.letters.get_mut(&cursor)) {
        Some(letter) => {
            letter.replay_wanted = true;
            Ok(1)
        }
        None => Err(unknown(sink, cursor)),
    }
}

fn wanted(letter: DeadLetter) -> DeadLetter {
    DeadLetter {
        replay_wanted: true,
        ..letter
    }
}

fn discard(
    world: &mut World,
    sink: &SinkName,
    which: Option<EventCursor>,
) -> Result<u64, Rejection> {
    let record = world.sinks.get_mut(sink);
    let Some(cursor) = which else {
        let letters = record.map(|record| std::mem::take(&mut record.letters));
        return Ok(letters.as_ref().map_or(0, OrdMap::len) as u64);
    };
    match record.and_then(|record| record.letters.remove(&cursor)) {
        Some(_) => Ok(1),
        None => Err(unknown(sink, cursor)),
    }
}

fn unknown(sink: &SinkName, cursor: EventCursor) -> Rejection {
    Rejection::UnknownDeadLetter {
        sink: sink.clone(),
        cursor,
    }
}
