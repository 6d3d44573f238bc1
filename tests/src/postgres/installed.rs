//! The installed PostgreSQL binaries, and the user to run the server as.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::ADMINISTRATOR;

/// Where Debian's packages put the server, one folder per version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Whom the server runs as: it refuses to run as root.
#[derive(Clone, Copy)]
pub(super) struct Account {
    pub(super) user: u32,
    pub(super) group: u32,
}

/// The newest version's binaries.
pub(super) fn find_binaries() -> Result<PathBuf> {
    let missing = || {
        anyhow!(
            "no initdb in {VERSIONS}/*/bin: install the package postgresql, or run scripts/test as root"
        )
    };
    let versions = fs::read_dir(VERSIONS).map_err(|_| missing())?;
    versions
        .filter_map(Result::ok)
        .map(|version| version.path().join("bin"))
        .filter(|binaries| binaries.join("initdb").is_file())
        .max_by_key(|binaries| version(binaries))
        .ok_or_else(missing)
}

fn version(binaries: &Path) -> Option<u32> {
    let version = binaries.parent()?.file_name()?;
    version.to_str()?.parse().ok()
}

/// The user to run the server as: `postgres` if this is root, else the current user.
pub(super) fn account() -> Result<Option<Account>> {
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let numbers = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == ADMINISTRATOR).then_some(())?;
        let user = fields.nth(1)?.parse().ok()?;
        let group = fields.next()?.parse().ok()?;
        Some(Account { user, group })
    });
    let account = numbers.context(
        "postgres does not run as root, and there is no user postgres: install the package postgresql",
    )?;
    Ok(Some(account))
}
