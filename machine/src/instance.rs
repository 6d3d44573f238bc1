//! Instances, and their histories.

use std::collections::VecDeque;
use std::sync::Arc;

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::event::Event;
use crate::ids::{Revision, StateName, Timestamp, Version};
use crate::metadata::Metadata;
use crate::settings::Limits;

/// An instance of a machine, as the cluster holds it. Its id is the key it is stored under.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Instance {
    /// The definition's version it is pinned to.
    #[n(0)]
    pub version: Version,
    /// The state it is in.
    #[n(1)]
    pub state: StateName,
    /// How often it has changed: transitions, timeouts and migrations.
    #[n(2)]
    pub revision: Revision,
    /// When it was created; 0 for a built-in instance.
    #[n(3)]
    pub created_at: Timestamp,
    /// When it last changed; equals `created_at` until it does.
    #[n(4)]
    pub changed_at: Timestamp,
    /// When its state's timeout is due, if it has one.
    #[n(5)]
    pub deadline: Option<Timestamp>,
    /// The metadata it was created with.
    #[n(6)]
    pub metadata: Metadata,
    /// Its last changes.
    #[n(7)]
    pub(crate) history: History,
}

impl Instance {
    /// An instance that was just created: at revision 0, without timeout or history.
    pub fn new(version: Version, state: StateName, at: Timestamp, metadata: Metadata) -> Self {
        Self {
            version,
            state,
            revision: Revision(0),
            created_at: at,
            changed_at: at,
            deadline: None,
            metadata,
            history: History::default(),
        }
    }

    /// Its last changes, oldest first: transitions, timeouts and migrations.
    ///
    /// Bounded: older ones are forgotten. [`Event::instance_revision`] counts without a gap, up to
    /// the instance's revision.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Arc<Event>> + ExactSizeIterator {
        self.history.events().iter()
    }

    /// The size of its history for [`Limits::history_bytes_max`].
    pub fn history_bytes(&self) -> u64 {
        self.history.0.as_ref().map_or(0, |kept| kept.bytes)
    }

    /// The oldest revision in its history; `None` if the history is empty.
    pub fn oldest_kept(&self) -> Option<Revision> {
        self.history().next().map(|event| event.instance_revision)
    }
}

/// The last changes of an instance. An instance that never changed has none, and costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History(Option<Arc<Kept>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    bytes: u64,
}

impl History {
    fn events(&self) -> &VecDeque<Arc<Event>> {
        static NOTHING: VecDeque<Arc<Event>> = VecDeque::new();
        self.0.as_ref().map_or(&NOTHING, |kept| &kept.events)
    }

    /// Adds a change, and forgets the oldest until the bounds hold.
    pub(crate) fn push(&mut self, event: Arc<Event>, limits: &Limits) {
        if limits.history_entries_max == 0 {
            self.0 = None;
            return;
        }
        let kept = Arc::make_mut(self.0.get_or_insert_default());
        kept.bytes += event.bytes();
        kept.events.push_back(event);
        while kept.events.len() as u64 > limits.history_entries_max
            || kept.bytes > limits.history_bytes_max
        {
            let Some(event) = kept.events.pop_front() else {
                break;
            };
            kept.bytes -= event.bytes();
        }
        if kept.events.is_empty() {
            self.0 = None;
        }
    }

    /// The same changes, each replaced by what `share` makes of it.
    pub(crate) fn restore(events: impl IntoIterator<Item = Arc<Event>>) -> Self {
        let events: VecDeque<_> = events.into_iter().collect();
        let bytes = events.iter().map(|event| event.bytes()).sum();
        Self((!events.is_empty()).then(|| Arc::new(Kept { events, bytes })))
    }
}

/// Written as the list of its changes; left out if there are none.
impl<C> Encode<C> for History {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        let events = self.events();
        e.array(events.len() as u64)?;
        events.iter().try_for_each(|event| event.encode(e, ctx))
    }

    fn is_nil(&self) -> bool {
        self.0.is_none()
    }
}

impl<'b, C> Decode<'b, C> for History {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
        let events = d.array_iter_with(ctx)?.map(|event| event.map(Arc::new));
        Ok(Self::restore(events.collect::<Result<Vec<_>, _>>()?))
    }

    fn nil() -> Option<Self> {
        Some(Self::default())
    }
}
