//! A webhook receiver as a destination. It derives its state from the messages that it accepts.
//!
//! It does what any receiver has to do, and no more:
//!
//! - A message whose id it has is the same message again, and is ignored.
//! - A message changes an instance only if its event cursor is after the last one of that instance. The
//!   cursor of a backfilled state is after all events of its revision.
//! - An event after a backfill's revision is sent only once the whole backfill was accepted. It implies
//!   that instances which the backfill did not name, and of which nothing newer is known, were deleted:
//!   a deletion in a gap is not reported in any other way. Until such an event comes they remain known;
//!   the tests end with one. A backfill without a single instance is not reported at all.
//!
//! Its history is complete after the revision of the last backfill. Before that, events may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::NamedTempFile;

use super::{Destination, States, Written};
use crate::receiver::{Behaviour, Receiver, Rule};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAAA";

/// An event cursor: the cluster's revision, and the position in it.
type Place = (u64, u32);

/// A receiver, and the file with the secret that it shares with the sink.
pub struct Webhook {
    /// The receiver.
    pub receiver: Receiver,
    secret: NamedTempFile,
    /// How many messages it had accepted.
    saved: Option<usize>,
    is_up: bool,
}

impl Webhook {
    /// Starts one that accepts everything.
    pub async fn start() -> Result<Self> {
        let secret = NamedTempFile::new()?;
        std::fs::write(secret.path(), format!("{SECRET}\n"))?;
        Ok(Self {
            receiver: Receiver::start(&[SECRET]).await?,
            secret,
            saved: None,
            is_up: true,
        })
    }

    fn always(&self, behaviour: Behaviour) {
        self.receiver.obey(Rule::new(behaviour));
    }

    /// The accepted messages, in order of first acceptance.
    fn messages(&self) -> Vec<Value> {
        let accepted = self.receiver.accepted();
        accepted.iter().map(|it| it.json()).collect()
    }
}

impl Destination for Webhook {
    fn address(&self) -> SocketAddr {
        self.receiver.address()
    }

    fn settings(&self, through: SocketAddr) -> Vec<(&'static str, String)> {
        let secret_file = self.secret.path().display().to_string();
        vec![
            ("LOCKSTEP_SINK_FAR_KIND", "webhook".to_owned()),
            (
                "LOCKSTEP_SINK_FAR_ADDRESS",
                format!("http://{through}/hook"),
            ),
            ("LOCKSTEP_SINK_FAR_SECRET_FILE", secret_file),
            ("LOCKSTEP_SINK_FAR_ALLOW_LOCAL", "true".to_owned()),
            ("LOCKSTEP_SINK_FAR_START", "everything".to_owned()),
        ]
    }

    async fn kill9(&mut self) -> Result<()> {
        self.receiver.kill().await;
        self.is_up = false;
        Ok(())
    }

    async fn start(&mut self) -> Result<()> {
        self.receiver.start_again().await?;
        self.is_up = true;
        Ok(())
    }

    async fn pause(&mut self) -> Result<()> {
        self.always(Behaviour::Stall);
        Ok(())
    }

    async fn resume(&mut self) -> Result<()> {
        self.receiver.behave();
        Ok(())
    }

    async fn save(&mut self) -> Result<()> {
        self.saved = Some(self.receiver.accepted_count());
        Ok(())
    }

    async fn restore(&mut self) -> Result<()> {
        let saved = self.saved.context("nothing was saved")?;
        if self.is_up {
            self.kill9().await?;
        }
        self.receiver.forget_behind(saved);
        self.start().await
    }

    async fn reject(&mut self, instance: &str) -> Result<()> {
        let rejecting = Rule::new(Behaviour::status(422));
        self.receiver.obey(rejecting.instance(instance));
        Ok(())
    }

    async fn accept(&mut self) -> Result<()> {
        self.receiver.behave();
        Ok(())
    }

    async fn lock_out(&mut self) -> Result<()> {
        self.always(Behaviour::status(401));
        Ok(())
    }

    async fn let_in(&mut self) -> Result<()> {
        self.receiver.behave();
        Ok(())
    }

    async fn fill(&mut self) -> Result<()> {
        self.always(Behaviour::full("3600"));
        Ok(())
    }

    async fn make_room(&mut self) -> Result<()> {
        self.receiver.behave();
        Ok(())
    }

    async fn history(&mut self) -> Result<Vec<Written>> {
        let counts = self.receiver.counts();
        ensure!(counts.forged == 0 && counts.altered == 0, "{counts:?}");
        let missed = self.receiver.never_timely_count();
        ensure!(
            missed == 0,
            "{missed} messages came from leaders of earlier terms only"
        );
        let mut last = BTreeMap::new();
        let mut events = vec![];
        for message in self.messages().iter().filter(|it| !is_seeded(it)) {
            let event = written(&message["data"])?;
            let about = (event.machine.clone(), event.instance.clone());
            if let Some(before) = last.insert(about, event.place) {
                ensure!(before < event.place, "{before:?} came before {event:?}");
            }
            events.push(event);
        }
        events.sort_by_key(|event| event.place);
        Ok(events)
    }

    fn complete_behind(&self) -> u64 {
        let messages = self.messages();
        let seeds = messages.iter().filter(|it| is_seeded(it));
        let revisions = seeds.filter_map(|it| it["data"]["revision"].as_u64());
        revisions.max().unwrap_or_default()
    }

    async fn states(&mut self) -> Result<States> {
        let mut knowledge = Knowledge::default();
        for message in self.messages() {
            knowledge.take(&message)?;
        }
        let held = knowledge.instances.into_iter();
        Ok(held
            .filter_map(|(id, (_, state))| Some((id, state?)))
            .collect())
    }
}

/// What a receiver knows of the current states.
#[derive(Default)]
struct Knowledge {
    /// The last of each instance, and its state then; none if it was deleted.
    instances: BTreeMap<String, (Place, Option<(String, u64)>)>,
    /// The last backfill: its cursor, and the instances that it named.
    seed: Option<(Place, BTreeSet<String>)>,
}

impl Knowledge {
    /// Applies one message.
    fn take(&mut self, message: &Value) -> Result<()> {
        let data = &message["data"];
        let Some(id) = data["id"].as_str() else {
            return Ok(());
        };
        let revision = number(data, "revision")?;
        let (place, state) = if is_seeded(message) {
            let place = (revision, u32::MAX);
            self.seeded(id, place);
            (place, data["state"].as_str())
        } else {
            let place = (revision, position(data)?);
            self.end_seed(place);
            (place, data["to"].as_str())
        };
        let is_gone = data["kind"] == "deleted";
        let state = state.filter(|_| !is_gone).map(str::to_owned);
        let state = match state {
            Some(state) => Some((state, number(data, "instance_revision")?)),
            None => None,
        };
        let known = self.instances.get(id);
        if known.is_none_or(|(known, _)| *known < place) {
            self.instances.insert(id.to_owned(), (place, state));
        }
        Ok(())
    }

    fn seeded(&mut self, id: &str, place: Place) {
        match &mut self.seed {
            Some((last, named)) if *last == place => {
                named.insert(id.to_owned());
            }
            // The rest of an interrupted backfill.
            Some((last, _)) if *last > place => {}
            _ => self.seed = Some((place, BTreeSet::from([id.to_owned()]))),
        }
    }

    /// There is an event at this cursor: if it is after the backfill, that is complete.
    fn end_seed(&mut self, event: Place) {
        let Some((seed, named)) = self.seed.take_if(|(seed, _)| *seed < event) else {
            return;
        };
        for (id, known) in &mut self.instances {
            if known.0 < seed && !named.contains(id) {
                *known = (just_before(seed), None);
            }
        }
    }
}

/// After all events of the backfill's revision, and before its states.
fn just_before((revision, position): Place) -> Place {
    (revision, position - 1)
}

fn is_seeded(message: &Value) -> bool {
    message["type"] == "instance.seeded"
}

fn written(data: &Value) -> Result<Written> {
    let text = |name: &str| data[name].as_str().map(str::to_owned);
    let at = text("at").context("no time")?;
    let at = humantime::parse_rfc3339(&at)?.duration_since(UNIX_EPOCH)?;
    let name = |id: String| id.split_once('/').map(|(_, name)| name.to_owned());
    let metadata = match &data["metadata"] {
        Value::Null => BTreeMap::new(),
        pairs => serde_json::from_value(pairs.clone())?,
    };
    Ok(Written {
        place: (number(data, "revision")?, position(data)?),
        kind: text("kind").context("no kind")?,
        machine: text("machine").context("no machine")?,
        instance: text("id").and_then(name),
        from: text("from"),
        to: text("to"),
        instance_revision: number(data, "instance_revision")?,
        at_ms: u64::try_from(at.as_millis())?,
        metadata,
    })
}

fn position(data: &Value) -> Result<u32> {
    Ok(u32::try_from(number(data, "position")?)?)
}

fn number(data: &Value, name: &str) -> Result<u64> {
    let number = data[name].as_u64();
    number.with_context(|| format!("no {name} in {data}"))
}
