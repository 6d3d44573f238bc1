//! `/openapi.json`: what this interface is, generated from its routes.

use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::routes;
use crate::api::problem::{PROBLEM, ProblemBody};

/// The HTTP interface of a Lockstep node.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lockstep",
        description = "A replicated finite-state-machine service. Every error is an RFC 9457 problem with a stable `code`."
    ),
    components(schemas(ProblemBody))
)]
struct Document;

/// Made once: it does not change while the process runs.
pub(super) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = Document::openapi();
    let components = document.components.get_or_insert_default();
    for routes in [
        routes::served(),
        routes::checks(),
        routes::probes(),
        routes::own(),
    ] {
        document.paths.merge(routes.paths);
        components.schemas.extend(routes.schemas);
    }
    let mut document = serde_json::to_value(document).unwrap_or_default();
    add_refusals_of_any_route(&mut document);
    say_what_excludes_what(&mut document["components"]["schemas"]);
    document
});

/// What is refused before a route is looked at.
fn add_refusals_of_any_route(document: &mut Value) {
    let refusal = |what: &str| {
        json!({
            "description": what,
            "content": { PROBLEM: { "schema": { "$ref": "#/components/schemas/ProblemBody" } } },
        })
    };
    let too_large = refusal("`body_too_large`: the body is larger than `http.body_bytes_max`");
    let foreign = refusal(
        "`origin_not_allowed`: a page of an origin that `http.cors_origins` does not list sent the request",
    );
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            operation["responses"]["413"] = too_large.clone();
            if method != "get" || matches!(path.as_str(), "/" | "/counter" | "/timer") {
                operation["responses"]["403"] = foreign.clone();
            }
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

pub(super) async fn document() -> Response {
    Json(&*DOCUMENT).into_response()
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
