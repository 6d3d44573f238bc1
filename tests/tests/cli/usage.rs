//! Commands that need no cluster: usage errors, help, completions.

use std::process::Command;

use anyhow::{Context, Result};
use lockstep_tests::binaries;
use lockstep_tests::cluster::{Cluster, Plan};
use lockstep_tests::program;

use super::{RUN_DEADLINE, lockstep, run};

/// Every command, so that a new one is not forgotten here.
pub(crate) const COMMANDS: [&str; 17] = [
    "next",
    "get",
    "send",
    "machine",
    "instance",
    "watch",
    "txn",
    "sink",
    "cluster",
    "status",
    "members",
    "leader",
    "discover",
    "bench",
    "version",
    "completions",
    "man",
];

#[tokio::test]
async fn invalid_arguments_are_usage_errors_that_name_them() -> Result<()> {
    for (arguments, part) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["next"], "STATE"),
        (&["next", "second", "third"], "third"),
        (&["get", "--frobnicate"], "--frobnicate"),
        (&["get", "-e", "nowhere"], "nowhere"),
        (&["get", "-e", "127.0.0.1:99999"], "99999"),
        (&["get", "-e", "http://127.0.0.1:4333/path"], "/path"),
        (&["get", "-o", "xml"], "xml"),
        (&["get", "--timeout=-1s"], "--timeout"),
        (&["next", "second", "--expect-revision", "two"], "two"),
        (
            &["get", "--consul", "ftp://127.0.0.1:8500"],
            "ftp://127.0.0.1:8500",
        ),
        (&["discover"], "--consul"),
        (&["completions", "tcsh"], "tcsh"),
        (&["send", "order/42"], "--event"),
        (&["machine", "appyl", "x"], "apply"),
        (&["instance", "create", "order/42/7"], "order/42/7"),
        (&["watch", "order", "--from-revision", "-1"], "-1"),
        (&["txn"], "FILE"),
    ] {
        let ended = lockstep(arguments).await?;
        // Decided here: a cluster that is waited for in vain would make it a 3.
        let said = ended.failed(2).with_context(|| format!("{arguments:?}"))?;
        assert!(said.contains(part), "{arguments:?}: no {part:?} in {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_port_is_named_as_such() -> Result<()> {
    let cluster = Cluster::start_as(Plan::single()).await?;
    let node = &cluster.nodes[0];
    let http = node.http_address().to_string();
    let said = lockstep(&["get", "-e", &http, "--timeout", "5s"])
        .await?
        .failed(3)?;
    for part in [
        "the HTTP port of the node",
        &http,
        &node.grpc_address().to_string(),
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    Ok(())
}

#[tokio::test]
async fn every_command_explains_itself() -> Result<()> {
    let help = lockstep(&["--help"]).await?.done()?;
    let listed: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed, COMMANDS, "{help}");
    assert!(help.contains("Exit codes: 0 "), "{help}");
    for command in COMMANDS {
        let help = lockstep(&[command, "--help"]).await?.done()?;
        assert!(
            help.contains(&format!("Usage: lockstep {command}")),
            "{help}"
        );
        assert!(
            help.contains("--endpoint") && help.contains("--output"),
            "{help}"
        );
        assert!(help.contains("Examples:\n"), "{command} has no example");
    }
    Ok(())
}

/// Checks the completion scripts of a program, and completes what a user typed up to Tab.
async fn completes(
    program: fn() -> Result<Command>,
    name: &str,
    commands: &[&str],
    typed: &[(&str, &str)],
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for shell in ["bash", "zsh", "fish"] {
        let script = run(program()?, &["completions", shell]).await?.done()?;
        for command in commands {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
        let file = folder.path().join(shell);
        std::fs::write(&file, script)?;
        // Bash is on every machine that runs scripts/test; the others are checked where they are.
        if shell == "bash" || on_path(shell) {
            let mut check = Command::new(shell);
            check.arg("-n").arg(&file);
            assert_eq!(program::run(check, RUN_DEADLINE).await?.done()?, "");
        }
    }
    for (words, expected) in typed {
        let line = format!(
            "source ./bash; COMP_WORDS=({name} {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _{name} {name} \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &line]).current_dir(&folder);
        let completed = program::run(bash, RUN_DEADLINE).await?.done()?;
        assert_eq!(completed, *expected, "{words}");
    }
    Ok(())
}

#[tokio::test]
async fn completions_are_scripts_that_shells_accept_and_that_complete() -> Result<()> {
    let typed = [("st", "status\n"), ("get --st", "--stale\n")];
    completes(binaries::lockstep, "lockstep", &COMMANDS, &typed).await?;
    let commands = ["run", "dev", "check-config", "rejoin", "man"];
    let typed = [
        ("check-", "check-config\ncheck-disk\n"),
        ("dev --fr", "--fresh\n"),
    ];
    completes(binaries::lockstepd, "lockstepd", &commands, &typed).await
}

/// Whether this machine has the program.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
