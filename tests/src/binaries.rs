//! Where the binaries under test are.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// `lockstepd` of the profile that the running test was built with, ready for its arguments.
pub fn lockstepd() -> Result<Command> {
    Ok(command(binary("lockstepd")?))
}

/// `lockstep`, the command line.
pub fn lockstep() -> Result<Command> {
    Ok(command(binary("lockstep")?))
}

/// What a user types into a shell.
pub fn shell(line: &str) -> Command {
    let mut command = command("sh");
    command.args(["-c", line]);
    command
}

/// The command without any `LOCKSTEP_*` setting of the caller's own environment.
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (key, _) in
        std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("LOCKSTEP_"))
    {
        command.env_remove(key);
    }
    command
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
