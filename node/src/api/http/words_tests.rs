//! No refusal has a word of a library: each names the place, the value and the rule.

use axum::body::Body;
use lockstep_machine::library_words;

use super::fuzz::{BODIES, app, operations};
use super::openapi::described_operation;

/// Every query of an operation that has one value which no parameter accepts, or an odd form.
fn odd_queries(path: &str, method: &str) -> Vec<String> {
    let values = [
        "",
        "x%20y",
        "-1",
        "1e3",
        "18446744073709551616",
        "%ff",
        "%c3%a4",
        "a=b",
        "true",
    ];
    let parameters = described_operation(path, method)["parameters"].clone();
    let named = parameters.as_array().cloned().unwrap_or_default();
    let named = named.iter().filter(|it| it["in"] == "query");
    let names = named.filter_map(|it| it["name"].as_str());
    let mut queries = vec!["?unknown=1".to_owned(), "?%ff=1&&=".to_owned()];
    for name in names {
        queries.extend(values.map(|value| format!("?{name}={value}")));
        queries.push(format!("?{name}=1&{name}=2"));
    }
    queries
}

/// Bodies cut short anywhere, and bodies with a value of the wrong type in each place.
fn odd_bodies() -> Vec<String> {
    let mut bodies: Vec<String> = [
        "7",
        "[]",
        "null",
        "\"x\"",
        "{}",
        "{} {}",
        "{\"to\":\"a b\"}",
    ]
    .map(str::to_owned)
    .into();
    for body in BODIES {
        let cuts = body.char_indices().step_by(3);
        bodies.extend(cuts.map(|(at, _)| body[..at].to_owned()));
        for (wrong, at) in [
            ("7", ':'),
            ("{}", ':'),
            ("[[]]", ':'),
            ("\"x y\"", ':'),
            ("x", '"'),
        ] {
            let places = body.match_indices(at);
            bodies.extend(places.map(|(place, _)| {
                let (before, after) = body.split_at(place + 1);
                let rest = after.find([',', '}', '\n']).unwrap_or(after.len());
                format!("{before}{wrong}{}", &after[rest..])
            }));
        }
    }
    bodies
}

#[tokio::test]
async fn no_refusal_has_a_word_of_a_library() -> Result<(), Box<dyn std::error::Error>> {
    let app = app();
    let mut refusals = 0;
    for (path, method) in operations() {
        let fill = |piece: &str| match piece {
            "{machine}" => "triad".to_owned(),
            piece if piece.starts_with('{') => "default".to_owned(),
            piece => piece.to_owned(),
        };
        let pieces: Vec<_> = path.split('/').map(fill).collect();
        let filled = pieces.join("/");
        let mut requests: Vec<_> = odd_queries(&path, &method)
            .into_iter()
            .map(|query| (query, String::new()))
            .collect();
        if !described_operation(&path, &method)["requestBody"].is_null() {
            requests.extend(odd_bodies().into_iter().map(|body| (String::new(), body)));
        }
        for (query, body) in requests {
            let kind = match body.starts_with("name:") {
                true => "application/yaml",
                false => "application/json",
            };
            let request = axum::http::Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(format!("{filled}{query}"))
                .header("content-type", kind)
                .body(Body::from(body.clone()))?;
            let response = tower::ServiceExt::oneshot(app.clone(), request).await?;
            if !response.status().is_client_error() {
                continue;
            }
            let bytes = http_body_util::BodyExt::collect(response.into_body()).await?;
            let text = String::from_utf8(bytes.to_bytes().to_vec())?;
            assert_eq!(
                library_words(&text),
                None,
                "{method} {filled}{query} {body}: {text}"
            );
            refusals += 1;
        }
    }
    assert!(refusals > 1000, "{refusals}");
    Ok(())
}
