//! The command [`Expire`](crate::Command::Expire): fires timeouts that the leader found to be due. Each is
//! checked again when applied, so that it fires at most once and never early.

use crate::command::Expiration;
use crate::event::{Cause, EventKind};
use crate::metadata::Metadata;
use crate::outcome::Expired;
use crate::world::{Step, World};

pub(crate) fn execute(world: &mut World, expirations: &[Expiration]) -> Expired {
    let mut expired = Expired {
        fired: 0,
        late_ms_max: 0,
    };
    for expiration in expirations {
        if let Some(late_ms) = fire(world, expiration) {
            expired.fired += 1;
            expired.late_ms_max = expired.late_ms_max.max(late_ms);
        }
    }
    expired
}

/// How late it fired, if it did.
fn fire(world: &mut World, expiration: &Expiration) -> Option<u64> {
    let Expiration {
        instance: id,
        revision,
        deadline,
    } = expiration;
    let found = world.find(id).ok()?;
    let instance = found.instance;
    // An instance that has left the state, or was recreated with the same id, has another deadline.
    if instance.revision != *revision
        || instance.deadline != Some(*deadline)
        || world.clock < *deadline
    {
        return None;
    }
    let to = found.exits.timeout.as_ref()?.to.clone();
    let late_ms = world.clock.0 - deadline.0;
    let step = Step {
        kind: EventKind::Transitioned,
        version: instance.version,
        deadline: world.deadline(found.compiled.exits(&to)),
        to,
        event: None,
        cause: Cause::Timeout { late_ms },
        metadata: &Metadata::default(),
    };
    world.step(id, step).ok().map(|_| late_ms)
}
