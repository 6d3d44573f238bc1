//! Sets `LOCKSTEP_BUILD_DATE`, which `/version` and `lockstep version` show: the variable of that
//! name if it is set, else `SOURCE_DATE_EPOCH`, else the date of the commit, else (a source tree
//! without history) the time of the build. Always RFC 3339 in UTC.
//!
//! The script runs again only when one of these changes. `cli/build.rs` includes this file.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DATE: &str = "LOCKSTEP_BUILD_DATE";
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Prints the instruction to cargo.
pub fn main() {
    for name in [DATE, EPOCH] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let given = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let date = given(DATE).unwrap_or_else(|| {
        let seconds = given(EPOCH).or_else(commit_seconds);
        let at = seconds.and_then(|text| text.parse().ok());
        let at = at.map_or_else(SystemTime::now, |s| UNIX_EPOCH + Duration::from_secs(s));
        humantime::format_rfc3339_seconds(at).to_string()
    });
    println!("cargo:rustc-env={DATE}={date}");
}

/// The date of the checked-out commit, in seconds since 1970.
fn commit_seconds() -> Option<String> {
    // Git appends to this log whenever another commit is checked out or made. A path that does not
    // exist would run the script on every build.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    git(&["log", "-1", "--format=%ct"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
