//! Docker's command line, with cleanup of everything it creates.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// For a command that the daemon answers at once; it may be busy.
pub const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// Whether LOCKSTEP_SKIP_CONTAINERS skips the container tests; prints so. Without it a missing Docker
/// is a failure.
pub fn skipped() -> bool {
    let skipped =
        std::env::var_os("LOCKSTEP_SKIP_CONTAINERS").is_some_and(|value| !value.is_empty());
    if skipped {
        println!("skipped: LOCKSTEP_SKIP_CONTAINERS is set");
    }
    skipped
}

/// The image under test.
pub fn image() -> String {
    std::env::var("LOCKSTEP_IMAGE")
        .ok()
        .filter(|image| !image.is_empty())
        .unwrap_or_else(|| "lockstep:latest".to_owned())
}

/// Runs `docker` with `arguments` to its end; returns what it printed.
pub async fn docker(arguments: &[&str]) -> Result<String> {
    run("docker", arguments, &[], Path::new("."), COMMAND_DEADLINE).await
}

/// Runs a program in `folder` to its end, with `environment` besides the caller's own; returns
/// what it printed on stdout. Past the deadline it is killed.
pub async fn run(
    program: &str,
    arguments: &[&str],
    environment: &[(String, String)],
    folder: &Path,
    deadline: Duration,
) -> Result<String> {
    let said = || format!("{program} {}", arguments.join(" "));
    let process = tokio::process::Command::new(program)
        .args(arguments)
        .envs(environment.iter().cloned())
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(deadline, process)
        .await
        .with_context(|| format!("{}: not done after {deadline:?}", said()))?
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow::anyhow!(
                "no {program} on the PATH: install it, or leave the tests over containers out \
                 with LOCKSTEP_SKIP_CONTAINERS=1"
            ),
            _ => error.into(),
        })
        .with_context(said)?;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "{}: {}\n{stdout}{stderr}",
        said(),
        output.status
    );
    Ok(stdout)
}

/// What exists with this label: containers, volumes and networks, by name.
pub async fn labelled(label: &str) -> Result<Vec<String>> {
    let filter = format!("label={label}");
    let mut found = Vec::new();
    for kind in [
        &["ps", "--all", "--format", "container {{.Names}}"][..],
        &["volume", "ls", "--format", "volume {{.Name}}"],
        &["network", "ls", "--format", "network {{.Name}}"],
    ] {
        let names = docker(&[kind, &["--filter", &filter]].concat()).await?;
        found.extend(names.lines().map(str::to_owned));
    }
    Ok(found)
}

/// Removes what has a label when it is dropped, and just as well when this process ends without
/// dropping it: aborted, killed, out of memory. A shell waits for the end of its input, which comes
/// with either. It has a process group of its own, so that what ends the test spares it.
pub struct Reaper {
    shell: Child,
    label: String,
}

impl Reaper {
    /// For containers, with the volumes that have no name, then for networks, volumes and images.
    /// Looks again until there is none: what was created last may appear after the first look.
    pub fn of(label: &str) -> Result<Self> {
        let script = r#"
            cat >/dev/null
            containers() { docker ps --all --quiet --filter "label=$LABEL"; }
            networks() { docker network ls --quiet --filter "label=$LABEL"; }
            volumes() { docker volume ls --quiet --filter "label=$LABEL"; }
            images() { docker image ls --quiet --filter "label=$LABEL"; }
            for _ in 1 2 3 4 5 6 7 8 9 10; do
                containers | xargs -r docker rm --force --volumes
                networks | xargs -r docker network rm
                volumes | xargs -r docker volume rm
                images | xargs -r docker image rm --force
                [ -n "$(containers; networks; volumes; images)" ] || exit 0
                sleep 1
            done
            exit 1"#;
        let shell = Command::new("sh")
            .args(["-c", script])
            .env("LABEL", label)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("starting a shell to clean up")?;
        Ok(Self {
            shell,
            label: label.to_owned(),
        })
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        match self.shell.wait() {
            Ok(status) if status.success() => {}
            ended => println!("cleaning up {} ended with {ended:?}", self.label),
        }
    }
}
