//! A start that is held up, as by a slow disk, until it is let go.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::cluster::Node;

/// The identity of a node that is down, as a pipe: its next start waits to read it.
pub struct Held {
    identity: PathBuf,
    content: Vec<u8>,
}

impl Held {
    /// Holds up the next start of a node that has run before.
    pub fn next_start(node: &Node) -> Result<Self> {
        let identity = node.data().join("identity.json");
        let content = fs::read(&identity).context("the node has run before")?;
        fs::remove_file(&identity)?;
        let path = CString::new(identity.as_os_str().as_bytes())?;
        // SAFETY: a path that ends with a zero, and lives until the call returns.
        let made = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
        ensure!(made == 0, "mkfifo: {}", io::Error::last_os_error());
        Ok(Self { identity, content })
    }

    /// Lets the start go on. Waits until the node reads.
    pub async fn let_go(self) -> Result<()> {
        let write = move || fs::write(&self.identity, &self.content);
        tokio::task::spawn_blocking(write).await??;
        Ok(())
    }
}
