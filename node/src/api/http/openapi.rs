//! `/openapi.json`: what this interface is, generated from its code.

use std::sync::LazyLock;

use axum::Json;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::described::{self, PROBLEM};
use super::problem::ProblemBody;
use super::{cluster, dead_letters, instance, instances, local, machines, members, pictures};
use super::{settings, short, sinks, transactions, transitions, watch};

/// The HTTP interface of a Lockstep node.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lockstep",
        description = "A replicated finite-state-machine service. Every error is an RFC 9457 problem with a stable `code`."
    ),
    paths(
        short::show_or_move,
        short::move_by_post,
        machines::define,
        machines::list,
        machines::show,
        machines::delete,
        pictures::definition,
        pictures::graph,
        instances::create,
        instances::list,
        instance::show,
        instance::delete,
        instance::history,
        instance::migrate,
        transitions::transition,
        transactions::commit,
        watch::all,
        watch::machine,
        cluster::status,
        cluster::ready,
        members::list,
        members::add,
        members::remove,
        members::promote,
        members::demote,
        members::transfer_leadership,
        settings::show,
        settings::update,
        sinks::list,
        sinks::show,
        sinks::check,
        sinks::reseed,
        dead_letters::list,
        dead_letters::replay,
        dead_letters::discard,
        local::alive,
        local::metrics,
        local::report,
        local::version,
        local::counter,
        local::timer,
        document,
    ),
    components(schemas(ProblemBody, described::Settings, described::SettingsUpdate,))
)]
struct Document;

/// Made once: it does not change while the process runs.
pub(super) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    any_route_refuses_a_large_body(&mut document);
    each_method_is_an_operation_of_its_own(&mut document);
    some_bodies_may_be_left_out(&mut document["paths"]);
    say_what_excludes_what(&mut document["components"]["schemas"]);
    document
});

/// What is refused before a route is looked at.
fn any_route_refuses_a_large_body(document: &mut Value) {
    let refusal = json!({
        "description": "`body_too_large`: the body is larger than `http.body_bytes_max`",
        "content": { PROBLEM: { "schema": { "$ref": "#/components/schemas/ProblemBody" } } },
    });
    let paths = document["paths"].as_object_mut().into_iter();
    let operations = paths.flat_map(|paths| paths.values_mut());
    let operations = operations.filter_map(Value::as_object_mut);
    for (_, operation) in operations.flatten() {
        operation["responses"]["413"] = refusal.clone();
    }
}

/// The bodies whose fields are all optional.
fn some_bodies_may_be_left_out(paths: &mut Value) {
    for (path, method) in [
        ("/v1/machines/{machine}/instances", "post"),
        ("/v1/machines/{machine}/instances/{instance}", "delete"),
        ("/v1/cluster/transfer-leadership", "post"),
    ] {
        paths[path][method]["requestBody"]["required"] = false.into();
    }
}

/// A handler of two methods has one operation id, but operation ids must be unique.
fn each_method_is_an_operation_of_its_own(document: &mut Value) {
    let paths = document["paths"].as_object_mut().into_iter();
    for methods in paths.flat_map(|paths| paths.values_mut()) {
        let name = |method: &str| methods.get(method)?.get("operationId")?.as_str();
        if let Some(shared) = name("get").filter(|shared| name("post") == Some(*shared)) {
            let own = format!("{shared}_by_post");
            methods["post"]["operationId"] = own.into();
        }
    }
}

/// Rules between fields, which the types cannot show.
fn say_what_excludes_what(schemas: &mut Value) {
    let trigger = ["to", "event"];
    for (schema, fields) in [
        ("TransitionBody", &trigger[..]),
        ("Transition", &trigger),
        ("Precondition", &["exists", "state", "revision"]),
    ] {
        let one = |chosen: &&str| {
            let rule = |field: &&str| match field == chosen {
                // Not null, which it may be otherwise.
                true => json!({ "type": ["string", "boolean", "integer"] }),
                false => json!({ "type": "null" }),
            };
            let properties: serde_json::Map<_, _> = fields
                .iter()
                .map(|field| ((*field).to_owned(), rule(field)))
                .collect();
            json!({ "required": [chosen], "properties": properties })
        };
        schemas[schema]["oneOf"] = fields.iter().map(one).collect();
    }
    // A state without particulars may be null.
    let states = &mut schemas["Definition"]["properties"]["states"];
    let state = states["additionalProperties"].take();
    states["additionalProperties"] = json!({ "oneOf": [{ "type": "null" }, state] });
    states["propertyNames"] = json!({ "$ref": "#/components/schemas/StateName" });
    // An operation is an object with one field.
    let kinds = schemas["Operation"]["oneOf"].as_array_mut();
    for kind in kinds.into_iter().flatten() {
        kind["additionalProperties"] = false.into();
    }
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "node", responses(
    (status = 200, body = Object, description = "The OpenAPI description of this interface"),
))]
pub(super) async fn document() -> Json<&'static Value> {
    Json(&DOCUMENT)
}

/// The description of one operation, by its path's template and its method in lower case.
#[cfg(test)]
pub(super) fn described_operation(path: &str, method: &str) -> &'static Value {
    &DOCUMENT["paths"][path][method]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let document = &*DOCUMENT;
        let router = include_str!("mod.rs");
        let mut routes = 0;
        for (at, _) in router.match_indices(".route(") {
            let rest = &router[at..];
            let Some(path) = rest.split('"').nth(1) else {
                continue;
            };
            routes += 1;
            assert!(
                document["paths"].get(path).is_some(),
                "{path} is not described"
            );
        }
        assert!(routes > 20, "{routes}");
    }

    #[test]
    fn every_operation_says_its_answers_and_every_reference_leads_somewhere() {
        let document = &*DOCUMENT;
        let mut names = std::collections::BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name), "{name} is there twice");
                let answers = operation["responses"].as_object();
                assert!(answers.is_some_and(|it| !it.is_empty()), "{method} {path}");
                assert!(answers.is_some_and(|it| !it.contains_key("default")));
            }
        }
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/schemas/") {
            let name = text[at..].split('"').next().unwrap();
            let name = name.rsplit('/').next().unwrap();
            assert!(
                document["components"]["schemas"].get(name).is_some(),
                "{name}"
            );
        }
    }
}
