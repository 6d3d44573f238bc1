//! Where the binaries under test are.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// `lockstepd` of the profile that the running test was built with, ready for its arguments.
pub fn lockstepd() -> Result<Command> {
    Ok(command(binary("lockstepd")?))
}

/// `lockstepd` of another release, from the folder that it was built into.
pub fn lockstepd_in(folder: &Path) -> Command {
    command(folder.join("lockstepd"))
}

/// The folder with the previous release, if there is one: `scripts/previous-release` builds it.
pub fn previous_release() -> Option<PathBuf> {
    std::env::var_os("LOCKSTEP_TEST_PREVIOUS").map(PathBuf::from)
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

/// The binary of this name in the folder `LOCKSTEP_TEST_BINARIES` if that is set, else of the build
/// profile that the running program belongs to: a test is in `target/<profile>/deps`, a benchmark in
/// `target/<profile>`.
fn binary(name: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("LOCKSTEP_TEST_BINARIES") {
        return Ok(PathBuf::from(folder).join(name));
    }
    let program = std::env::current_exe().context("the path of the running program")?;
    let folders = program.ancestors().skip(1).take(2);
    let mut candidates = folders.map(|folder| folder.join(name));
    candidates.find(|path| path.is_file()).with_context(|| {
        let program = program.display();
        format!("no {name} beside {program}: build it first (cargo build --workspace --bins)")
    })
}
