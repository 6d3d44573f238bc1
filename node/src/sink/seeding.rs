//! Writing the current states as a whole, from one consistent read.

use std::sync::Arc;

use lockstep_machine::{
    Event, EventCursor, GlobalRevision, Instance, InstanceId, ListQuery, MachineName, State,
};

use super::session::Session;
use super::{Checkpoint, Phase, Seed, SeedReason, SinkError, Trouble};

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
    // A far side with a history goes on as early as it can; one without would be told the past after
    // the present.
    let then = match session.keeps_place {
        true => was.unwrap_or_default().max(oldest(&state)),
        false => EventCursor::after(revision),
    };
    let seed = Seed {
        revision,
        at: state.now(),
        was,
        then,
        reason,
    };
    tell(session, &seed);
    session.board.seeding(reason);
    session.ledger.seeding().await?;
    let parts = parts(session);
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
            write(session, &seed, &page.instances, done).await?;
            done += page.instances.len() as u64;
            let Some(next) = page.next else { break };
            query.after = Some(next);
        }
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
        cursor: then,
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
) -> Result<(), Trouble> {
    let mut todo = Vec::from([(instances, before)]);
    while let Some((part, before)) = todo.pop().filter(|(part, _)| !part.is_empty()) {
        session.assure().await?;
        match (session.sink.seed(seed, part).await, part) {
            (Ok(()), _) => {}
            (Err(SinkError::Refused { reason, .. }), [(id, instance)]) => {
                let number = u32::try_from(before).unwrap_or(u32::MAX);
                let event = Event::seeded((seed.revision, seed.at), number, id, instance);
                session.bury(Arc::new(event), reason).await?;
            }
            (Err(SinkError::Refused { .. }), _) => {
                let (first, second) = part.split_at(part.len() / 2);
                todo.extend([(second, before + first.len() as u64), (first, before)]);
            }
            (Err(other), _) => return Err(other.into()),
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

/// The place from which every event is kept.
fn oldest(state: &State) -> EventCursor {
    let before = state.oldest_event().0.saturating_sub(1);
    match before {
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
