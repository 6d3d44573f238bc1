//! Pages of another origin, and diagrams, in a browser.

use anyhow::Result;
use lockstep_tests::browser::{Browser, Site};
use lockstep_tests::cluster::{Cluster, Plan};
use reqwest::StatusCode;
use serde_json::{Value, json};

const PAGE: &str = include_str!("page.html");
const DIAGRAMS: &str = include_str!("diagrams.html");

/// What the page reports that is served under this name of the machine.
async fn reported(site: &mut Site, host: &str, cluster: &Cluster) -> Result<Value> {
    let (origin, api) = (site.origin(host), cluster.nodes[0].api().url(""));
    let _browser = Browser::open(&format!("{origin}/?api={api}"))?;
    site.report().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_lets_pages_of_configured_origins_call_and_no_others() -> Result<()> {
    let mut site = Site::start(PAGE).await?;
    let origins = site.origin("127.0.0.1");
    let plan = Plan::single().with("LOCKSTEP_HTTP_CORS_ORIGINS", origins);
    let cluster = Cluster::start_as(plan).await?;
    let api = cluster.nodes[0].api();

    let refused = reported(&mut site, "localhost", &cluster).await?;
    let answers = refused.as_object().expect("a report is an object");
    for (what, answer) in answers {
        assert!(answer["refused"].is_string(), "{what}: {answer}");
    }
    // The browser did not even send them.
    assert_eq!(api.instance().await?, ("first".to_owned(), 0));

    let report = reported(&mut site, "127.0.0.1", &cluster).await?;
    let status = |what: &str| report[what]["status"].as_u64();
    for (what, expected) in [
        ("moved", 200),
        ("read", 200),
        ("stale", 412),
        ("created", 201),
        ("deleted", 200),
        ("settings", 200),
        ("slash", 200),
    ] {
        assert_eq!(status(what), Some(expected), "{what}: {report}");
    }
    assert_eq!(report["read"]["etag"], json!("\"1\""));
    assert_eq!(report["stale"]["body"]["code"], "revision_mismatch");
    let created = "/v1/machines/triad/instances/page";
    assert_eq!(report["created"]["location"], created);
    assert_eq!(report["seen"]["to"], "second", "{report}");
    assert_eq!(api.instance().await?, ("third".to_owned(), 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn diagrams_render_without_overlap() -> Result<()> {
    let mut site = Site::start(DIAGRAMS).await?;
    let origin = site.origin("127.0.0.1");
    let plan = Plan::single().with("LOCKSTEP_HTTP_CORS_ORIGINS", &origin);
    let cluster = Cluster::start_as(plan).await?;
    let api = cluster.nodes[0].api();
    for definition in [
        include_str!("../../../examples/deployment/deployment.yaml"),
        include_str!("../../../examples/device/device.yaml"),
        include_str!("../../../examples/order/order.yaml"),
        include_str!("../../../examples/trip/trip.yaml"),
    ] {
        api.define(definition).await?.expect(StatusCode::CREATED)?;
    }
    for state in ["second", "third"] {
        api.next(state).await?.expect(StatusCode::OK)?;
    }
    // The last one has a state and a path highlighted.
    let diagrams = ["deployment", "device", "order", "trip", "triad"].map(|machine| {
        let instance = if machine == "triad" {
            "&instance=default"
        } else {
            ""
        };
        format!("/v1/machines/{machine}/graph?format=svg{instance}")
    });
    let mut page = reqwest::Url::parse(&origin)?;
    page.query_pairs_mut()
        .append_pair("api", &api.url(""))
        .extend_pairs(diagrams.iter().map(|path| ("diagram", path)));
    let _browser = Browser::open(page.as_str())?;
    let report = site.report().await?;
    for path in &diagrams {
        let look = |look: &str| report[format!("{path}, {look}")].clone();
        let (light, dark) = (look("light"), look("dark"));
        assert!(light["texts"].as_u64() >= Some(3), "{path}: {report}");
        assert_ne!(light["ground"], dark["ground"], "{path}");
        for shown in [light, dark] {
            assert_eq!(shown["faults"], json!([]), "{path}");
        }
    }
    Ok(())
}
