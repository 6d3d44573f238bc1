//! Discovery through a real Consul agent.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lockstep_consul::ConsulError;
use lockstep_node::config;
use lockstep_node::discovery::{Announcement, ConsulDiscovery, Discovery, DiscoveryError};
use lockstep_raft::store::{BootstrapPlan, Member, PlannedMember};
use lockstep_tests::consul::ConsulAgent;
use lockstep_tests::ports::Port;

/// A check runs every second at most, and the catalogue follows a little later.
const DEADLINE: Duration = Duration::from_secs(15);

fn settings(url: &str) -> config::Consul {
    config::Consul {
        address: url.to_string(),
        token: None,
        service: "machines".to_string(),
        tags: vec!["blue".to_string()],
        meta: vec![("rack".to_string(), "r1".to_string())],
        check_interval: Duration::from_secs(1),
        deregister_after: Duration::from_secs(60),
    }
}

fn discovery(agent: &ConsulAgent) -> Result<Arc<dyn Discovery>> {
    Ok(Arc::new(ConsulDiscovery::new(&settings(&agent.url()))?))
}

/// The part of a node that Consul sees: `/livez`, healthy or not.
struct Node {
    http_address: SocketAddr,
    is_live: Arc<AtomicBool>,
}

impl Node {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let http_address = listener.local_addr()?;
        let is_live = Arc::new(AtomicBool::new(true));
        let answers_live = is_live.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = [0; 4096];
                let read = stream.read(&mut head).unwrap_or(0);
                let asked_live = head[..read].starts_with(b"GET /livez ");
                let status = match asked_live && answers_live.load(Ordering::SeqCst) {
                    true => "200 OK",
                    false => "503 Service Unavailable",
                };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                // An agent that was killed meanwhile does not take its answer.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Ok(Self {
            http_address,
            is_live,
        })
    }

    fn announcement(&self, name: &str) -> Announcement {
        Announcement {
            node_id: 7,
            member: Member {
                name: name.to_string(),
                grpc_address: "127.0.0.1:4333".to_string(),
                http_address: self.http_address.to_string(),
                learner: false,
            },
            cluster_id: None,
        }
    }
}

/// Stands between a node and its agent, and counts the registrations that pass.
struct Relay {
    url: String,
    registrations: Arc<AtomicUsize>,
}

impl Relay {
    fn start(agent: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}", listener.local_addr()?);
        let registrations = Arc::new(AtomicUsize::new(0));
        let counted = registrations.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let counted = counted.clone();
                std::thread::spawn(move || relay(stream, agent, &counted));
            }
        });
        Ok(Self { url, registrations })
    }

    fn registrations(&self) -> usize {
        self.registrations.load(Ordering::SeqCst)
    }
}

/// Passes one connection's bytes both ways until either side closes it.
fn relay(mut node: TcpStream, agent: SocketAddr, registrations: &AtomicUsize) -> io::Result<()> {
    let mut head = [0; 4096];
    let read = node.read(&mut head)?;
    if head[..read].starts_with(b"PUT /v1/agent/service/register ") {
        registrations.fetch_add(1, Ordering::SeqCst);
    }
    let mut agent = TcpStream::connect(agent)?;
    agent.write_all(&head[..read])?;
    let (mut from_node, mut to_agent) = (node.try_clone()?, agent.try_clone()?);
    std::thread::spawn(move || io::copy(&mut from_node, &mut to_agent));
    io::copy(&mut agent, &mut node)?;
    Ok(())
}

async fn wait_for_peers(discovery: &dyn Discovery, names: &[&str]) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = discovery.peers().await?;
        let found: Vec<_> = found.iter().map(|peer| peer.name.as_str()).collect();
        if found == names {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("waited for {names:?}, found {found:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the agent itself says of the node's check, without the way through the catalogue.
fn check_status(agent: &ConsulAgent) -> Result<String> {
    let (_, checks) = agent.request("GET", "/v1/agent/checks", "")?;
    let checks: serde_json::Value = serde_json::from_str(&checks)?;
    let status = &checks["machines-node1:livez"]["Status"];
    Ok(status
        .as_str()
        .with_context(|| format!("no status in {checks}"))?
        .to_string())
}

fn plan(cluster_id: &str) -> BootstrapPlan {
    let member = PlannedMember {
        node_id: u64::MAX >> 1,
        member: Member {
            name: "node1".to_string(),
            grpc_address: "127.0.0.1:4333".to_string(),
            http_address: "127.0.0.1:3333".to_string(),
            learner: false,
        },
    };
    BootstrapPlan {
        cluster_id: cluster_id.to_string(),
        members: vec![member],
    }
}

/// The error, which must come: the deadline is far beyond the call's own, and detects one that hangs.
async fn fails<T>(call: impl Future<Output = Result<T, DiscoveryError>>) -> Result<DiscoveryError> {
    match tokio::time::timeout(DEADLINE, call)
        .await
        .context("the call hangs")?
    {
        Ok(_) => bail!("the call succeeded"),
        Err(error) => Ok(error),
    }
}

#[tokio::test]
async fn an_announced_node_is_found_with_its_addresses_and_tags() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let (node, discovery) = (Node::start()?, discovery(&agent)?);
    assert!(discovery.peers().await?.is_empty());

    discovery.announce(&node.announcement("node1")).await?;
    wait_for_peers(&*discovery, &["node1"]).await?;
    let peers = discovery.peers().await?;
    assert_eq!(peers[0].grpc_address, "127.0.0.1:4333");
    assert_eq!(peers[0].http_address, Some(node.http_address.to_string()));
    assert_eq!(peers[0].tags, ["lockstep", "blue"]);

    // What was registered under this name by something else is no node.
    let stranger = r#"{"ID":"x","Name":"machines","Port":1,"Tags":["blue"]}"#;
    let (status, _) = agent.request("PUT", "/v1/agent/service/register", stranger)?;
    assert_eq!(status, 200);
    let deadline = Instant::now() + DEADLINE;
    while !agent
        .request("GET", "/v1/health/service/machines?passing", "")?
        .1
        .contains("\"x\"")
    {
        assert!(Instant::now() < deadline, "the stranger never shows");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait_for_peers(&*discovery, &["node1"]).await
}

#[tokio::test]
async fn a_node_whose_check_fails_disappears_and_comes_back() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let (node, discovery) = (Node::start()?, discovery(&agent)?);
    discovery.announce(&node.announcement("node1")).await?;
    wait_for_peers(&*discovery, &["node1"]).await?;

    node.is_live.store(false, Ordering::SeqCst);
    wait_for_peers(&*discovery, &[]).await?;
    // Announcing the node again does not make it healthy.
    discovery.announce(&node.announcement("node1")).await?;
    assert_eq!(check_status(&agent)?, "critical");

    node.is_live.store(true, Ordering::SeqCst);
    wait_for_peers(&*discovery, &["node1"]).await
}

#[tokio::test]
async fn an_agent_that_lost_its_services_is_registered_with_again() -> Result<()> {
    let mut agent = ConsulAgent::start()?;
    let (node, discovery) = (Node::start()?, discovery(&agent)?);
    discovery.announce(&node.announcement("node1")).await?;
    wait_for_peers(&*discovery, &["node1"]).await?;

    agent.restart()?;
    wait_for_peers(&*discovery, &[]).await?;
    discovery.announce(&node.announcement("node1")).await?;
    wait_for_peers(&*discovery, &["node1"]).await
}

#[tokio::test]
async fn a_health_check_that_was_lost_is_registered_again() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let (node, discovery) = (Node::start()?, discovery(&agent)?);
    discovery.announce(&node.announcement("node1")).await?;
    let check = "/v1/agent/check/deregister/machines-node1:livez";
    assert_eq!(agent.request("PUT", check, "")?.0, 200);
    assert!(check_status(&agent).is_err(), "the check is gone");

    discovery.announce(&node.announcement("node1")).await?;
    check_status(&agent)?;
    Ok(())
}

#[tokio::test]
async fn announcing_again_registers_only_what_changed_and_never_hides_the_node() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let relay = Relay::start(agent.http_address())?;
    // The interval and timeout are long enough that no check fails merely because the machine is busy.
    let settings = config::Consul {
        check_interval: Duration::from_secs(5),
        ..settings(&relay.url)
    };
    let discovery = ConsulDiscovery::new(&settings)?;
    let me = Node::start()?;
    let me = me.announcement("node1");
    discovery.announce(&me).await?;
    wait_for_peers(&discovery, &["node1"]).await?;
    assert_eq!(relay.registrations(), 1);

    for _ in 0..5 {
        discovery.announce(&me).await?;
        assert_eq!(check_status(&agent)?, "passing");
    }
    assert_eq!(relay.registrations(), 1, "the agent knew it all");

    // As when the cluster is formed.
    let member = Announcement {
        cluster_id: Some("c".to_string()),
        ..me
    };
    discovery.announce(&member).await?;
    assert_eq!(check_status(&agent)?, "passing");
    assert_eq!(relay.registrations(), 2);
    let (_, held) = agent.request("GET", "/v1/agent/service/machines-node1", "")?;
    let held: serde_json::Value = serde_json::from_str(&held)?;
    assert_eq!(held["Meta"]["cluster_id"], "c");
    assert_eq!(held["Meta"]["rack"], "r1");
    Ok(())
}

#[tokio::test]
async fn of_racing_plans_one_holds_for_everyone_and_for_good() -> Result<()> {
    let mut agent = ConsulAgent::start()?;
    let (one, other) = (discovery(&agent)?, discovery(&agent)?);
    assert_eq!(one.latched().await?, None);

    let (plan_one, plan_other) = (plan("one"), plan("other"));
    let (held_one, held_other) = tokio::join!(one.latch(&plan_one), other.latch(&plan_other));
    let held = held_one?;
    assert_eq!(held, held_other?);
    assert!(held == plan_one || held == plan_other, "{held:?}");

    let late = discovery(&agent)?;
    assert_eq!(late.latch(&plan("late")).await?, held);
    agent.restart()?;
    assert_eq!(late.latched().await?, Some(held));
    Ok(())
}

#[tokio::test]
async fn a_key_that_holds_no_plan_is_an_error_that_names_it() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let discovery = discovery(&agent)?;
    let key = "lockstep/machines/bootstrap";
    for value in ["", "null", "{", "{\"cluster_id\":7}", "[]"] {
        assert_eq!(
            agent.request("PUT", &format!("/v1/kv/{key}"), value)?.0,
            200
        );
        let error = fails(discovery.latched()).await?;
        assert!(error.to_string().contains(key), "{error}");
        let error = fails(discovery.latch(&plan("c"))).await?;
        assert!(error.to_string().contains(key), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_reported_by_its_refusal() -> Result<()> {
    // Kept, and never listened on.
    let closed = Port::free()?;
    let url = format!("http://{}", closed.address());
    let discovery = ConsulDiscovery::new(&settings(&url))?;
    let node = Node::start()?;

    let plan = plan("c");
    let errors = [
        fails(discovery.announce(&node.announcement("node1"))).await?,
        fails(discovery.peers()).await?,
        fails(discovery.latched()).await?,
        fails(discovery.latch(&plan)).await?,
        fails(discovery.withdraw()).await?,
    ];
    for error in errors {
        let said = error.to_string();
        assert!(
            matches!(
                error,
                DiscoveryError::Consul(ConsulError::Unreachable { .. })
            ),
            "{said}"
        );
        assert!(
            said.contains(&url) && said.contains("Connection refused"),
            "{said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_that_never_answers_is_given_up_on() -> Result<()> {
    // The kernel accepts the connection; nothing answers.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("http://{}", listener.local_addr()?);
    let discovery = ConsulDiscovery::new(&settings(&url))?;
    let error = fails(discovery.peers()).await?;
    assert!(error.to_string().contains("no answer in time"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_withdrawn_node_is_gone_at_once() -> Result<()> {
    let agent = ConsulAgent::start()?;
    let (node, discovery) = (Node::start()?, discovery(&agent)?);
    discovery.withdraw().await?;
    discovery.announce(&node.announcement("node1")).await?;
    wait_for_peers(&*discovery, &["node1"]).await?;

    discovery.withdraw().await?;
    let (status, _) = agent.request("GET", "/v1/agent/service/machines-node1", "")?;
    assert_eq!(status, 404);
    wait_for_peers(&*discovery, &[]).await?;
    discovery.withdraw().await?;
    Ok(())
}

#[test]
fn settings_that_consul_cannot_take_are_refused_with_the_value() {
    let refused = |change: fn(&mut config::Consul)| {
        let mut settings = settings("http://127.0.0.1:8500");
        change(&mut settings);
        let error = ConsulDiscovery::new(&settings).expect_err("unusable");
        assert!(matches!(error, DiscoveryError::Consul(_)), "{error}");
        error.to_string()
    };
    assert!(refused(|it| it.address = "localhost:8500".into()).contains("localhost:8500"));
    assert!(refused(|it| it.service = "my machines".into()).contains("my machines"));
    assert!(refused(|it| it.meta = vec![("name".into(), "x".into())]).contains("name"));
    assert!(!refused(|it| it.token = Some("sec\nret".into())).contains("ret\""));
}
