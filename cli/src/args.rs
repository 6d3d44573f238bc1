//! Arguments that several commands take.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use lockstep_client::{
    Call, Consistency, Freshness, GlobalRevision, IdempotencyKey, InstanceId, InvalidName,
    MachineName, Metadata, Revision, StateName, TransitionCall, Trigger, Version,
};
use lockstep_machine::{InstanceName, InvalidDuration, Transition, parse_duration};

use super::Failure;

/// Calls that take the options that were given.
pub(super) trait Maybe: Sized {
    /// `set`, if there is a value to set.
    fn maybe<T>(self, given: Option<T>, set: impl FnOnce(Self, T) -> Self) -> Self {
        match given {
            Some(value) => set(self, value),
            None => self,
        }
    }
}

impl<T> Maybe for T {}

/// A machine, or one of its instances: `order` or `order/42`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Machine(MachineName),
    Instance(InstanceId),
}

impl FromStr for Subject {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.contains('/') {
            text.parse().map(Subject::Instance)
        } else {
            text.parse().map(Subject::Machine)
        }
    }
}

impl Subject {
    pub(super) fn machine(&self) -> &MachineName {
        match self {
            Subject::Machine(machine) => machine,
            Subject::Instance(id) => &id.machine,
        }
    }
}

/// An instance of a machine, by its name or its whole id.
pub(super) fn within(machine: &MachineName, text: &str) -> Result<InstanceId, String> {
    let id = match text.split_once('/') {
        None => InstanceName::new(text).map(|name| InstanceId::from_parts(machine.clone(), name)),
        Some(_) => text.parse(),
    };
    let id = id.map_err(|fault| fault.to_string())?;
    if id.machine != *machine {
        return Err(format!("{id} is not an instance of {machine}"));
    }
    Ok(id)
}

/// Who and why.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Meta {
    /// Metadata, for example who=ann; may be repeated
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
}

impl Meta {
    pub(super) fn into_metadata(self) -> Result<Metadata, Failure> {
        Metadata::new(self.pairs).map_err(|fault| Failure::usage(format!("--meta: {fault}")))
    }
}

/// `key=value`; the value may hold further `=`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it must have the form KEY=VALUE".to_owned()),
    }
}

/// What every change of an instance takes.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Change {
    /// Reject unless the instance is in this state
    #[arg(long, value_name = "STATE")]
    pub(super) expect_state: Option<StateName>,

    /// Reject unless the instance is at this revision
    #[arg(long, value_name = "N", value_parser = revision)]
    pub(super) expect_revision: Option<Revision>,

    #[command(flatten)]
    pub(super) meta: Meta,

    #[command(flatten)]
    pub(super) key: Key,
}

impl Change {
    /// The transition that has these expectations.
    pub(super) fn transition(
        self,
        instance: InstanceId,
        trigger: Trigger,
    ) -> Result<TransitionCall, Failure> {
        Ok(self.key.on(Transition {
            expect_state: self.expect_state,
            expect_revision: self.expect_revision,
            metadata: self.meta.into_metadata()?,
            ..Transition::new(instance, trigger)
        }))
    }
}

fn revision(text: &str) -> Result<Revision, String> {
    from(0)(text).map(Revision)
}

/// A whole number, at least this one.
pub(super) fn from(min: u64) -> impl Fn(&str) -> Result<u64, String> + Clone {
    whole(min, u64::MAX)
}

/// A whole number in a range.
pub(super) fn range(min: u32, max: u32) -> impl Fn(&str) -> Result<u32, String> + Clone {
    whole(min, max)
}

/// The error is in the words of this product, not in those of the parser of a type.
fn whole<T>(min: T, max: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Copy,
{
    move |text| match text.parse() {
        Ok(number) if number >= min && number <= max => Ok(number),
        _ => Err(format!("it must be a whole number from {min} to {max}")),
    }
}

/// The idempotency key.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Key {
    /// A request with the same key returns the first outcome instead of being executed again
    #[arg(long = "idempotency-key", visible_alias = "key", value_name = "KEY")]
    pub(super) key: Option<IdempotencyKey>,
}

impl Key {
    /// The call, with this key.
    pub(super) fn on<C>(self, call: impl Into<Call<C>>) -> Call<C> {
        call.into().maybe(self.key, Call::idempotency_key)
    }
}

/// A part of a list, or all of it.
#[derive(Debug, Clone, Args)]
pub(super) struct Extent {
    /// Maximum number to show
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = from(1))]
    limit: u64,

    /// Show all
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// Continue an earlier list: its next_cursor, with the same filters
    #[arg(long, value_name = "CURSOR")]
    pub(super) cursor: Option<String>,
}

/// The most items on one page.
pub(super) const PAGE_MAX: u32 = 1000;

impl Extent {
    /// The number of items to show at most.
    pub(super) fn wanted(&self) -> u64 {
        if self.all { u64::MAX } else { self.limit }
    }
}

/// The size of the next page, when so many items are left to show.
pub(super) fn page_size(left: u64) -> u32 {
    u32::try_from(left).unwrap_or(PAGE_MAX).min(PAGE_MAX)
}

/// A version of a machine.
pub(super) fn version(text: &str) -> Result<Version, String> {
    range(1, u32::MAX)(text).map(Version)
}

/// A duration, as in definitions.
pub(super) fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    parse_duration(text).map(Duration::from_millis)
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Fresh {
    /// Read what one node has applied, which may be out of date; needs no leader
    #[arg(long)]
    pub(super) stale: bool,

    /// Wait until the node has applied this revision of the cluster
    #[arg(long, value_name = "N", value_parser = from(0))]
    pub(super) min_revision: Option<u64>,
}

impl From<Fresh> for Freshness {
    fn from(fresh: Fresh) -> Self {
        let freshness = Freshness::from(match fresh.stale {
            true => Consistency::Stale,
            false => Consistency::Linearizable,
        });
        match fresh.min_revision {
            Some(revision) => freshness.min_revision(GlobalRevision(revision)),
            None => freshness,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_machine_or_an_instance() {
        let read = |text: &str| text.parse::<Subject>();
        assert!(matches!(read("order"), Ok(Subject::Machine(_))));
        assert!(matches!(read("order/42"), Ok(Subject::Instance(_))));
        for bad in ["", "/", "order/", "a/b/c", "a b"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_instance_is_named_with_or_without_its_machine() {
        let machine = MachineName::new("order").expect("the name is valid");
        for good in ["42", "order/42"] {
            let id = within(&machine, good).map(|id| id.to_string());
            assert_eq!(id.as_deref(), Ok("order/42"));
        }
        assert!(within(&machine, "stock/42").is_err_and(|why| why.contains("not an instance")));
        assert!(within(&machine, "4 2").is_err_and(|why| why.contains("character 2 is a space")));
    }

    #[test]
    fn a_value_may_hold_what_parts_it_from_its_key() {
        assert_eq!(pair("why=a=b"), Ok(("why".to_owned(), "a=b".to_owned())));
        assert_eq!(pair("why="), Ok(("why".to_owned(), String::new())));
        assert!(pair("=x").is_err() && pair("x").is_err());
    }
}
