//! The manual pages.

use std::process::Command;

use anyhow::{Result, ensure};
use lockstep_tests::program;

use super::usage::{COMMANDS, on_path};
use super::{RUN_DEADLINE, lockstep};

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
        let page = pages.join(format!("{command}.1"));
        ensure!(page.is_file(), "there is no {}", page.display());
        // Where the page can be shown, it is shown without a complaint.
        if on_path("man") && on_path("groff") {
            let mut man = Command::new("man");
            man.args(["--warnings", "-l"])
                .arg(&page)
                .env("MANPAGER", "cat")
                .env("MANWIDTH", "100");
            let shown = program::run(man, RUN_DEADLINE).await?.done()?;
            ensure!(shown.contains("SYNOPSIS"), "{command}: {shown}");
        }
    }
    Ok(())
}
