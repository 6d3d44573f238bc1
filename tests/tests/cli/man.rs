//! The manual pages.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use lockstep_tests::{binaries, program};

use super::usage::{COMMANDS, on_path};
use super::{RUN_DEADLINE, lockstep, run};

/// Where a page can be shown, it is shown without a complaint.
async fn is_shown(page: &Path) -> Result<()> {
    ensure!(page.is_file(), "there is no {}", page.display());
    if on_path("man") && on_path("groff") {
        let mut man = Command::new("man");
        man.args(["--warnings", "-l"])
            .arg(page)
            .env("MANPAGER", "cat")
            .env("MANWIDTH", "100");
        let shown = program::run(man, RUN_DEADLINE).await?.done()?;
        ensure!(shown.contains("SYNOPSIS"), "{}: {shown}", page.display());
    }
    Ok(())
}

#[tokio::test]
async fn there_is_a_manual_page_for_every_command_and_man_can_show_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pages = folder.path().join("man1");
    lockstep(&["man", &pages.display().to_string()])
        .await?
        .done()?;
    for command in std::iter::once("lockstep".to_owned())
        .chain(COMMANDS.map(|command| format!("lockstep-{command}")))
        .chain(
            ["machine-apply", "instance-migrate", "cluster-status"]
                .map(|it| format!("lockstep-{it}")),
        )
    {
        is_shown(&pages.join(format!("{command}.1"))).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_server_prints_a_page_for_every_command_and_man_can_show_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let help = run(binaries::lockstepd()?, &["--help"]).await?.done()?;
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // The others continue a description.
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    let commands: Vec<_> = commands.filter(|name| *name != "help").collect();
    ensure!(commands.len() > 10, "{help}");
    let each = commands.iter().map(|name| vec!["man", *name]);
    for arguments in each.chain([vec!["man"]]) {
        let text = run(binaries::lockstepd()?, &arguments).await?.done()?;
        let page = folder.path().join("lockstepd.1");
        std::fs::write(&page, text)?;
        is_shown(&page).await?;
    }
    Ok(())
}
