//! `lockstepd dev`: three real nodes that can be tried, killed and brought back, and none left over.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lockstep_tests::agreement;
use lockstep_tests::binaries;
use lockstep_tests::cluster::{READY_DEADLINE, STOP_DEADLINE};
use lockstep_tests::dev::{Dev, NODE_COUNT, Place, command};
use lockstep_tests::http::{Answer, Api};
use lockstep_tests::process::{Process, children, runs};
use lockstep_tests::program;
use lockstep_tests::traffic::Writer;
use lockstep_tests::wait::wait_for;
use reqwest::StatusCode;
use serde_json::json;

/// For a run that is refused.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(15);
/// A killed leader must be replaced, and writes must go on, within this. An election takes less than
/// a second; two busy cores may have it be repeated.
const FAILOVER_DEADLINE: Duration = Duration::from_secs(10);
/// For writes that nothing hinders.
const WRITES_DEADLINE: Duration = Duration::from_secs(20);

/// Runs what must be refused; returns the reason given.
async fn refused(command: Command, code: i32) -> Result<String> {
    program::run(command, REFUSAL_DEADLINE).await?.failed(code)
}

/// Fetches what a printed line such as `curl 'http://localhost:3333/?next=second'` names.
async fn curl(line: &str) -> Result<Answer> {
    let url = line.split('\'').nth(1).context("a quoted URL")?;
    let (port, path) = url
        .strip_prefix("http://localhost:")
        .and_then(|rest| rest.split_once('/'))
        .with_context(|| format!("not on this machine: {url}"))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    Api::new(address).get(&format!("/{path}")).await
}

/// Ends it with `signal` as a user would, and checks that nothing of it is left.
async fn stop(mut dev: Dev, signal: libc::c_int) -> Result<()> {
    let children = dev.children()?;
    ensure!(!children.is_empty(), "no child to be stopped");
    let status = dev.end(signal).await?;
    ensure!(status.code() == Some(0), "it ended with {status}");
    for child in children {
        ensure!(!runs(child), "its child {child} still runs");
    }
    ensure!(dev.said().ends_with("stopping\n"), "{}", dev.said());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_three_nodes_and_the_curls_it_prints_work() -> Result<()> {
    let place = Place::free()?;
    let dev = place.start(false).await?;

    let names: Vec<_> = dev.nodes.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["node1", "node2", "node3"]);
    for (row, index) in dev.nodes.iter().zip(0..) {
        assert_eq!(row.http.port(), place.http_port() + index);
        assert_eq!(row.grpc.port(), place.grpc_port() + index);
        let view = row.api().cluster().await?;
        assert_eq!(
            view.node, row.name,
            "another node answers at {row:?}'s port"
        );
        assert_eq!(view.members.len(), 3);
    }
    let mut pids: Vec<_> = dev.nodes.iter().map(|row| row.pid).collect();
    pids.sort_unstable();
    let mut children = dev.children()?;
    children.sort_unstable();
    assert_eq!(pids, children);
    let leaders: Vec<_> = dev
        .nodes
        .iter()
        .filter(|row| row.role == "leader")
        .collect();
    assert_eq!(leaders.len(), 1, "{:?}", dev.nodes);
    assert!(
        dev.nodes
            .iter()
            .all(|row| row.role == "leader" || row.role == "follower"),
        "{:?}",
        dev.nodes
    );

    let said = dev.said();
    assert_eq!(
        said.lines().filter(|line| line.starts_with("NODE")).count(),
        1,
        "one table: {said}"
    );
    let data = place.data().canonicalize()?;
    assert!(said.contains(&data.display().to_string()), "{said}");
    assert!(
        said.contains(&format!(
            "kill -9 {}   # the leader, {}",
            leaders[0].pid, leaders[0].name
        )),
        "{said}"
    );
    let curls: Vec<_> = said.lines().filter(|line| line.contains("curl ")).collect();
    assert_eq!(curls.len(), 3, "{said}");
    for ((line, row), (status, text)) in curls.iter().zip(&dev.nodes).zip([
        (StatusCode::OK, "second"),
        (StatusCode::OK, "third"),
        (StatusCode::BAD_REQUEST, "invalid transition"),
    ]) {
        assert!(line.contains(&format!(":{}/", row.http.port())), "{line}");
        let answer = curl(line).await?.expect(status)?;
        assert!(answer.text.trim().starts_with(text), "{line}: {answer:?}");
    }
    stop(dev, libc::SIGTERM).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_terminal_and_a_quit_stop_everything_too() -> Result<()> {
    let place = Place::free()?;
    for signal in [libc::SIGHUP, libc::SIGQUIT] {
        stop(place.start(false).await?, signal).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_continues_when_nothing_reads_its_output() -> Result<()> {
    let place = Place::free()?;
    let (read, output) = std::io::pipe()?;
    let mut command = place.command(false)?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    // Its nodes end with it.
    let mut dev = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()?;
    let id = dev.id().context("it has ended")?;
    // Until then, a node that ends is a failed start.
    let introduced = tokio::task::spawn_blocking(|| {
        let mut lines = BufReader::new(read).lines().map_while(Result::ok);
        lines.any(|line| line.starts_with("Ctrl-C"))
    });
    let introduced = tokio::time::timeout(READY_DEADLINE, introduced).await??;
    ensure!(introduced, "it has ended");

    let apis: Vec<_> = (0..NODE_COUNT)
        .map(|index| Api::new((Ipv4Addr::LOCALHOST, place.http_port() + index).into()))
        .collect();
    let leader = agreement::one_leader(&apis).await?;
    let children = children(id)?;
    assert_eq!(children.len(), usize::from(NODE_COUNT));
    let port = format!(
        ":{}",
        apis[leader].url("").rsplit(':').next().context("a port")?
    );
    let leads = |child: &&u32| {
        let arguments = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(&port)
    };
    let killed = *children
        .iter()
        .find(leads)
        .context("the leader's process")?;
    let killed = libc::pid_t::try_from(killed)?;
    // SAFETY: kill takes no pointers.
    ensure!(
        unsafe { libc::kill(killed, libc::SIGKILL) } == 0,
        "it has ended"
    );

    // It has something to say about each of these.
    let others: Vec<_> = (0..apis.len()).filter(|&at| at != leader).collect();
    for (&at, state) in others.iter().zip(["second", "third"]) {
        wait_for("a write", FAILOVER_DEADLINE, async || {
            let moved = apis[at].transition(state, Some(state), json!({})).await?;
            moved.moved()
        })
        .await?;
    }
    wait_for("the end of the leader", STOP_DEADLINE, async || {
        ensure!(self::children(id)?.len() == 2, "{:?}", self::children(id)?);
        Ok(())
    })
    .await?;
    assert!(dev.try_wait()?.is_none(), "dev has ended");
    ends_on_sigterm(&mut dev).await?;
    Ok(())
}

async fn ends_on_sigterm(dev: &mut tokio::process::Child) -> Result<()> {
    let pid = libc::pid_t::try_from(dev.id().context("it has ended")?)?;
    // SAFETY: kill takes no pointers. The child is not reaped yet, so the id is still its own.
    ensure!(
        unsafe { libc::kill(pid, libc::SIGTERM) } == 0,
        "dev has ended"
    );
    let status = tokio::time::timeout(STOP_DEADLINE, dev.wait()).await??;
    assert_eq!(status.code(), Some(0), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_not_read_blocks_nothing() -> Result<()> {
    let place = Place::free()?;
    let (unread, mut output) = std::io::pipe()?;
    // SAFETY: fcntl takes no pointers here, and the descriptor is open.
    let bytes = unsafe { libc::fcntl(output.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    // Full from the beginning, as a terminal after Ctrl-S.
    output.write_all(&vec![b'\n'; usize::try_from(bytes)?])?;
    let mut command = place.command(false)?;
    command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::null());
    // Its nodes end with it.
    let mut dev = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()?;
    let id = dev.id().context("it has ended")?;
    for index in 0..NODE_COUNT {
        let api = Api::new((Ipv4Addr::LOCALHOST, place.http_port() + index).into());
        wait_for("a node that is ready", READY_DEADLINE, async || {
            api.get("/readyz").await?.expect(StatusCode::OK)
        })
        .await?;
    }
    let nodes = children(id)?;
    assert_eq!(nodes.len(), usize::from(NODE_COUNT));
    ends_on_sigterm(&mut dev).await?;
    for node in nodes {
        ensure!(!runs(node), "its node {node} still runs");
    }
    drop(unread);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_signals_stop_everything_and_state_is_kept_until_fresh() -> Result<()> {
    let place = Place::free()?;
    let dev = place.start(false).await?;
    let cluster_id = dev.nodes[0].api().cluster().await?.cluster_id;
    dev.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    stop(dev, libc::SIGTERM).await?;

    let dev = place.start(false).await?;
    for row in &dev.nodes {
        let view = row.api().cluster().await?;
        assert_eq!(view.cluster_id, cluster_id, "{row:?}");
        let kept = row.api().instance().await?;
        assert_eq!(kept, ("second".to_owned(), 1), "{row:?}");
    }
    stop(dev, libc::SIGINT).await?;

    let dev = place.start(true).await?;
    for row in &dev.nodes {
        let view = row.api().cluster().await?;
        assert_ne!(view.cluster_id, cluster_id, "{row:?}");
        let begun = row.api().instance().await?;
        assert_eq!(begun, ("first".to_owned(), 0), "{row:?}");
    }
    stop(dev, libc::SIGTERM).await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_killed_it_leaves_no_orphans_and_loses_nothing() -> Result<()> {
    let place = Place::free()?;
    let mut dev = place.start(false).await?;
    let children = dev.children()?;
    assert_eq!(children.len(), usize::from(NODE_COUNT));
    dev.nodes[1]
        .api()
        .next("third")
        .await?
        .expect(StatusCode::OK)?;

    dev.end(libc::SIGKILL).await?;
    wait_for("the end of its nodes", STOP_DEADLINE, async || {
        let left: Vec<_> = children.iter().filter(|child| runs(**child)).collect();
        ensure!(left.is_empty(), "{left:?} still run");
        Ok(())
    })
    .await?;

    let dev = place.start(false).await?;
    assert_eq!(
        dev.nodes[2].api().instance().await?,
        ("third".to_owned(), 1)
    );
    stop(dev, libc::SIGTERM).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_replaced_and_the_printed_command_brings_it_back() -> Result<()> {
    let place = Place::free()?;
    let dev = place.start(false).await?;
    let (leader, before) = dev.leader().await?;
    let killed = dev.nodes[leader].clone();
    let others: Vec<_> = dev
        .nodes
        .iter()
        .filter(|row| row.name != killed.name)
        .cloned()
        .collect();
    let writer = Writer::persistent(&others[0].api()).await?;
    writer.wait_for_more(10, WRITES_DEADLINE).await?;

    dev.kill9(leader)?;
    writer.wait_for_more(2, FAILOVER_DEADLINE).await?;
    let end = format!("{} (pid {}) was killed (SIGKILL)", killed.name, killed.pid);
    dev.says("the end of the leader", |line| {
        line.starts_with(&end).then_some(())
    })
    .await?;
    let again = dev
        .says("how to start it again", |line| {
            let (_, command) = line.split_once("to start it again, in another terminal: ")?;
            Some(command.to_owned())
        })
        .await?;
    // "leader: node3 (term 2), was node1"
    let (successor, term) = dev
        .says("the change of leader", |line| {
            let change = line.strip_prefix("leader: ")?;
            let change = change.strip_suffix(&format!(", was {}", killed.name))?;
            let (name, term) = change.strip_suffix(')')?.split_once(" (term ")?;
            Some((name.to_owned(), term.parse::<u64>().ok()?))
        })
        .await?;
    assert!(
        others.iter().any(|row| row.name == successor),
        "{successor}"
    );
    assert!(term > before.term, "term {term} after {}", before.term);

    // Two are left, and stay two: nothing was started in place of the one that died.
    writer.wait_for_more(50, WRITES_DEADLINE).await?;
    let mut left = dev.children()?;
    left.sort_unstable();
    let mut expected: Vec<_> = others.iter().map(|row| row.pid).collect();
    expected.sort_unstable();
    assert_eq!(left, expected);
    assert!(TcpStream::connect(killed.http).is_err(), "{killed:?} is up");

    let log = tempfile::NamedTempFile::new()?;
    // `exec`: the process that is stopped below is the node and not a shell around it.
    let line = format!("exec {again}");
    let mut revived = Process::spawn(&killed.name, binaries::shell(&line), log.path())?;
    wait_for("the node to be back", READY_DEADLINE, async || {
        killed.api().get("/readyz").await?.expect(StatusCode::OK)
    })
    .await?;
    let view = killed.api().cluster().await?;
    assert_eq!(
        (view.node, view.node_id, view.cluster_id),
        (before.node, before.node_id, before.cluster_id)
    );
    let written = writer.finish().await?;
    assert_eq!(killed.api().instance().await?.1, written.revision);
    assert_eq!(written.revision, written.acknowledged);

    stop(dev, libc::SIGTERM).await?;
    // It belongs to whoever started it.
    assert_eq!(revived.ended()?, None);
    revived.signal(libc::SIGTERM)?;
    let status = revived.wait(STOP_DEADLINE).await?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_in_failure_when_its_last_node_has_ended() -> Result<()> {
    let place = Place::free()?;
    let mut dev = place.start(false).await?;
    for position in 0..dev.nodes.len() {
        dev.kill9(position)?;
    }
    let status = dev.wait_ended().await?;
    assert_eq!(status.code(), Some(1), "{status}");
    let said = dev.said();
    assert_eq!(said.matches("was killed (SIGKILL)").count(), 3, "{said}");
    assert!(said.contains("all nodes have exited"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_or_for_other_ports_is_rejected_and_kept() -> Result<()> {
    let (place, elsewhere) = (Place::free()?, Place::free()?);
    let dev = place.start(false).await?;
    dev.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    let data = place.data();
    let shown = data.canonicalize()?.display().to_string();

    // On the same ports, with `--fresh` even: the ports are looked at before anything is deleted.
    for fresh in [false, true] {
        let said = refused(place.command(fresh)?, 1).await?;
        let first = &dev.nodes[0];
        assert!(
            said.contains(&format!(
                "port {} (HTTP of node1) is in use by lockstepd (pid {})",
                first.http.port(),
                first.pid
            )),
            "{said}"
        );
    }
    // On others: the folder itself is locked.
    for fresh in [false, true] {
        let mut second = command(&data, elsewhere.http_port(), elsewhere.grpc_port())?;
        if fresh {
            second.arg("--fresh");
        }
        let said = refused(second, 1).await?;
        assert!(
            said.contains(&shown) && said.contains("in use by another `lockstepd dev`"),
            "{said}"
        );
    }
    dev.nodes[0]
        .api()
        .next("third")
        .await?
        .expect(StatusCode::OK)?;
    stop(dev, libc::SIGTERM).await?;

    // The nodes know each other by their gRPC addresses.
    let said = refused(command(&data, place.http_port(), elsewhere.grpc_port())?, 1).await?;
    for part in [
        shown.as_str(),
        &format!("--grpc-port {}", place.grpc_port()),
        "--fresh",
    ] {
        assert!(said.contains(part), "{part:?} is not named: {said}");
    }
    let dev = place.start(false).await?;
    assert_eq!(
        dev.nodes[0].api().instance().await?,
        ("third".to_owned(), 2)
    );
    stop(dev, libc::SIGTERM).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_another_program_is_rejected_and_left_alone() -> Result<()> {
    let place = Place::free()?;
    let data = place.data();
    // What `--fresh` would delete, were the folder its own.
    fs::create_dir_all(data.join("node1"))?;
    fs::write(data.join("node1/letter.txt"), "dear")?;
    for fresh in [false, true] {
        let said = refused(place.command(fresh)?, 1).await?;
        let shown = data.canonicalize()?.display().to_string();
        assert!(
            said.contains(&shown) && said.contains("lockstep-dev") && said.contains("--data"),
            "{said}"
        );
        assert_eq!(fs::read_to_string(data.join("node1/letter.txt"))?, "dear");
        assert_eq!(fs::read_dir(&data)?.count(), 1, "something was added");
        assert_eq!(fs::read_dir(data.join("node1"))?.count(), 1);
    }
    // A file in the folder's place.
    fs::remove_dir_all(&data)?;
    fs::write(&data, "no folder")?;
    let said = refused(place.command(true)?, 1).await?;
    assert!(said.contains(&data.display().to_string()), "{said}");
    assert_eq!(fs::read_to_string(&data)?, "no folder");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_its_owner_and_nothing_is_started() -> Result<()> {
    let place = Place::free()?;
    let me = std::process::id();
    let name = fs::read_to_string(format!("/proc/{me}/comm"))?;
    for (port, what) in [
        (place.http_port() + 1, "HTTP of node2"),
        (place.grpc_port() + 2, "gRPC of node3"),
    ] {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let said = refused(place.command(false)?, 1).await?;
        let expected = format!(
            "port {port} ({what}) is in use by {} (pid {me})",
            name.trim()
        );
        assert!(said.contains(&expected), "no {expected:?} in: {said}");
        assert!(
            said.contains("--http-port") && said.contains("--grpc-port"),
            "what to do is not said: {said}"
        );
        assert!(!place.data().exists(), "a folder was made");
        drop(taken);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_that_do_not_fit_are_refused() -> Result<()> {
    let place = Place::free()?;
    let first = place.http_port();
    for grpc_port in [first, first + 1, first + 2, first - 2] {
        let said = refused(command(&place.data(), first, grpc_port)?, 1).await?;
        for part in [
            format!("--http-port {first}"),
            format!("--grpc-port {grpc_port}"),
            "must not overlap".to_owned(),
        ] {
            assert!(said.contains(&part), "{part:?} is not said: {said}");
        }
    }
    for (http_port, grpc_port, named) in [
        (65534, first, "--http-port"),
        (first, 65535, "--grpc-port"),
        (0, first, "--http-port"),
    ] {
        let said = refused(command(&place.data(), http_port, grpc_port)?, 2).await?;
        assert!(said.contains(named), "{said}");
    }
    assert!(!place.data().exists(), "a folder was made");
    Ok(())
}
