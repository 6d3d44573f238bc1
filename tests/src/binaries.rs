//! Where the binaries under test are.

use std::ffi::{OsStr, OsString};
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

/// A `PATH` on which a shell finds them before all else.
pub fn search_path() -> Result<OsString> {
    let lockstep = binary("lockstep")?;
    let folder = lockstep.parent().context("binaries are in a folder")?;
    let others = std::env::var_os("PATH").unwrap_or_default();
    let folders = [folder.to_owned()];
    let all = folders.into_iter().chain(std::env::split_paths(&others));
    Ok(std::env::join_paths(all)?)
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

/// In `LOCKSTEP_TEST_BINARIES`, where that is set: another build than the test's own. Else, since the
/// test runs as `target/<profile>/deps/<test>-<hash>`, one folder up.
fn binary(name: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("LOCKSTEP_TEST_BINARIES") {
        return Ok(PathBuf::from(folder).join(name));
    }
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
