//! Names that resolve to the addresses that a test chooses.

use std::ffi::CString;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::null;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::disk::own_mounts;

/// A hosts file that only this thread, and processes that it starts from then on, see.
pub struct Names {
    file: PathBuf,
    _folder: TempDir,
}

impl Names {
    /// Puts one in place. None where this process may not, as it may if it is root, outside of most containers.
    pub fn own() -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("hosts");
        fs::write(&file, "")?;
        let names = Self {
            file,
            _folder: folder,
        };
        match names.mount() {
            Ok(()) => Ok(Some(names)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(error).context("a hosts file of its own"),
        }
    }

    /// From now on, `name` resolves to these addresses, and no other name does.
    pub fn resolve(&self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        let line = |address: &IpAddr| format!("{address} {name}\n");
        let lines: String = addresses.iter().map(line).collect();
        fs::write(&self.file, lines).context("the hosts file")
    }

    fn mount(&self) -> io::Result<()> {
        let file = CString::new(self.file.as_os_str().as_bytes())?;
        own_mounts()?;
        // SAFETY: strings that end with a zero and live until the call returns, and null where the system takes
        // that for nothing.
        let done = unsafe {
            let hosts = c"/etc/hosts".as_ptr();
            libc::mount(file.as_ptr(), hosts, null(), libc::MS_BIND, null())
        };
        match done {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
