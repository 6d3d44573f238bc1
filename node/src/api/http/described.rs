//! Parts of the OpenAPI description that cannot be derived from types: formats of strings and numbers, the
//! cluster settings, and the error responses of each kind of route.

use lockstep_machine::Setting;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A text that matches `pattern`, of `min` to `max` bytes.
pub(super) fn text(pattern: &str, min: usize, max: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .min_length(Some(min))
        .max_length(Some(max))
}

pub(super) fn plain() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// The cursor of an event: `revision-position`.
pub(super) fn cursor() -> ObjectBuilder {
    text(r"^[0-9]{1,19}-[0-9]{1,9}$", 3, 29)
}

pub(super) fn whole_number(min: usize, max: usize) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(min))
        .maximum(Some(max))
}

pub(super) struct Settings;

impl PartialSchema for Settings {
    fn schema() -> RefOr<Schema> {
        let settings = settings().description(Some("The cluster settings, by name."));
        let required = |it: ObjectBuilder, setting: Setting| it.required(setting.info().name);
        Setting::ALL
            .into_iter()
            .fold(settings, required)
            .build()
            .into()
    }
}

impl ToSchema for Settings {}

/// Each cluster setting as a property.
pub(super) fn settings() -> ObjectBuilder {
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

/// Statuses, and what each says.
pub(super) type Refusals = &'static [(u16, &'static str)];

macro_rules! refusals {
    ($($(#[$doc:meta])+ $name:ident { $($status:literal: $what:literal,)+ })+) => {$(
        $(#[$doc])+
        pub(super) const $name: Refusals = &[$(($status, $what)),+];
    )+};
}

refusals! {
    /// A request with a query, a path parameter or a body.
    MALFORMED {
        400: "The request is not valid; nothing was executed",
    }
    /// A request with a body.
    UNREAD {
        408: "The body did not arrive in time",
        415: "The route does not support the body's Content-Type",
    }
    /// The requested thing does not exist.
    MISSING {
        404: "There is no such machine, version, instance, sink, dead letter or path",
    }
    /// A read that names a revision.
    AHEAD {
        409: "`revision_ahead`: the cluster has not reached `min_revision`",
    }
    /// A write.
    REFUSED {
        409: "The request conflicts with the current state; nothing was changed",
        422: "The request cannot be executed as it is, or exceeds a limit on one request; nothing was changed",
        429: "`overloaded`: too many requests wait; nothing was executed",
        502: "`unknown_outcome`: this node runs an older release and cannot read the outcome",
    }
    /// A write with `If-Match`.
    UNMATCHED {
        412: "`revision_mismatch`: `If-Match` names another revision; nothing was changed",
    }
    /// A write that makes something.
    FULL {
        507: "The cluster is at a limit; nothing was changed",
    }
    /// A watch.
    UNWATCHABLE {
        404: "`unknown_machine`: there is no such machine",
        409: "`revision_ahead`: the cluster has not reached the revision to start from; `cursor_of_another_cluster`: the event id is of another cluster",
        410: "`compacted`: some events after the requested position are no longer kept; `oldest_revision` is the oldest revision whose events are all kept",
        422: "`unknown_state`: no definition has the state",
        429: "`too_many_watchers`: this node already has `watchers_max` open watches",
        503: "The cluster cannot answer now",
    }
    /// A request that needs a leader.
    UNANSWERED {
        503: "The cluster cannot answer now, or this node is too busy; nothing was executed",
        504: "`outcome_unknown`: no answer in time; a write may or may not have been executed",
    }
    /// The short interface.
    SHORT {
        400: "The transition is not allowed, or the request is not valid",
        409: "`request_expired`: a duplicate of the request arrived late and was not executed",
        422: "The idempotency key was used for another request",
        429: "Too many requests wait; nothing was executed",
        502: "This node runs an older release and cannot read the outcome",
        503: "The cluster cannot answer now, or this node is too busy; nothing was executed",
        504: "No answer in time; the transition may or may not have been executed",
    }
}
