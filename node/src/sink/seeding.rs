//! Writing the current states as a whole, from one consistent read.

use std::sync::Arc;

use lockstep_machine::{
    Event, EventCursor, GlobalRevision, Instance, InstanceId, ListQuery, MachineName, State,
};

use super::backoff::Backoff;
use super::session::Session;
use super::{Checkpoint, Phase, Seed, SeedReason, SinkError, Trouble};

/// Of the events that are kept, one in so many at most is left out of a history that has a gap anyway.
const LEFT_OUT_MAX: u64 = 4;

/// Writes the states as of now; where the far side is then.
pub(super) async fn seed(
    session: &mut Session<'_>,
    reason: SeedReason,
    was: Option<EventCursor>,
) -> Result<Checkpoint, Trouble> {
    session.assure().await?;
    // A copy that shares its structure with the state that goes on.
    let state = session.service.peek(State::clone);
    let revision = state.revision();
    let mut seed = Seed {
        revision,
        at: state.now(),
        was,
        then: EventCursor::after(revision),
        reason,
    };
    tell(session, &seed);
    session.board.seeding(reason);
    session.ledger.seeding().await?;
    let parts = parts(session);
    let mut backoff = Backoff::new(session.config.retry_max);
    let total = parts
        .iter()
        .map(|(machine, _)| count(&state, machine))
        .sum();
    let mut done = 0;
    for (machine, prefix) in parts {
        let mut query = ListQuery {
            machine,
            prefix,
            limit: session.config.batch_events_max,
            scan_max: session.config.batch_events_max,
            ..ListQuery::default()
        };
        loop {
            session.board.doing(Phase::Seeding { done, total });
            let page = state.list(&query);
            write(session, &seed, &page.instances, done, &mut backoff).await?;
            done += page.instances.len() as u64;
            let Some(next) = page.next else { break };
            query.after = Some(next);
        }
    }
    // A far side with a history goes on as early as it can; one without would be told the past after
    // the present.
    if session.keeps_place {
        seed.then = earliest(&state, &session.service.peek(State::clone), &seed);
    }
    session.assure().await?;
    session.sink.seeded(&seed).await?;
    tracing::info!(
        sink = session.board.name(),
        revision = revision.0,
        instances = done,
        "the current states are written; the sink goes on from there"
    );
    Ok(Checkpoint {
        cursor: seed.then,
        seeded: revision,
    })
}

/// Writes instances, before which others were written already; puts those aside that are refused for
/// good.
async fn write(
    session: &mut Session<'_>,
    seed: &Seed,
    instances: &[(InstanceId, Instance)],
    before: u64,
    backoff: &mut Backoff,
) -> Result<(), Trouble> {
    let mut todo = Vec::from([(instances, before)]);
    while let Some((part, before)) = todo.pop().filter(|(part, _)| !part.is_empty()) {
        session.assure().await?;
        match (session.sink.seed(seed, part).await, part) {
            (Ok(()), _) => backoff.reset(),
            (Err(SinkError::Refused { reason, .. }), [(id, instance)]) => {
                let number = u32::try_from(before).unwrap_or(u32::MAX);
                let event = Event::seeded((seed.revision, seed.at), number, id, instance);
                session.bury(Arc::new(event), reason).await?;
            }
            (Err(SinkError::Refused { .. }), _) => {
                let (first, second) = part.split_at(part.len() / 2);
                todo.extend([(second, before + first.len() as u64), (first, before)]);
            }
            (Err(outage), _) => {
                session.outlast(outage, seed, backoff).await?;
                todo.push((part, before));
            }
        }
    }
    Ok(())
}

/// What is to be written: machines and how the names start; all if the sink follows everything.
fn parts(session: &Session<'_>) -> Vec<(Option<MachineName>, String)> {
    let follows = &session.config.follows;
    if follows.is_empty() {
        return vec![(None, String::new())];
    }
    let part = |it: &crate::config::Follow| {
        let prefix = it.prefix.clone().unwrap_or_default();
        (Some(it.machine.clone()), prefix)
    };
    follows.iter().map(part).collect()
}

/// How many instances there are, of a machine or in all.
fn count(state: &State, machine: &Option<MachineName>) -> u64 {
    match machine {
        None => state.instance_count(),
        Some(machine) => state.totals(machine).map_or(0, |totals| totals.instances),
    }
}

/// From where on the history can be written: where it ended, if every event since is still there. If
/// not, from the oldest that is; but if some of them went while the states were written, others will go
/// before the first is read, and twice as many are left out.
fn earliest(before: &State, now: &State, seed: &Seed) -> EventCursor {
    let was = seed.was.unwrap_or_default();
    if now.events_after(was, 0).is_ok() {
        return was;
    }
    let seeded = EventCursor::after(seed.revision);
    let kept = now.events_behind(oldest(now));
    let still = kept - now.events_behind(seeded);
    let went = before.events_behind(oldest(before)).saturating_sub(still);
    let left_out = (2 * went).min(kept / LEFT_OUT_MAX);
    let left_out = usize::try_from(left_out).unwrap_or(usize::MAX);
    let skipped = now.events_after(oldest(now), left_out).unwrap_or_default();
    let last = skipped.last().map(|event| event.cursor());
    last.unwrap_or(oldest(now)).min(seeded)
}

/// The place from which every event is kept.
fn oldest(state: &State) -> EventCursor {
    match state.oldest_event().0.saturating_sub(1) {
        0 => EventCursor::default(),
        before => EventCursor::after(GlobalRevision(before)),
    }
}

fn tell(session: &Session<'_>, seed: &Seed) {
    let (sink, revision) = (session.board.name(), seed.revision.0);
    match seed.reason {
        SeedReason::First => tracing::info!(
            sink,
            revision,
            "nothing is there yet: the current states are written"
        ),
        SeedReason::Asked => tracing::info!(
            sink,
            revision,
            "the current states are written anew, as asked for"
        ),
        SeedReason::Compacted => tracing::warn!(
            sink,
            revision,
            last = seed.was.map(|it| it.revision.0),
            "the events behind the far side's place are no longer kept: the current states are written, and its history has a gap"
        ),
    }
}
