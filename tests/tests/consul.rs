//! The directory that the command line uses, against a real Consul agent.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lockstep_consul::{ConsulError, Directory, NODE_TAG};
use lockstep_tests::consul::ConsulAgent;

/// Registers a service whose check has the given status for good.
fn register(agent: &ConsulAgent, id: &str, tag: &str, status: &str) -> Result<()> {
    let body = serde_json::json!({
        "ID": id, "Name": "machines", "Address": "127.0.0.1", "Port": 4333,
        "Tags": [NODE_TAG, tag],
        "Meta": {"name": id, "node_id": "7", "cluster_id": "c", "http_address": "127.0.0.1:3333"},
        "Check": {"TTL": "1h", "Status": status},
    });
    let (status, answer) = agent.request("PUT", "/v1/agent/service/register", &body.to_string())?;
    ensure!(status == 200, "registering {id}: {status} {answer}");
    Ok(())
}

/// Asks until `count` are found: the agent tells the catalogue in its own time.
async fn find(directory: &Directory, tag: Option<&str>, count: usize) -> Result<Vec<String>> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = directory.services("machines", tag).await?;
        if found.len() == count || Instant::now() > deadline {
            return Ok(found.into_iter().map(|entry| entry.name).collect());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_directory_finds_passing_nodes_by_tag() -> Result<()> {
    let agent = ConsulAgent::start()?;
    register(&agent, "node2", "blue", "passing")?;
    register(&agent, "node1", "green", "passing")?;
    register(&agent, "node3", "blue", "critical")?;
    let directory = Directory::new(agent.url(), None)?;

    assert_eq!(
        find(&directory, Some(NODE_TAG), 2).await?,
        ["node1", "node2"]
    );
    assert_eq!(find(&directory, None, 2).await?, ["node1", "node2"]);
    assert_eq!(find(&directory, Some("blue"), 1).await?, ["node2"]);
    assert!(find(&directory, Some("red"), 0).await?.is_empty());

    let found = directory.services("machines", Some("green")).await?;
    assert_eq!(found[0].grpc_address, "127.0.0.1:4333");
    assert_eq!(found[0].http_address.as_deref(), Some("127.0.0.1:3333"));
    assert_eq!(found[0].node_id, Some(7));
    assert_eq!(found[0].cluster_id.as_deref(), Some("c"));
    assert_eq!(found[0].tags, [NODE_TAG, "green"]);
    Ok(())
}

#[tokio::test]
async fn a_stopped_agent_is_reported_with_its_address_and_the_cause() -> Result<()> {
    let mut agent = ConsulAgent::start()?;
    let directory = Directory::new(agent.url(), None)?;
    assert!(directory.services("machines", None).await?.is_empty());

    agent.stop();
    let error = directory
        .services("machines", None)
        .await
        .expect_err("no agent listens");
    let said = error.to_string();
    assert!(matches!(error, ConsulError::Unreachable { .. }), "{said}");
    assert!(
        said.contains(&agent.url()) && said.contains("Connection refused"),
        "{said}"
    );

    agent.resume()?;
    assert!(directory.services("machines", None).await?.is_empty());
    Ok(())
}

/// Answers one connection with `answer`, whatever is asked.
fn answer_once(answer: &'static [u8]) -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let _ = stream.read(&mut [0; 4096])?;
        stream.write_all(answer)
    });
    Ok(url)
}

#[tokio::test]
async fn an_answer_that_is_not_consuls_is_an_error_and_not_a_crash() -> Result<()> {
    let cases: [(&[u8], &str, &str); 6] = [
        (
            b"HTTP/1.0 200 OK\r\n\r\n<html>",
            "sent an invalid response",
            "the answer is not JSON, it begins with <html>; expected a list of instances",
        ),
        (
            b"HTTP/1.0 200 OK\r\n\r\n[{\"Service\":{\"ID\":7}}]",
            "sent an invalid response",
            "[0].Service.ID is 7; expected a list of instances",
        ),
        // consulrs' own calls unwrap this header and panic.
        (
            b"HTTP/1.0 200 OK\r\nX-Consul-Index: \xff\r\n\r\n{}",
            "sent an invalid response",
            "the answer is {}; expected a list of instances",
        ),
        (
            b"HTTP/1.0 500 Error\r\n\r\nNo cluster leader",
            "refused",
            "No cluster leader",
        ),
        (
            b"HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
            "refused",
            "302",
        ),
        (b"SSH-2.0-OpenSSH\r\n", "cannot be reached", "HTTP"),
    ];
    for (answer, what, text) in cases {
        let directory = Directory::new(answer_once(answer)?, None)?;
        let error = directory
            .services("machines", None)
            .await
            .expect_err("unusable");
        let said = error.to_string();
        assert!(said.contains(what) && said.contains(text), "{said}");
    }
    Ok(())
}
