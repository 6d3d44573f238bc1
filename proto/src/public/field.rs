//! How fields of messages and values of the state machine correspond.
//!
//! A conversion whose fields correspond one to one is a list of pairs, from which [`message!`] and
//! [`request!`] write both directions. A field that is missing from the list does not compile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lockstep_machine::{
    Event, EventName, Expectation, IdempotencyKey, InstanceId, MachineName, Metadata, Revision,
    StateName, Timestamp, Trigger, Version,
};

use crate::{Malformed, parsed, v1};

/// A value of the state machine that is one field of a message.
pub(super) trait Field: Sized {
    /// The type of the field.
    type Wire;

    /// The field.
    fn into_wire(self) -> Self::Wire;

    /// Reads the field; `name` is under which a fault is reported.
    fn parse(name: &'static str, wire: Self::Wire) -> Result<Self, Malformed>;
}

/// `type as type of the field: to the field, from the field;`
macro_rules! fields {
    ($($type:ty as $wire:ty: $into:expr, $parse:expr;)*) => {$(
        impl Field for $type {
            type Wire = $wire;

            fn into_wire(self) -> $wire {
                let into: fn(Self) -> $wire = $into;
                into(self)
            }

            fn parse(name: &'static str, wire: $wire) -> Result<Self, Malformed> {
                let parse: fn(&'static str, $wire) -> Result<Self, Malformed> = $parse;
                parse(name, wire)
            }
        }
    )*};
}

fields! {
    bool as bool: |it| it, |_, wire| Ok(wire);
    u32 as u32: |it| it, |_, wire| Ok(wire);
    String as String: |it| it, |_, wire| Ok(wire);
    Version as u32: |it| it.0, |_, wire| Ok(Self(wire));
    Revision as u64: |it| it.0, |_, wire| Ok(Self(wire));
    Timestamp as u64: |it| it.0, |_, wire| Ok(Self(wire));
    MachineName as String: |it| it.to_string(), |name, wire| parsed(name, Self::new(wire));
    StateName as String: |it| it.to_string(), |name, wire| parsed(name, Self::new(wire));
    EventName as String: |it| it.to_string(), |name, wire| parsed(name, Self::new(wire));
    InstanceId as String: |it| it.to_string(), |name, wire| parsed(name, wire.parse());
    IdempotencyKey as String: |it| it.to_string(), |name, wire| parsed(name, Self::new(wire));
}

impl<T: Field> Field for Option<T> {
    type Wire = Option<T::Wire>;

    fn into_wire(self) -> Self::Wire {
        self.map(T::into_wire)
    }

    fn parse(name: &'static str, wire: Self::Wire) -> Result<Self, Malformed> {
        wire.map(|wire| T::parse(name, wire)).transpose()
    }
}

impl<T: Field> Field for Vec<T> {
    type Wire = Vec<T::Wire>;

    fn into_wire(self) -> Self::Wire {
        self.into_iter().map(T::into_wire).collect()
    }

    fn parse(name: &'static str, wire: Self::Wire) -> Result<Self, Malformed> {
        wire.into_iter().map(|wire| T::parse(name, wire)).collect()
    }
}

impl Field for BTreeMap<StateName, StateName> {
    type Wire = HashMap<String, String>;

    fn into_wire(self) -> Self::Wire {
        let text = |(from, to): (StateName, StateName)| (from.to_string(), to.to_string());
        self.into_iter().map(text).collect()
    }

    fn parse(name: &'static str, wire: Self::Wire) -> Result<Self, Malformed> {
        let state = |text| StateName::parse(name, text);
        let pair = |(from, to)| Ok((state(from)?, state(to)?));
        wire.into_iter().map(pair).collect()
    }
}

impl Field for Metadata {
    type Wire = HashMap<String, String>;

    fn into_wire(self) -> Self::Wire {
        let own = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        self.iter().map(own).collect()
    }

    fn parse(name: &'static str, wire: Self::Wire) -> Result<Self, Malformed> {
        parsed(name, Metadata::new(wire))
    }
}

impl Field for Arc<Event> {
    type Wire = Option<v1::Event>;

    fn into_wire(self) -> Self::Wire {
        Some((&*self).into())
    }

    fn parse(name: &'static str, wire: Self::Wire) -> Result<Self, Malformed> {
        let event = wire.ok_or(Malformed::new(name, "it is missing"))?;
        Ok(Arc::new(event.try_into()?))
    }
}

impl Field for Trigger {
    type Wire = Option<v1::transition_request::Trigger>;

    fn into_wire(self) -> Self::Wire {
        use v1::transition_request::Trigger as Wire;
        Some(match self {
            Trigger::To(state) => Wire::To(state.to_string()),
            Trigger::Event(event) => Wire::Event(event.to_string()),
        })
    }

    fn parse(name: &'static str, wire: Self::Wire) -> Result<Self, Malformed> {
        use v1::transition_request::Trigger as Wire;
        let missing = || Malformed::new(name, "one of `to` and `event` is required");
        Ok(match wire.ok_or_else(missing)? {
            Wire::To(state) => Trigger::To(Field::parse("to", state)?),
            Wire::Event(event) => Trigger::Event(Field::parse("event", event)?),
        })
    }
}

impl Field for Expectation {
    type Wire = Option<v1::precondition::Expect>;

    fn into_wire(self) -> Self::Wire {
        use v1::precondition::Expect as Wire;
        Some(match self {
            Expectation::Exists => Wire::Exists(true),
            Expectation::Missing => Wire::Exists(false),
            Expectation::InState(state) => Wire::State(state.to_string()),
            Expectation::AtRevision(revision) => Wire::Revision(revision.0),
        })
    }

    fn parse(name: &'static str, wire: Self::Wire) -> Result<Self, Malformed> {
        use v1::precondition::Expect as Wire;
        let missing =
            || Malformed::new(name, "one of `exists`, `state` and `revision` is required");
        Ok(match wire.ok_or_else(missing)? {
            Wire::Exists(true) => Expectation::Exists,
            Wire::Exists(false) => Expectation::Missing,
            Wire::State(state) => Expectation::InState(Field::parse("state", state)?),
            Wire::Revision(revision) => Expectation::AtRevision(Revision(revision)),
        })
    }
}

/// Both directions between a type of the state machine and a message:
/// `field of the type: field of the message`.
macro_rules! message {
    ($type:ident as $wire:ident { $($field:ident: $name:ident),* $(,)? }) => {
        impl From<$type> for v1::$wire {
            fn from($type { $($field),* }: $type) -> Self {
                Self { $($name: Field::into_wire($field)),* }
            }
        }

        impl TryFrom<v1::$wire> for $type {
            type Error = Malformed;

            fn try_from(v1::$wire { $($name),* }: v1::$wire) -> Result<Self, Malformed> {
                Ok(Self { $($field: Field::parse(stringify!($name), $name)?),* })
            }
        }
    };
}

/// Like [`message!`], for a command and the request that carries it with the caller's key. A field
/// of the request that is no part of the command follows `beside`.
macro_rules! request {
    ($type:ident as $wire:ident { $($field:ident: $name:ident),* $(,)? } $(beside $other:ident)?) => {
        impl From<($type, Option<IdempotencyKey>)> for v1::$wire {
            fn from((it, key): ($type, Option<IdempotencyKey>)) -> Self {
                let $type { $($field),* } = it;
                Self {
                    $($name: Field::into_wire($field),)*
                    $($other: Default::default(),)?
                    idempotency_key: Field::into_wire(key),
                }
            }
        }

        impl TryFrom<v1::$wire> for ($type, Option<IdempotencyKey>) {
            type Error = Malformed;

            fn try_from(request: v1::$wire) -> Result<Self, Malformed> {
                let v1::$wire { $($name,)* $($other: _,)? idempotency_key: key } = request;
                let command = $type { $($field: Field::parse(stringify!($name), $name)?),* };
                Ok((command, Field::parse("idempotency_key", key)?))
            }
        }
    };
}

pub(super) use {message, request};
