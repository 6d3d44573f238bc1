//! Every route, with its description: `/openapi.json` is made from this table and from the signatures of
//! the handlers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::handler::Handler;
use axum::http::header::IF_MATCH;
use axum::middleware::from_fn;
use axum::routing::{MethodFilter, MethodRouter, head};
use lockstep_machine::Definition;
use serde_json::Value;
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::{Paths, RefOr, Schema};

use super::described::{FULL, MISSING, REFUSED, Refusals, SHORT, UNWATCHABLE};
use super::machines::DefinedBody;
use super::middleware::Guard;
use super::operation::{Description, Handles};
use super::{
    backup, cluster, dead_letters, instance, instances, local, machines, members, middleware,
    openapi, wrong_method,
};
use super::{pictures, settings, short, sinks, transactions, transitions, watch};
use crate::api::Edge;

/// Where definitions are sent, which may be larger than other bodies.
pub(super) const MACHINES: &str = "/v1/machines";

/// Routes, and what they are.
#[derive(Default)]
pub(super) struct Routes {
    methods: BTreeMap<&'static str, MethodRouter<Arc<Edge>>>,
    pub(super) paths: Paths,
    pub(super) schemas: BTreeMap<String, RefOr<Schema>>,
}

/// What the table says of an operation.
struct Text {
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    /// Its successful response: status, and what it is.
    response: (u16, &'static str),
}

impl Routes {
    /// Adds an operation; `more` describes what the signature of `handler` does not show.
    fn add<H, T, I>(
        &mut self,
        method: HttpMethod,
        path: &'static str,
        handler: H,
        text: Text,
        more: &[fn(&mut Description) -> &mut Description],
    ) where
        H: Handler<T, Arc<Edge>> + Handles<I>,
        T: 'static,
    {
        let filter = match method {
            HttpMethod::Post => MethodFilter::POST,
            HttpMethod::Patch => MethodFilter::PATCH,
            HttpMethod::Delete => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let mut description = Description::default();
        let (status, what) = text.response;
        <H as Handles<I>>::describe(&mut description, status, what);
        for add in more {
            add(&mut description);
        }
        let mut methods = MethodRouter::new().on(filter, handler);
        let by_get = method == HttpMethod::Get;
        let changes = !by_get || middleware::CHANGING_GETS.contains(&path);
        if changes && !description.has_body() {
            methods = methods.route_layer(from_fn(middleware::refuse_body));
        }
        if !by_get && !description.has_header(IF_MATCH.as_str()) {
            methods = methods.route_layer(from_fn(middleware::refuse_condition));
        }
        self.handle(path, methods);
        self.schemas.append(&mut description.schemas);
        let operation = description.build(text.id, text.tag, text.summary.trim());
        self.paths.add_path_operation(path, vec![method], operation);
    }

    pub(super) fn handle(&mut self, path: &'static str, methods: MethodRouter<Arc<Edge>>) {
        let others = self.methods.remove(path).unwrap_or_default();
        self.methods.insert(path, others.merge(methods));
    }

    /// The router of these routes, each with its [`Guard`]; `timeout` for routes to the service.
    pub(super) fn router(self, edge: &Arc<Edge>, timeout: Option<Duration>) -> Router<Arc<Edge>> {
        let add = |router: Router<Arc<Edge>>, (path, methods): (_, MethodRouter<Arc<Edge>>)| {
            let guard = Guard::new(edge, path, timeout);
            router.route(path, methods.fallback(wrong_method).layer(guard))
        };
        self.methods.into_iter().fold(Router::new(), add)
    }
}

/// `Method path operation_id: handler => status "the successful response", what the signature does not show;`
macro_rules! routes {
    ($routes:ident, $tag:literal, $(
        $(#[doc = $summary:literal])+
        $method:ident $path:tt $id:ident: $handler:path => $status:literal $response:literal $(, $more:expr)?;
    )+) => {$(
        let text = Text {
            id: stringify!($id),
            tag: $tag,
            summary: concat!($($summary),+),
            response: ($status, $response),
        };
        $routes.add(HttpMethod::$method, $path, $handler, text, &[$($more)?]);
    )+};
}

/// The routes of the service: under the limits on requests.
pub(super) fn served() -> Routes {
    let mut routes = Routes::default();
    routes! { routes, "short",
        /// Shows the state of triad/default or, with `next`, moves it there.
        Get "/" show_or_move: short::show_or_move => 200 "", shown_in_text;
        /// Moves triad/default.
        Post "/" move_by_post: short::move_by_post => 200 "", shown_in_text;
    }
    routes! { routes, "machines",
        /// Stores a definition: the machine's first version, or its next one.
        Post MACHINES define_machine: machines::define
            => 200 "The newest version is already equal, or this was a dry run",
            |it| it.answers::<DefinedBody>(201, "A new version", JSON).refuses(FULL);
        /// Every machine, with how many instances it has.
        Get MACHINES list_machines: machines::list => 200 "The machines";
        /// A machine: its newest version or the requested one.
        Get "/v1/machines/{machine}" show_machine: machines::show => 200 "The machine";
        /// Deletes a machine, or one version of it, that no instance uses.
        Delete "/v1/machines/{machine}" delete_machine: machines::delete => 200 "Deleted";
        /// A definition, in a form that can be stored again.
        Get "/v1/machines/{machine}/definition" machine_definition: pictures::definition => 200 "", |it| it
            .answers::<Definition>(
                200, "The definition; its version and the cluster's revision are in the headers",
                &["application/json", "application/yaml"],
            );
        /// A diagram of a machine, optionally with an instance's state highlighted.
        Get "/v1/machines/{machine}/graph" machine_graph: pictures::graph => 200 "", |it| it
            .answers::<String>(200, "The picture", &["text/plain", "text/vnd.graphviz", "image/svg+xml"])
            .refuses(&[
                (422, "`picture_too_large`: too many states or arrows for an SVG"),
                (500, "`internal`: the layout failed"),
            ]);
    }
    routes! { routes, "instances",
        /// Creates an instance in its machine's initial state. Without an id, one is generated; it is derived from the
        /// idempotency key if there is one.
        Post "/v1/machines/{machine}/instances" create_instance: instances::create => 201 "Created", |it| it
            .header(201, "Location", "The path of the instance").refuses(FULL).body_is_optional();
        /// Instances of a machine, in order of id, page by page.
        Get "/v1/machines/{machine}/instances" list_instances: instances::list => 200 "A page";
        /// An instance.
        Get "/v1/machines/{machine}/instances/{instance}" show_instance: instance::show => 200 "The instance",
            |it| it.header(200, "ETag", "Its revision, for If-Match");
        /// Deletes an instance, with its history. Expectations are in the body or in the query.
        Delete "/v1/machines/{machine}/instances/{instance}" delete_instance: instance::delete => 200 "Deleted",
            Description::body_is_optional;
        /// The last changes of an instance, oldest first.
        Get "/v1/machines/{machine}/instances/{instance}/history" instance_history: instance::history => 200 "Its history";
        /// Pins an instance to another version of its machine.
        Post "/v1/machines/{machine}/instances/{instance}/migrate" migrate_instance: instance::migrate
            => 200 "The migration, or what a dry run would do", Description::body_is_optional;
        /// Moves an instance.
        Post "/v1/machines/{machine}/instances/{instance}/transitions" transition_instance: transitions::transition
            => 200 "Moved";
    }
    routes! { routes, "transactions",
        /// Executes several operations atomically, in one revision. A rejection names the `operation` that failed and
        /// its `reason`.
        Post "/v1/transactions" transact: transactions::commit => 200 "All operations were executed",
            |it| it.refuses(MISSING).refuses(FULL);
    }
    routes! { routes, "cluster",
        /// `GET /v1/cluster?state_hash=true|false`.
        Get "/v1/cluster" cluster_status: cluster::status => 200 "The cluster as this node sees it";
        /// The cluster settings.
        Get "/v1/cluster/settings" get_settings: settings::show => 200 "All of them";
        /// Changes the named cluster settings, all or none.
        Patch "/v1/cluster/settings" update_settings: settings::update => 200 "All of them, as they are now",
            Description::body_is_optional;
        /// Writes a backup: the state at one log index, with every write that was acknowledged before the request.
        ///
        /// `lockstepd restore` makes a new cluster from it. The connection is closed without an end if the backup
        /// cannot be completed.
        Get "/v1/cluster/backup" backup: backup::backup => 200 "", |it| it
            .answers::<Vec<u8>>(
                200, "The file, with checksums and a trailer", &["application/octet-stream"],
            )
            .refuses(&[(429, "`backup_in_progress`: this node is already sending a backup")]);
        /// The members, as the answering node knows them, and what each says of itself.
        Get "/v1/cluster/members" list_members: members::list => 200 "The members, in order of name";
        /// Adds a node as a learner; it is promoted once it has caught up.
        Post "/v1/cluster/members" add_member: members::add => 200 "It was added", |it| it.refuses(&[
            (409, "`member_name_taken`, `node_in_cluster` or `membership_change_in_progress`"),
            (422, "`node_unreachable`"),
        ]);
        /// Removes a member. Its node stops.
        Delete "/v1/cluster/members/{member}" remove_member: members::remove => 200 "It was removed",
            |it| it.refuses(FEWER_VOTERS);
        /// Lets a learner become a voter, once it has caught up.
        Post "/v1/cluster/members/{member}/promote" promote_member: members::promote
            => 200 "The leader promotes it once it has caught up",
            |it| it.refuses(&[(409, "`membership_change_in_progress`")]);
        /// Makes a voter a learner, which it stays.
        Post "/v1/cluster/members/{member}/demote" demote_member: members::demote => 200 "It does not vote any more",
            |it| it.refuses(FEWER_VOTERS);
        /// Hands leadership over to another voter.
        Post "/v1/cluster/transfer-leadership" transfer_leadership: members::transfer_leadership
            => 200 "The node that leads now",
            |it| it.refuses(MISSING).refuses(&[(409, "`no_successor`")]).body_is_optional();
    }
    routes! { routes, "sinks",
        /// Every sink that is configured, as the leader sees it.
        Get "/v1/sinks" list_sinks: sinks::list => 200 "The sinks";
        /// One sink, as the leader sees it.
        Get "/v1/sinks/{sink}" show_sink: sinks::show => 200 "The sink";
        /// Requests a backfill: writes all current states to the destination again.
        Post "/v1/sinks/{sink}/reseed" reseed_sink: sinks::reseed
            => 202 "Requested; it runs as soon as the destination is available", |it| it.refuses(REFUSED).refuses(FULL);
        /// The events that the destination of a sink rejected permanently, in order, page by page.
        Get "/v1/sinks/{sink}/dead-letters" list_dead_letters: dead_letters::list => 200 "A page";
        /// Requests that one dead letter, or all, be delivered again. One that the destination accepts is removed.
        Post "/v1/sinks/{sink}/dead-letters/replay" replay_dead_letters: dead_letters::replay
            => 202 "They will be delivered again", |it| it.refuses(REFUSED);
        /// Discards one dead letter, or all: their events will never be delivered.
        Post "/v1/sinks/{sink}/dead-letters/discard" discard_dead_letters: dead_letters::discard
            => 200 "They are discarded", |it| it.refuses(REFUSED);
    }
    routes.handle("/v1/cluster/backup", head(backup::refuse_head));
    routes
}

/// Like the others, but with the timeout of a destination's check.
pub(super) fn checks() -> Routes {
    let mut routes = Routes::default();
    routes! { routes, "sinks",
        /// Tests a sink's destination in a separate table or collection: inserts rows, reads one back, drops the table.
        /// May take up to a minute.
        Post "/v1/sinks/{sink}/check" check_sink: sinks::check => 200 "The steps, even if one of them failed",
            |it| it.refuses(&[
                (503, "The cluster has no leader, or this node is too busy"),
                (504, "`sink_check_timeout`: the check did not finish within a minute"),
            ]);
    }
    routes
}

/// Outside the limit on requests: probes must be answered under load, and a watch lasts.
pub(super) fn probes() -> Routes {
    let mut routes = Routes::default();
    routes! { routes, "watch",
        /// Watches the events of all machines, of one machine or of one instance.
        Get "/v1/watch" watch: watch::all => 200 "", |it| it
            .answers::<String>(200, "Events: created, transitioned, migrated, deleted, defined, definition_deleted; bookmark while idle; lagged at the end, if the reader was too slow", EVENTS)
            .refuses(UNWATCHABLE);
        /// Watches the events of one machine.
        Get "/v1/machines/{machine}/watch" watch_machine: watch::machine => 200 "", |it| it
            .answers::<String>(200, "Events, as for /v1/watch", EVENTS)
            .refuses(UNWATCHABLE);
    }
    routes! { routes, "node",
        /// `GET /readyz`: whether this node can serve, and beside it what its sinks do.
        Get "/readyz" ready: cluster::ready => 200 "It can serve linearizable reads now",
            |it| it.refuses(&[(503, "Not now: `not_ready` or `unavailable`")]);
    }
    routes
}

/// Routes that concern this process alone: answered even under overload.
pub(super) fn own() -> Routes {
    let mut routes = Routes::default();
    routes! { routes, "node",
        /// `GET /livez`: always 200 while the process runs.
        Get "/livez" alive: local::alive => 200 "The process answers";
        /// `GET /metrics`, in the text format of Prometheus, or of OpenMetrics for a scraper that accepts it.
        Get "/metrics" metrics: local::metrics => 200 "", |it| it
            .answers::<String>(200, "The metrics", &["text/plain", "application/openmetrics-text"]);
        /// `GET /report`: counters and timers in the JSON of go-metrics. Times itself, so that the next
        /// report shows how long this one took.
        Get "/report" report: local::report
            => 200 "By name: `count` of a counter; `count`, `min`, `max`, `mean`, `stddev`, percentiles (nanoseconds) and rates (per second) of a timer";
        /// `GET /version`.
        Get "/version" version: local::version => 200 "What is running";
        /// `GET|POST /counter?name=x&by=n`: adds `by`, or 1, to a counter of the report. Without
        /// parameters: adds 1 to `counterhandler.counter`.
        Get "/counter" counter: local::counter => 200 "", counted;
        /// The same by POST.
        Post "/counter" counter_by_post: local::counter => 200 "", counted;
        /// `GET|POST /timer?name=x&ms=12.5`: records a duration in a timer of the report. Without
        /// parameters: times itself as `timerhandler.timer`.
        Get "/timer" timer: local::timer => 200 "", timed;
        /// The same by POST.
        Post "/timer" timer_by_post: local::timer => 200 "", timed;
        /// This document.
        Get "/openapi.json" document: openapi::document => 200 "", |it| it
            .answers::<Value>(200, "The OpenAPI description of this interface", JSON);
    }
    // Not GET alone: axum answers HEAD with it, and a HEAD must not count.
    routes.handle("/counter", head(local::refuse_head));
    routes.handle("/timer", head(local::refuse_head));
    routes
}

const JSON: &[&str] = &["application/json"];
const EVENTS: &[&str] = &["text/event-stream"];

fn shown_in_text(it: &mut Description) -> &mut Description {
    it.answers::<String>(200, "The current state", &["text/plain"])
        .refuses_in_text(SHORT)
}

fn counted(it: &mut Description) -> &mut Description {
    named(
        it,
        "The counter's name and value; `success` without parameters",
    )
}

fn timed(it: &mut Description) -> &mut Description {
    named(
        it,
        "The timer's name and the duration; `success` without parameters",
    )
}

fn named<'a>(it: &'a mut Description, what: &str) -> &'a mut Description {
    it.answers::<Value>(200, what, JSON)
        .answers::<String>(200, what, &["text/plain"])
        .refuses(&[(409, "`too_many_names`: the limit on names is reached")])
}

/// A change that may leave fewer voters.
const FEWER_VOTERS: Refusals = &[(
    409,
    "`quorum_lost`, `last_voter` or `membership_change_in_progress`",
)];
