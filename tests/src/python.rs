//! Python, with packages that are pinned and installed once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

/// The virtual environment with the packages of `scripts/NAME/requirements.txt`, which
/// `scripts/python-tools` installs where it is missing.
pub fn environment(name: &str) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/python-tools");
    let output = Command::new(script).arg(name).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", said.trim());
    let folder = String::from_utf8_lossy(&output.stdout);
    Ok(PathBuf::from(folder.trim()))
}
