//! The command [`Sink`](crate::Command::Sink): updates the record of a sink with the results of
//! deliveries and the requests of operators. It creates no event and no revision.

use std::sync::Arc;

use crate::event::{Event, EventCursor, EventKind};
use crate::ids::{SinkName, Timestamp};
use crate::limits::Quota;
use crate::rejection::Rejection;
use crate::sink::{DeadLetter, SinkChange, SinkCheckpoint, SinkCommand, SinkRecord};
use crate::world::World;

/// Returns the number of dead letters marked or removed; for other changes, 1 if anything changed.
pub(crate) fn execute(world: &mut World, command: &SinkCommand) -> Result<u64, Rejection> {
    let SinkCommand { sink, change } = command;
    if *change == SinkChange::Forget {
        return Ok(u64::from(world.sinks.remove(sink).is_some()));
    }
    // Works on a clone (which shares the dead letters), so that a rejection leaves the record unchanged.
    let mut record = world.sinks.get(sink).cloned().unwrap_or_default();
    let term = change.term().unwrap_or(record.term);
    if term < record.term {
        return Err(Rejection::SinkFenced {
            sink: sink.clone(),
            term: record.term,
        });
    }
    let raised = term > record.term;
    record.term = term;
    let affected = apply(world, sink, &mut record, change)?.max(u64::from(raised));
    // The record is made if there is something to keep.
    if affected > 0 {
        if !world.sinks.contains_key(sink) {
            world.check_quota(Quota::Sinks, world.sinks.len() as u64 + 1)?;
        }
        world.sinks.insert(sink.clone(), record);
    }
    Ok(affected)
}

fn apply(
    world: &World,
    sink: &SinkName,
    record: &mut SinkRecord,
    change: &SinkChange,
) -> Result<u64, Rejection> {
    let changed = match change {
        SinkChange::Claim { .. } | SinkChange::Forget => false,
        SinkChange::Advance { checkpoint, .. } => advance(world, record, *checkpoint),
        SinkChange::Bury { event, reason, .. } => bury(world, record, event, reason)?,
        SinkChange::Settle {
            cursor, refused, ..
        } => settle(record, *cursor, refused.as_deref(), world.clock),
        SinkChange::Seeding { .. } => drop_states(record),
        SinkChange::Seeded { asked, .. } => {
            let done = (*asked).clamp(record.seeds_done, record.seeds_asked);
            std::mem::replace(&mut record.seeds_done, done) != done
        }
        SinkChange::Seed => {
            record.seeds_asked = record.seeds_asked.saturating_add(1);
            true
        }
        SinkChange::Replay { which } => {
            let cursors = requested(sink, record, *which)?;
            for cursor in &cursors {
                if let Some(letter) = record.letters.get_mut(cursor) {
                    letter.replay_wanted = true;
                }
            }
            return Ok(cursors.len() as u64);
        }
        SinkChange::Discard { which } => {
            let cursors = requested(sink, record, *which)?;
            cursors
                .iter()
                .for_each(|it| drop(record.letters.remove(it)));
            return Ok(cursors.len() as u64);
        }
    };
    Ok(u64::from(changed))
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

/// The kept event with that cursor, to share it; the given event if it is no longer kept. `None` if there
/// never was such an event.
fn past(world: &World, event: &Arc<Event>) -> Option<Arc<Event>> {
    let was = match event.kind {
        EventKind::Seeded => event.is_seeded(world.revision),
        _ if event.cursor() > world.ring.gone => {
            return world.ring.at(event.cursor()).cloned();
        }
        _ => true,
    };
    (was && event.at <= world.clock).then(|| event.clone())
}

/// Removes the dead letters of backfilled states.
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
    let Some(letter) = record.letters.get_mut(&cursor) else {
        return false;
    };
    match refused {
        Some(reason) => letter.refused_again(reason, now),
        None => drop(record.letters.remove(&cursor)),
    }
    true
}

/// The dead letters that an operator names: one, which must exist, or all.
fn requested(
    sink: &SinkName,
    record: &SinkRecord,
    which: Option<EventCursor>,
) -> Result<Vec<EventCursor>, Rejection> {
    match which {
        None => Ok(record.letters.keys().copied().collect()),
        Some(cursor) if record.letters.contains_key(&cursor) => Ok(vec![cursor]),
        Some(cursor) => Err(Rejection::UnknownDeadLetter {
            sink: sink.clone(),
            cursor,
        }),
    }
}
