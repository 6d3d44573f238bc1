//! What holds for every operation of `/openapi.json`, whichever it is.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::http::{Api, answer};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// An operation, with the parameters and bodies that it describes.
struct Operation {
    method: Method,
    /// With names in place of its parameters.
    path: String,
    queries: BTreeSet<String>,
    headers: BTreeSet<String>,
    /// Content types.
    bodies: BTreeSet<String>,
    requires_body: bool,
}

impl Operation {
    fn read(path: &str, method: &str, described: &Value) -> Result<Self> {
        let parameters = described["parameters"].as_array().cloned();
        let parameters = parameters.unwrap_or_default();
        let named = |place: &str| {
            let there = parameters.iter().filter(|it| it["in"] == place);
            let names = there.filter_map(|it| Some(it["name"].as_str()?.to_owned()));
            names.collect()
        };
        let bodies = described["requestBody"]["content"].as_object();
        let path = path
            .replace("{machine}", "triad")
            .replace("{instance}", "default");
        Ok(Self {
            method: method.to_uppercase().parse()?,
            path: path.replace(['{', '}'], ""),
            queries: named("query"),
            headers: named("header"),
            bodies: bodies
                .into_iter()
                .flat_map(|it| it.keys().cloned())
                .collect(),
            requires_body: described["requestBody"]["required"] == true,
        })
    }

    fn request(&self, api: &Api, query: &str) -> RequestBuilder {
        api.request(self.method.clone(), &format!("{}{query}", self.path))
    }
}

async fn operations(api: &Api) -> Result<Vec<Operation>> {
    let description = api.read("/openapi.json").await?;
    let paths = description["paths"].as_object().context("paths")?;
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        let methods = methods.filter(|(name, _)| *name != "parameters");
        methods.map(|(method, described)| Operation::read(path, method, described))
    });
    operations.collect()
}

/// Fails with all requests that were not refused as expected.
async fn assert_refused(requests: Vec<(String, RequestBuilder, &[u16])>) -> Result<()> {
    assert!(!requests.is_empty());
    let mut wrong = vec![];
    for (what, request, expected) in requests {
        let response = request.send().await?;
        let status = response.status().as_u16();
        if !expected.contains(&status) {
            wrong.push(format!("{what}: {status}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_write_ignores_a_body_or_a_condition() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let mut wrong = vec![];
    for operation in operations(api).await? {
        let Operation { method, path, .. } = &operation;
        let query = match (method, path.as_str()) {
            (&Method::GET, "/") => "?next=second",
            (&Method::GET, "/counter" | "/timer") => "",
            (&Method::GET, _) => continue,
            _ => "",
        };
        let request = || operation.request(api, query);
        let mut refused = vec![];
        if operation.bodies.is_empty() {
            let body = request().json(&json!({ "version": 1 }));
            refused.push(("a body", body, "invalid_body"));
        }
        let has_if_match = operation.headers.contains("If-Match");
        let if_match = (!has_if_match).then_some("If-Match");
        for name in ["If-None-Match", "If-Unmodified-Since"]
            .into_iter()
            .chain(if_match)
        {
            refused.push((name, request().header(name, "\"1\""), "invalid_header"));
        }
        for (sent, request, code) in refused {
            let answer = answer(request).await?;
            if answer.status != StatusCode::BAD_REQUEST || answer.problem()?["code"] != code {
                wrong.push(format!(
                    "{method} {path} with {sent}: {answer:?}, expected {code}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(api.instance().await?, ("first".to_owned(), 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_be_left_out_where_it_is_not_required() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let mut wrong = vec![];
    for operation in operations(api).await? {
        if operation.bodies.is_empty() {
            continue;
        }
        let status = operation.request(api, "").send().await?.status().as_u16();
        if [400, 415].contains(&status) != operation.requires_body {
            let Operation { method, path, .. } = &operation;
            wrong.push(format!("{method} {path}: {status}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_accepts_a_parameter_that_is_unknown_or_given_twice() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let mut requests: Vec<(String, RequestBuilder, &[u16])> = vec![];
    for operation in operations(api).await? {
        let Operation { method, path, .. } = &operation;
        let what = |query: &str| format!("{method} {path}{query}");
        // What takes no parameter ignores all, except in /v1.
        if !operation.queries.is_empty() || path.starts_with("/v1/") {
            let unknown = "?no-such-parameter=1";
            requests.push((what(unknown), operation.request(api, unknown), &[400]));
        }
        for name in &operation.queries {
            let twice = format!("?{name}=1&{name}=1");
            requests.push((what(&twice), operation.request(api, &twice), &[400]));
        }
        for name in &operation.headers {
            let twice = operation.request(api, "").header(name, "\"1\"");
            let twice = twice.header(name, "\"1\"");
            requests.push((format!("{}, {name} twice", what("")), twice, &[400, 415]));
        }
    }
    assert_refused(requests).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_accepts_a_body_whose_type_or_coding_it_does_not_know() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let api = cluster.nodes[0].api();
    let mut requests: Vec<(String, RequestBuilder, &[u16])> = vec![];
    for operation in operations(api).await? {
        for kind in &operation.bodies {
            let charset = format!("{kind}; charset=iso-8859-1");
            let (kind, charset) = (kind.as_str(), charset.as_str());
            for headers in [
                &[("content-type", charset)][..],
                &[("content-type", "text/html")],
                &[("content-type", kind), ("content-type", kind)],
                &[("content-type", kind), ("content-encoding", "br")],
                &[
                    ("content-type", kind),
                    ("content-encoding", "gzip"),
                    ("content-encoding", "gzip"),
                ],
            ] {
                let mut map = HeaderMap::new();
                for (name, value) in headers {
                    map.append(*name, value.parse()?);
                }
                let Operation { method, path, .. } = &operation;
                let request = operation.request(api, "").body("{}").headers(map);
                requests.push((format!("{method} {path}, {headers:?}"), request, &[415]));
            }
        }
    }
    assert_refused(requests).await
}
