//! Generates random commands for sinks: from runners of several terms, and from operators.

use std::sync::Arc;

use lockstep_machine::*;
use rand::RngExt;

use crate::model::Model;
use crate::traffic::Traffic;

const SINKS: &[&str] = &["audit", "audit", "copy", "copy", "hook", "mail"];

impl Traffic {
    pub fn sink(&mut self, model: &Model) -> SinkCommand {
        let sink = SinkName::new(self.pick(SINKS)).unwrap();
        let change = match self.rng.random_range(0..100) {
            0..=9 => SinkChange::Claim {
                term: self.term(model, &sink),
            },
            10..=24 => SinkChange::Advance {
                term: self.term(model, &sink),
                checkpoint: SinkCheckpoint {
                    cursor: self.cursor(model, &sink),
                    seeded: GlobalRevision(self.rng.random_range(0..=model.revision)),
                },
            },
            25..=54 => SinkChange::Bury {
                term: self.term(model, &sink),
                event: self.event(model, &sink),
                reason: self.reason(),
            },
            55..=69 => SinkChange::Settle {
                term: self.term(model, &sink),
                cursor: self.cursor(model, &sink),
                refused: self.chance(50).then(|| self.reason()),
            },
            70..=71 => SinkChange::Seeding {
                term: self.term(model, &sink),
            },
            72..=74 => SinkChange::Seeded {
                term: self.term(model, &sink),
                asked: {
                    let asked = model.sinks.get(&sink).map_or(0, |it| it.seeds_asked);
                    (asked + self.rng.random_range(0..3)).saturating_sub(1)
                },
            },
            75..=79 => SinkChange::Seed,
            80..=88 => SinkChange::Replay {
                which: self.which(model, &sink),
            },
            89..=96 => SinkChange::Discard {
                which: self.which(model, &sink),
            },
            _ => SinkChange::Forget,
        };
        SinkCommand { sink, change }
    }

    /// Mostly that of the leader.
    fn term(&mut self, model: &Model, sink: &SinkName) -> u64 {
        let term = model.sinks.get(sink).map_or(0, |it| it.term);
        match self.rng.random_range(0..20) {
            0..=1 => term.saturating_sub(1),
            2 => term + 1,
            _ => term,
        }
    }

    /// Mostly that of a dead letter or of a recent event.
    fn cursor(&mut self, model: &Model, sink: &SinkName) -> EventCursor {
        if self.chance(10) {
            return EventCursor {
                revision: GlobalRevision(self.rng.random_range(0..=model.revision + 1)),
                position: self.pick(&[0, 1, u32::MAX]),
            };
        }
        self.event(model, sink).cursor()
    }

    fn which(&mut self, model: &Model, sink: &SinkName) -> Option<EventCursor> {
        (!self.chance(20)).then(|| self.cursor(model, sink))
    }

    /// A dead letter's, a recent one, or one of long ago; or one that is not, or not like that.
    fn event(&mut self, model: &Model, sink: &SinkName) -> Arc<Event> {
        let letters = model.sinks.get(sink).map(|it| &it.letters);
        let letters = letters.filter(|it| !it.is_empty());
        let mut event = match letters {
            Some(letters) if self.chance(40) => (*self.pick(letters).event).clone(),
            _ => {
                let known = [&self.events[..], &model.events[..]].concat();
                if known.is_empty() {
                    return Arc::new(invented(model));
                }
                self.pick(&known)
            }
        };
        if self.events.len() == 8 {
            let at = self.rng.random_range(0..8);
            self.events.swap_remove(at);
        }
        self.events.push(event.clone());
        match self.rng.random_range(0..24) {
            // A state that was written as a whole; not so if the event is of a definition.
            20..=23 if event.name.is_some() && event.to.is_some() => {
                event.kind = EventKind::Seeded;
                event.position = event.position % 500_000_000 + 500_000_000;
            }
            0 => event = invented(model),
            1 => event.to = None,
            2 => event.position += 1,
            3 => event.at.0 += 10_000,
            _ => {}
        }
        Arc::new(event)
    }

    fn reason(&mut self) -> String {
        let length = self.pick(&[0, 3, 341, 342, 400, 1024, 1025]);
        let letter = self.pick(&["x", "é", "€", "𝄞"]);
        format!("{}{}", self.pick(&["", "no", "odd"]), letter.repeat(length))
    }
}

/// One of the future.
fn invented(model: &Model) -> Event {
    Event {
        revision: GlobalRevision(model.revision + 1),
        position: 0,
        kind: EventKind::Created,
        machine: MachineName::new("order").unwrap(),
        name: None,
        version: Version(1),
        from_version: None,
        from: None,
        to: None,
        event: None,
        instance_revision: Revision(0),
        at: Timestamp(model.now),
        cause: Cause::Timeout { late_ms: 3 },
        metadata: Metadata::default(),
    }
}
