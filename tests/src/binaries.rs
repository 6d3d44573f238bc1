//! Where the binaries under test are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// `lockstepd` of the profile that the running test was built with, ready for its arguments.
pub fn lockstepd() -> Result<Command> {
    command("lockstepd")
}

/// `lockstep`, the command line.
pub fn lockstep() -> Result<Command> {
    command("lockstep")
}

/// The command without any `LOCKSTEP_*` setting of the caller's own environment.
fn command(name: &str) -> Result<Command> {
    let mut command = Command::new(binary(name)?);
    for (key, _) in
        std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("LOCKSTEP_"))
    {
        command.env_remove(key);
    }
    Ok(command)
}

/// The test runs as `target/<profile>/deps/<test>-<hash>`; the binaries lie one folder up.
fn binary(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("the path of the running test")?;
    let profile = test
        .ancestors()
        .nth(2)
        .context("the folder of the build profile")?;
    let binary = profile.join(name);
    ensure!(
        binary.is_file(),
        "{} is missing: build it first (cargo build --workspace --bins, as scripts/test does)",
        binary.display()
    );
    Ok(binary)
}
