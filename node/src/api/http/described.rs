//! Parts of the OpenAPI description that cannot be derived from the routes' types: formats of strings and
//! numbers, and the error responses of each kind of route.
//!
//! These types are never instantiated; they describe what other modules parse.

use std::collections::BTreeMap;

use lockstep_machine::{Delete, Migrate, Setting, Transition};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder, Schema};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

/// The media type of all errors except those of the short interface.
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
    /// A transition of the instance that the path names.
    TransitionBody = without_id(Transition::schema());
    /// The conditions for deleting the instance that the path names.
    DeleteBody = without_id(Delete::schema());
    /// A migration of the instance that the path names.
    MigrateBody = without_id(Migrate::schema());
    /// The cluster settings, by name.
    Settings = Setting::ALL.into_iter().fold(settings(), |it, setting| it.required(setting.info().name));
    /// New values for some of the cluster settings, by name.
    SettingsUpdate = settings().additional_properties(Some(AdditionalProperties::FreeForm(false)));
}

/// The object without its `id`.
fn without_id(schema: RefOr<Schema>) -> ObjectBuilder {
    let RefOr::T(Schema::Object(mut object)) = schema else {
        return ObjectBuilder::new();
    };
    object.properties.remove("id");
    object.required.retain(|field| field != "id");
    object.into()
}

/// A text that matches `pattern`, of `min` to `max` bytes.
pub(super) fn text(pattern: &str, min: usize, max: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .min_length(Some(min))
        .max_length(Some(max))
}

/// Any text.
pub(super) fn plain() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// The cursor of an event: `revision-position`.
pub(super) fn cursor() -> ObjectBuilder {
    text(r"^[0-9]{1,19}-[0-9]{1,9}$", 3, 29)
}

/// A whole number from `min` to `max`.
pub(super) fn whole_number(min: usize, max: usize) -> ObjectBuilder {
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
    /// A request with a query, a path parameter or a body.
    Malformed {
        400: "The request is not valid; nothing was executed",
    }
    /// A request with a body.
    Unread {
        408: "The body did not arrive in time",
        415: "The route does not support the body's Content-Type",
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
        409: "The request conflicts with the current state; nothing was changed",
        422: "The request cannot be executed as it is, or exceeds a limit on one request; nothing was changed",
        429: "`overloaded`: too many requests wait; nothing was executed",
        502: "`unknown_outcome`: this node runs an older release and cannot read the outcome",
    }
    /// A write with `If-Match`.
    Unmatched {
        412: "`revision_mismatch`: `If-Match` names another revision; nothing was changed",
    }
    /// A write that makes something.
    Full {
        507: "The cluster is at a limit; nothing was changed",
    }
    /// A watch.
    Unwatchable {
        404: "`unknown_machine`: there is no such machine",
        409: "`revision_ahead`: the cluster has not reached the revision to start from; `cursor_of_another_cluster`: the event id is of another cluster",
        410: "`compacted`: some events after the requested position are no longer kept; `oldest_revision` is the oldest revision whose events are all kept",
        422: "`unknown_state`: no definition has the state",
        429: "`too_many_watchers`: this node already has `watchers_max` open watches",
        503: "The cluster cannot answer now",
    }
    /// A request that needs a leader.
    Unanswered {
        503: "The cluster cannot answer now, or this node is too busy; nothing was executed",
        504: "`outcome_unknown`: no answer in time; a write may or may not have been executed",
    }
}

/// An error as a problem document.
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

/// Error responses of the short interface: one line of text, except for errors that are raised before the
/// route is reached.
pub(super) struct ShortRefusals;

impl IntoResponses for ShortRefusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let texts = [
            (
                400,
                "The transition is not allowed, or the request is not valid",
                false,
            ),
            (
                409,
                "`request_expired`: a duplicate of the request arrived late and was not executed",
                false,
            ),
            (
                422,
                "The idempotency key was used for another request",
                false,
            ),
            (429, "Too many requests wait; nothing was executed", false),
            (
                502,
                "This node runs an older release and cannot read the outcome",
                false,
            ),
            (
                503,
                "The cluster cannot answer now, or this node is too busy; nothing was executed",
                true,
            ),
            (
                504,
                "No answer in time; the transition may or may not have been executed",
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
