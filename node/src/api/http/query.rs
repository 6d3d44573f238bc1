//! Query parameters that parse and document themselves.
//!
//! [`query!`](query) declares the parameters of a route as a structure. Its fields are [`Value`]s, and
//! their comments the text of `/openapi.json`. A parameter that is unknown, repeated, missing or
//! malformed rejects the whole request, so that a typing error never changes what a request means.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use lockstep_machine::{
    EventCursor, GlobalRevision, InstanceName, MachineName, NAME_LEN_MAX, Revision, StateName,
    Version, nearest,
};
use lockstep_proto::ErrorCode;
use utoipa::PartialSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};

use super::described::{AHEAD, MALFORMED, Refusals, cursor, plain, text, whole_number};
use super::input::parameter;
use super::operation::{Description, Input};
use crate::api::problem::Problem;
use crate::service::{Consistency, Freshness, LIMIT_MAX, Language, PictureFormat};
use crate::telemetry::report::{DURATION_MAX, NAME_LEN_MAX as REPORT_NAME_LEN_MAX};

/// A value that a query parameter can have.
pub(super) trait Value: Sized {
    /// Reads the parameter `name`.
    fn parse(name: &str, text: &str) -> Result<Self, Problem>;

    /// The rule for its text.
    fn schema() -> RefOr<Schema>;

    /// The value without the parameter; none if the parameter is required.
    fn absent() -> Option<Self> {
        None
    }
}

impl<T: Value> Value for Option<T> {
    fn parse(name: &str, text: &str) -> Result<Self, Problem> {
        T::parse(name, text).map(Some)
    }

    fn schema() -> RefOr<Schema> {
        T::schema()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

pub(super) fn invalid(name: &str, rule: impl Display) -> Problem {
    let detail = format!("parameter {name:?} {rule}");
    Problem::new(ErrorCode::InvalidParameter, detail)
}

pub(super) fn missing(name: &str) -> Problem {
    let detail = format!("parameter {name:?} is missing");
    Problem::new(ErrorCode::MissingParameter, detail)
}

/// Declares values: the rule for the text, how it is read, and the default if there is one.
macro_rules! values {
    ($($type:ty $(, by default $default:expr)? => $schema:expr, $parse:expr;)+) => {$(
        impl Value for $type {
            fn parse(name: &str, text: &str) -> Result<Self, Problem> {
                let parse: fn(&str, &str) -> Result<Self, Problem> = $parse;
                parse(name, text)
            }

            fn schema() -> RefOr<Schema> {
                $schema.into()
            }

            $(fn absent() -> Option<Self> {
                Some($default)
            })?
        }
    )+};
}

fn number<T: FromStr + PartialOrd + Display>(
    name: &str,
    text: &str,
    (min, max): (T, T),
) -> Result<T, Problem> {
    let number = text.parse::<T>().ok();
    let allowed = number.filter(|number| (&min..=&max).contains(&number));
    let rule = || format!("must be a whole number from {min} to {max}");
    allowed.ok_or_else(|| invalid(name, rule()))
}

macro_rules! numbers {
    ($($type:ident: $min:expr, $max:expr;)+) => {
        values! {$(
            $type => whole_number($min, usize::try_from($max).unwrap_or(usize::MAX)).build(),
                |name, text| number(name, text, ($min, $max)).map($type);
        )+}
    };
}

macro_rules! choices {
    ($($type:ty $(, by default $default:expr)? => {
        $first:literal => $value:expr, $($text:literal => $other:expr,)*
    })+) => {
        values! {$(
            $type $(, by default $default)? => plain().enum_values(Some([$first $(, $text)*])).build(),
                |name, text| match text {
                    $first => Ok($value),
                    $($text => Ok($other),)*
                    _ => Err(invalid(name, concat!("must be ", $first $(, " or ", $text)*))),
                };
        )+}
    };
}

/// How many a page may hold.
pub(super) struct Limit(pub(super) u64);
pub(super) struct Amount(pub(super) u64);
/// Whether something is wanted; the name alone says yes.
pub(super) struct Flag(pub(super) bool);
/// What a name begins with.
pub(super) struct Prefix(pub(super) String);
/// An instance: its id, or its name if the machine is known.
pub(super) struct Instance(pub(super) String);
pub(super) struct Label(pub(super) (String, String));
/// Where a page of instances starts.
pub(super) struct PageCursor(pub(super) String);
/// Where a page of events starts.
pub(super) struct EventPageCursor(pub(super) EventCursor);
/// One event, or all.
pub(super) struct EventOrAll(pub(super) Option<EventCursor>);
pub(super) struct Millis(pub(super) Duration);
/// The name of a counter or timer.
pub(super) struct ReportName(pub(super) String);

numbers! {
    Version: 1, u32::MAX;
    Revision: 0, u64::MAX;
    GlobalRevision: 0, u64::MAX;
    Limit: 1, LIMIT_MAX;
    Amount: 0, u64::MAX;
}

choices! {
    Consistency, by default Self::Linearizable => { "linearizable" => Self::Linearizable, "stale" => Self::Stale, }
    Language, by default Self::Json => { "json" => Self::Json, "yaml" => Self::Yaml, }
    Flag => { "true" => Self(true), "" => Self(true), "false" => Self(false), }
    PictureFormat, by default Self::Mermaid => { "mermaid" => Self::Mermaid, "dot" => Self::Dot, "svg" => Self::Svg, }
}

// Other parts check the rules of the texts that are taken as they are.
values! {
    bool, by default false => <Self as PartialSchema>::schema(),
        |name, text| text.parse().map_err(|_| invalid(name, "must be true or false"));
    MachineName => <Self as PartialSchema>::schema(), |_, text| Ok(text.parse()?);
    InstanceName => <Self as PartialSchema>::schema(), |_, text| Ok(text.parse()?);
    StateName => <Self as PartialSchema>::schema(), |_, text| Ok(text.parse()?);
    Prefix => text(r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$", 0, NAME_LEN_MAX).build(),
        |_, text| Ok(Self(text.to_owned()));
    Instance => plain().build(), |_, text| Ok(Self(text.to_owned()));
    PageCursor => plain().pattern(Some("^[0-9a-f]{18,144}$")).build(), |_, text| Ok(Self(text.to_owned()));
    ReportName => text(r"^(?!lockstep\.)[A-Za-z0-9._:/-]+$", 1, REPORT_NAME_LEN_MAX).build(),
        |_, text| Ok(Self(text.to_owned()));
    Label => plain().pattern(Some("^[^=]*=")).build(), |name, text| {
        let entry = text.split_once('=');
        let (key, value) = entry.ok_or_else(|| invalid(name, "must be key=value"))?;
        Ok(Self((key.to_owned(), value.to_owned())))
    };
    EventPageCursor => cursor().build(), |_, text| {
        text.parse().map(Self).map_err(|_| crate::service::Invalid::Cursor.into())
    };
    EventOrAll => text(r"^(all|[0-9]{1,19}-[0-9]{1,9})$", 3, 29).build(), |name, text| {
        let rule = "must be the cursor of an event, revision-position, or all";
        match text {
            "all" => Ok(Self(None)),
            one => one.parse().map(|it| Self(Some(it))).map_err(|_| invalid(name, rule)),
        }
    };
    Millis => ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)).maximum(Some(3_600_000)).build(),
        |name, text| {
            let max = DURATION_MAX.as_secs_f64() * 1e3;
            match text.parse::<f64>() {
                // NaN and the infinities are outside every range.
                Ok(ms) if (0.0..=max).contains(&ms) => Ok(Self(Duration::from_secs_f64(ms / 1e3))),
                _ => Err(invalid(name, format!("must be a number of milliseconds from 0 to {max}"))),
            }
        };
}

/// The parameters that a query has, decoded, in order.
#[derive(Debug, Default)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn parse(uri: &Uri) -> Result<Self, Problem> {
        let pairs = axum::extract::Query::try_from_uri(uri).map_err(|_| {
            let detail = "the query is not a list of name=value, joined by &";
            Problem::new(ErrorCode::InvalidQuery, detail)
        })?;
        Ok(Self(pairs.0))
    }

    /// Checks that each is known, and there once.
    fn check(&self, known: &[&str]) -> Result<(), Problem> {
        for (position, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let name: String = name.chars().take(80).collect();
                let hint = hint(&name, known.iter().copied());
                let known = match known {
                    [] => "none".to_owned(),
                    known => known.join(", "),
                };
                let detail = format!("unknown parameter {name:?}{hint}; known: {known}");
                return Err(Problem::new(ErrorCode::UnknownParameter, detail));
            }
            if self.0[..position]
                .iter()
                .any(|(earlier, _)| earlier == name)
            {
                let detail = format!("parameter {name:?} appears more than once");
                return Err(Problem::new(ErrorCode::RepeatedParameter, detail));
            }
        }
        Ok(())
    }

    pub(super) fn value<T: Value>(&self, name: &str) -> Result<T, Problem> {
        match self.0.iter().find(|(found, _)| found == name) {
            Some((_, text)) => T::parse(name, text),
            None => T::absent().ok_or_else(|| missing(name)),
        }
    }
}

/// Takes the name of a parameter and its description.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&'static str, fn() -> Parameter);

/// The parameters of a route, or some of them.
pub(super) trait Parameters: Sized {
    /// What may go wrong with them, beside that they are malformed.
    const REFUSALS: Refusals = &[];

    fn each(_: Visit<'_>) {}

    fn read(pairs: &Pairs) -> Result<Self, Problem>;
}

impl Parameters for () {
    fn read(_: &Pairs) -> Result<Self, Problem> {
        Ok(())
    }
}

impl<A: Parameters, B: Parameters> Parameters for (A, B) {
    /// Only what is last in a list of parts may have some.
    const REFUSALS: Refusals = B::REFUSALS;

    fn each(visit: Visit<'_>) {
        A::each(visit);
        B::each(visit);
    }

    fn read(pairs: &Pairs) -> Result<Self, Problem> {
        Ok((A::read(pairs)?, B::read(pairs)?))
    }
}

/// The query of a request, which has no parameters but `P`.
pub(super) struct Query<P>(pub(super) P);

impl<P: Parameters> Query<P> {
    pub(super) fn of(uri: &Uri) -> Result<Self, Problem> {
        let mut pairs = Pairs::default();
        if uri.query().is_some() {
            pairs = Pairs::parse(uri)?;
            let mut known = vec![];
            P::each(&mut |name, _| known.push(name));
            pairs.check(&known)?;
        }
        P::read(&pairs).map(Self)
    }
}

impl<P: Parameters, S: Send + Sync> FromRequestParts<S> for Query<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.uri)
    }
}

impl<P: Parameters> Input for Query<P> {
    fn describe(description: &mut Description) {
        description.refuses(MALFORMED).refuses(P::REFUSALS);
        P::each(&mut |_, parameter| {
            description.parameter(parameter());
        });
    }
}

pub(super) fn described<T: Value>(name: &str, what: &str) -> Parameter {
    parameter(
        ParameterIn::Query,
        name,
        T::absent().is_none(),
        what,
        T::schema(),
    )
    .build()
}

/// Declares the parameters of a route.
macro_rules! query {
    ($name:ident {
        $($(#[doc = $what:literal])+ $field:ident: $type:ty,)+
    }) => {
        pub(super) struct $name {
            $($(#[doc = $what])+ pub(super) $field: $type,)+
        }

        $crate::api::http::query::parameters! {
            $name { $($(#[doc = $what])+ $field: $type,)+ }
        }
    };
}

/// Declares the fields of a structure as parameters.
macro_rules! parameters {
    ($name:ident {
        $($(#[doc = $what:literal])+ $field:ident: $type:ty,)+
    } $(may be refused: $refusals:expr)?) => {
        impl $crate::api::http::query::Parameters for $name {
            $(const REFUSALS: Refusals = $refusals;)?

            fn each(visit: $crate::api::http::query::Visit<'_>) {
                use $crate::api::http::query::described;
                $(visit(stringify!($field), || {
                    described::<$type>(stringify!($field), concat!($($what),+))
                });)+
            }

            fn read(
                pairs: &$crate::api::http::query::Pairs,
            ) -> Result<Self, $crate::api::problem::Problem> {
                Ok(Self { $($field: pairs.value(stringify!($field))?,)+ })
            }
        }
    };
}

pub(super) use {parameters, query};

query! {
    OneVersion {
        /// The version; default: the newest.
        version: Option<Version>,
    }
}

query! {
    DryRun {
        /// Only validate, and return what would happen.
        dry_run: bool,
    }
}

parameters! {
    Freshness {
        /// linearizable (default): sees every write acknowledged before the read began; stale: what this node has applied
        consistency: Consistency,
        /// Wait until the node has applied this revision of the cluster, for example that of an earlier write
        min_revision: Option<GlobalRevision>,
    } may be refused: AHEAD
}

/// `; did you mean ...?` where a known name is near.
fn hint<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(wrong, known) {
        Some(known) => format!("; did you mean {known:?}?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    query! {
        Asked {
            /// Required.
            a: MachineName,
            /// Optional.
            version: Option<Version>,
            /// False by default.
            flag: bool,
        }
    }

    fn read<P: Parameters>(query: &str) -> Result<P, Problem> {
        let uri = format!("/?{query}").parse().unwrap();
        Query::of(&uri).map(|Query(read)| read)
    }

    #[test]
    fn parameters_are_known_typed_and_there_once() {
        let asked: Asked = read("a=order&version=7&flag=true").unwrap();
        assert_eq!(asked.a.as_str(), "order");
        assert_eq!((asked.version, asked.flag), (Some(Version(7)), true));
        let asked: Asked = read("a=order").unwrap();
        assert_eq!((asked.version, asked.flag), (None, false));
        for (bad, code, words) in [
            (
                "a=1&a=1",
                "repeated_parameter",
                "\"a\" appears more than once",
            ),
            ("a=1&c=1", "unknown_parameter", "known: a, version, flag"),
            (
                "a=1&verison=1",
                "unknown_parameter",
                "did you mean \"version\"?",
            ),
            ("flag=true", "missing_parameter", "\"a\" is missing"),
            (
                "a=1&flag=1",
                "invalid_parameter",
                "\"flag\" must be true or false",
            ),
            ("a=1&version=0", "invalid_parameter", "from 1 to 4294967295"),
            ("a=%20", "invalid_name", "character 1 is a space"),
        ] {
            let problem = read::<Asked>(bad).err().expect(bad);
            assert_eq!(problem.code, code, "{bad}");
            assert!(problem.detail.contains(words), "{bad}: {}", problem.detail);
        }
        assert!(read::<()>("").is_ok());
        assert_eq!(read::<()>("a=1").unwrap_err().code, "unknown_parameter");
    }

    #[test]
    fn freshness_is_read_strictly() {
        let freshness = |query| read::<Freshness>(query).map_err(|problem| problem.code.as_str());
        assert_eq!(freshness(""), Ok(Freshness::default()));
        let expected = Freshness {
            consistency: Consistency::Stale,
            min_revision: Some(GlobalRevision(7)),
        };
        assert_eq!(freshness("consistency=stale&min_revision=7"), Ok(expected));
        assert_eq!(freshness("consistency=fresh"), Err("invalid_parameter"));
        assert_eq!(freshness("min_revision=-1"), Err("invalid_parameter"));
    }

    #[test]
    fn durations_are_finite_and_bounded() {
        let read = |text| Millis::parse("ms", text).map(|Millis(took)| took);
        assert_eq!(read("12.5").unwrap(), Duration::from_micros(12_500));
        assert_eq!(read("0").unwrap(), Duration::ZERO);
        assert_eq!(read("3600000").unwrap(), DURATION_MAX);
        for bad in ["", "-1", "NaN", "inf", "3600000.1", "1e400", "ten"] {
            assert_eq!(read(bad).unwrap_err().code, "invalid_parameter", "{bad:?}");
        }
    }

    #[test]
    fn all_dead_letters_are_requested_only_explicitly() {
        let which = |text| EventOrAll::parse("event", text).map(|EventOrAll(which)| which);
        assert!(which("all").unwrap().is_none());
        let cursor = which("7-2").unwrap().unwrap();
        assert_eq!((cursor.revision, cursor.position), (GlobalRevision(7), 2));
        for bad in ["", "7", "al"] {
            assert_eq!(which(bad).unwrap_err().code, "invalid_parameter", "{bad}");
        }
    }
}
