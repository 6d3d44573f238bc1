//! Parts of the OpenAPI description that the types of the routes do not carry: the rules for names and
//! numbers, shared parameters, and the refusals of each kind of route.
//!
//! No value of these types is ever made; they describe what is parsed elsewhere.

use std::collections::BTreeMap;

use lockstep_machine::{METADATA_KEY_LEN_MAX, NAME_LEN_MAX, Setting};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder, Schema};
use utoipa::{IntoParams, IntoResponses, PartialSchema, ToSchema};

/// Every refusal but those of the short interface.
pub(super) const PROBLEM: &str = "application/problem+json";

macro_rules! schemas {
    ($($(#[doc = $doc:literal])+ $name:ident = $schema:expr;)+) => {$(
        $(#[doc = $doc])+
        pub(super) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let description = [$($doc),+].join("").trim().to_owned();
                $schema.description(Some(description)).build().into()
            }
        }

        impl ToSchema for $name {}
    )+};
}

schemas! {
    /// 1 to 64 letters, digits, `-`, `_`, `.`; a letter or digit first.
    Name = text(r"^[A-Za-z0-9][A-Za-z0-9._-]*$", 1, NAME_LEN_MAX);
    /// What a name begins with.
    Prefix = text(r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$", 0, NAME_LEN_MAX);
    /// `machine/name`.
    Id = text(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}/[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", 3, 2 * NAME_LEN_MAX + 1);
    /// The name of a sink: a small letter, then small letters and digits.
    SinkName = text(r"^[a-z][a-z0-9]*$", 1, 32);
    /// The place of an event: `revision-position`.
    EventPlace = text(r"^[0-9]{1,19}-[0-9]{1,9}$", 3, 29);
    /// The place of an event, `revision-position`; or `all`.
    EventPlaceOrAll = text(r"^(all|[0-9]{1,19}-[0-9]{1,9})$", 3, 29);
    /// The name of a counter or timer; those that begin with `lockstep.` are the server's own.
    ReportName = text(r"^(?!lockstep\.)[A-Za-z0-9._:/-]+$", 1, crate::telemetry::report::NAME_LEN_MAX);
    /// Texts by name: who, why, or what to list by. A name has at most 64 bytes; neither names nor
    /// texts hold control characters.
    Pairs = ObjectBuilder::new()
        .property_names(Some(text(r"^[^\u0000-\u001f\u007f-\u009f]+$", 1, METADATA_KEY_LEN_MAX).build()))
        .additional_properties(Some(Schema::Object(plain_text().build())));
    /// Names of states by names of states.
    StateMapping = ObjectBuilder::new()
        .property_names(Some(text(r"^[A-Za-z0-9][A-Za-z0-9._-]*$", 1, NAME_LEN_MAX).build()))
        .additional_properties(Some(Ref::from_schema_name("Name")));
    /// A revision: of an instance or of the cluster.
    RevisionNumber = whole_number(0, usize::MAX);
    /// A whole number.
    Amount = whole_number(0, usize::MAX);
    /// The cluster settings, by name.
    Settings = Setting::ALL.into_iter().fold(settings(), |it, setting| it.required(setting.info().name));
    /// New values for some of the cluster settings, by name.
    SettingsUpdate = settings().additional_properties(Some(AdditionalProperties::FreeForm(false)));
    /// The version of a definition.
    VersionNumber = whole_number(1, u32::MAX as usize);
}

fn text(pattern: &str, min: usize, max: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .min_length(Some(min))
        .max_length(Some(max))
}

fn plain_text() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]*$"))
}

fn whole_number(min: usize, max: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(min))
        .maximum(Some(max))
}

fn settings() -> ObjectBuilder {
    let property = |object: ObjectBuilder, setting: Setting| {
        let info = setting.info();
        let bound = |value: &u64| usize::try_from(*value).unwrap_or(usize::MAX);
        let number = whole_number(bound(info.range.start()), bound(info.range.end()))
            .description(Some(info.doc))
            .default(Some(info.default.into()));
        object.property(info.name, number.build())
    };
    Setting::ALL
        .into_iter()
        .fold(ObjectBuilder::new(), property)
}

/// How fresh a read must be.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) enum ReadConsistency {
    /// Sees every write acknowledged before the read began; the default.
    Linearizable,
    /// What this node has applied so far.
    Stale,
}

/// How a definition is written.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) enum DefinitionFormat {
    Json,
    Yaml,
}

/// How a machine is drawn.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) enum PictureFormat {
    Mermaid,
    Dot,
    Svg,
}

/// A definition: JSON, or the same in YAML.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) struct DefinitionDocument {
    #[schema(value_type = Name)]
    name: (),
    description: Option<String>,
    #[schema(value_type = Option<Pairs>, nullable = false)]
    labels: Option<()>,
    /// The state a new instance starts in.
    #[schema(value_type = Name)]
    initial: (),
    /// By name.
    #[schema(value_type = BTreeMap<String, StateDocument>)]
    states: (),
    transitions: Option<Vec<TransitionDocument>>,
}

/// A state of a definition.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) struct StateDocument {
    description: Option<String>,
    /// Nothing leads out of it.
    #[schema(required = false)]
    r#final: bool,
    #[schema(nullable = false)]
    timeout: Option<TimeoutDocument>,
}

/// Where an instance goes that stays in a state for too long.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) struct TimeoutDocument {
    after: AfterDocument,
    #[schema(value_type = Name)]
    to: (),
}

/// How long: `15m`, `1h 30m`, or a whole number of milliseconds.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) enum AfterDocument {
    Duration(String),
    Milliseconds(u64),
}

/// A state, several, or `*` for every one that is not final.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) enum FromDocument {
    One(String),
    Several(Vec<String>),
}

/// A transition of a definition, or several that differ in where they start.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) struct TransitionDocument {
    from: FromDocument,
    #[schema(value_type = Name)]
    to: (),
    #[schema(value_type = Option<Name>)]
    event: Option<()>,
    description: Option<String>,
}

fn parameter(name: &str, place: ParameterIn, what: &str, schema: RefOr<Schema>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::False)
        .description(Some(what))
        .schema(Some(schema))
        .build()
}

/// The parameters of every read.
pub(super) struct HowFresh;

impl IntoParams for HowFresh {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let query = |name, what, schema: &str| {
            let schema = Ref::from_schema_name(schema).into();
            parameter(name, ParameterIn::Query, what, schema)
        };
        vec![
            query("consistency", "How fresh it must be", "ReadConsistency"),
            query(
                "min_revision",
                "Not before this revision of the cluster: what a write answered",
                "RevisionNumber",
            ),
        ]
    }
}

/// The header of every write.
pub(super) struct OnlyOnce;

impl IntoParams for OnlyOnce {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "The same key gets the first answer again: 1 to 128 printable ASCII characters";
        // No space at either end: HTTP does not carry it.
        let key = text(r"^[!-~]([ -~]*[!-~])?$", 1, 128).build();
        vec![parameter(
            "Idempotency-Key",
            ParameterIn::Header,
            what,
            RefOr::T(key.into()),
        )]
    }
}

/// The header of every watch.
pub(super) struct Resumed;

impl IntoParams for Resumed {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "The id of the last event received; wins over from_revision";
        let id = text(r"^[0-9]{1,19}-[0-9]{1,9}$", 3, 29).build();
        vec![parameter(
            "Last-Event-ID",
            ParameterIn::Header,
            what,
            RefOr::T(id.into()),
        )]
    }
}

macro_rules! refusals {
    ($($(#[$doc:meta])+ $name:ident { $($status:literal: $what:literal,)+ })+) => {$(
        $(#[$doc])+
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([$((stringify!($status).to_owned(), problem($status, $what))),+])
            }
        }
    )+};
}

refusals! {
    /// A request that has anything to read in it.
    Malformed {
        400: "The request breaks the rules; nothing was executed",
    }
    /// A request with a body.
    Unread {
        408: "The body did not arrive in time",
        415: "The body's Content-Type is none that the route reads",
    }
    /// The requested thing does not exist.
    Missing {
        404: "There is no such machine, version, instance, sink, dead letter or path",
    }
    /// A read that names a revision.
    Ahead {
        409: "`revision_ahead`: the cluster has not reached `min_revision`",
    }
    /// A write.
    Refused {
        409: "It contradicts what is there now; nothing was changed",
        422: "It makes no sense as it stands, or is beyond a limit for one request; nothing was changed",
        429: "`overloaded`: too many requests wait; nothing was executed",
        502: "`unknown_outcome`: the cluster gave an answer that this node does not know",
    }
    /// A write that makes something.
    Full {
        507: "A limit of the cluster is reached; nothing was changed",
    }
    /// A watch.
    Unwatchable {
        410: "`compacted`: events from there on are no longer all kept; `oldest_revision` is the first that is whole",
        429: "`too_many_watchers`: this node has reached its limit",
        503: "The cluster cannot answer now",
    }
    /// What needs the cluster.
    Unanswered {
        503: "The cluster cannot answer now, or this node is too busy; nothing was executed",
        504: "`outcome_unknown`: no answer in time; a write may or may not have been executed",
    }
}

/// A refusal as a problem document.
pub(super) fn problem(status: u16, what: &str) -> RefOr<Response> {
    let body = Ref::from_schema_name("ProblemBody");
    let mut response = ResponseBuilder::new()
        .description(what)
        .content(PROBLEM, ContentBuilder::new().schema(Some(body)).build());
    if matches!(status, 429 | 503) {
        response = response.header("Retry-After", retry_after());
    }
    response.build().into()
}

fn retry_after() -> utoipa::openapi::Header {
    HeaderBuilder::new()
        .schema(Some(whole_number(1, 3600).build()))
        .description(Some("Seconds; absent if there is no hint"))
        .build()
}

/// With what the short interface refuses: one line of text, but for what is said before it is asked.
pub(super) struct ShortRefusals;

impl IntoResponses for ShortRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let texts = [
            (
                400,
                "The move is not possible, or the request breaks the rules",
                false,
            ),
            (409, "The request was given up before it came here", false),
            (
                422,
                "The idempotency key was used for another request",
                false,
            ),
            (429, "Too many requests wait; nothing was executed", false),
            (
                502,
                "The cluster gave an answer that this node does not know",
                false,
            ),
            (
                503,
                "The cluster cannot answer now, or this node is too busy; nothing was executed",
                true,
            ),
            (
                504,
                "No answer in time; a move may or may not have been executed",
                true,
            ),
        ];
        let entry = |(status, what, problem): (u16, &str, bool)| {
            let line = ContentBuilder::new()
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()));
            let mut response = ResponseBuilder::new()
                .description(what)
                .content("text/plain", line.build());
            if problem {
                let body = Ref::from_schema_name("ProblemBody");
                let content = ContentBuilder::new().schema(Some(body)).build();
                response = response.content(PROBLEM, content);
            }
            if matches!(status, 429 | 503) {
                response = response.header("Retry-After", retry_after());
            }
            (status.to_string(), response.build().into())
        };
        texts.map(entry).into_iter().collect()
    }
}
