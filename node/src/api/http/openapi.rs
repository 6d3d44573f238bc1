//! `/openapi.json`: what this interface is, generated from its code.

use axum::Json;
use utoipa::OpenApi;

use super::{cluster, instance, instances, local, machines, pictures, short, transactions};
use super::{transitions, watch};

/// The HTTP interface of a Lockstep node.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Lockstep",
        description = "A replicated finite-state-machine service. Every refusal is an RFC 9457 problem with a stable `code`."
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
        local::alive,
        local::metrics,
        local::report,
        local::version,
        local::counter,
        local::timer,
        document,
    )
)]
struct Document;

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "node", responses(
    (status = 200, body = Object, description = "The OpenAPI description of this interface"),
))]
pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
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
    fn every_operation_has_answers_and_every_reference_leads_somewhere() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let answers = operation["responses"].as_object();
                assert!(answers.is_some_and(|it| !it.is_empty()), "{method} {path}");
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
