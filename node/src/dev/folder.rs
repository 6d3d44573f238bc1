//! The data folder of `dev`: identified by a marker file, locked while in use.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use super::{NODE_COUNT, doing};

/// Marks a folder that `dev` created. Holds the first gRPC port.
const MARKER: &str = "lockstep-dev";
const TAIL_BYTES: u64 = 8 << 10;
const TAIL_LINES: usize = 12;

/// A data folder of `dev`, locked while this lives.
pub(super) struct Folder {
    /// Absolute.
    pub(super) dir: PathBuf,
    /// Holds the lock.
    _marker: File,
}

impl Folder {
    /// Creates or reuses the folder; with `fresh`, deletes the nodes' data and logs in it. Refuses a
    /// folder that `dev` did not create, and leaves it as it is.
    pub(super) fn open(dir: &Path, fresh: bool, grpc_port: u16) -> Result<Folder> {
        let at = |path: &Path| doing(path.display().to_string());
        fs::create_dir_all(dir).map_err(at(dir))?;
        let dir = dir.canonicalize().map_err(at(dir))?;
        let path = dir.join(MARKER);
        let ours = path.symlink_metadata().is_ok_and(|found| found.is_file());
        if !ours && fs::read_dir(&dir).map_err(at(&dir))?.next().is_some() {
            bail!(
                "{} is not empty and was not created by `lockstepd dev` (it contains no file lockstep-dev); choose another folder with --data",
                dir.display()
            );
        }
        let mut marker = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(at(&path))?;
        marker.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => anyhow!(
                "{} is in use by another `lockstepd dev`; stop it, or choose another with --data",
                dir.display()
            ),
            TryLockError::Error(source) => at(&path)(source),
        })?;
        if fresh {
            wipe(&dir)?;
        } else if let Some(used) = used_port(&mut marker).filter(|port| *port != grpc_port) {
            bail!(
                "{} holds a cluster that uses --grpc-port {used}; use that port, --fresh to delete the cluster, or another --data",
                dir.display()
            );
        }
        let text = format!(
            "This folder belongs to `lockstepd dev`; `--fresh` deletes the nodes in it.\ngrpc-port {grpc_port}\n"
        );
        marker
            .set_len(0)
            .and_then(|()| marker.rewind())
            .and_then(|()| marker.write_all(text.as_bytes()))
            .map_err(at(&path))?;
        Ok(Folder {
            dir,
            _marker: marker,
        })
    }

    pub(super) fn data_dir(&self, node: &str) -> PathBuf {
        self.dir.join(node)
    }

    pub(super) fn log(&self, node: &str) -> PathBuf {
        self.dir.join(format!("{node}.log"))
    }
}

fn used_port(marker: &mut File) -> Option<u16> {
    let mut text = String::new();
    marker.take(1024).read_to_string(&mut text).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("grpc-port "))?
        .trim()
        .parse()
        .ok()
}

/// Deletes the nodes' data and logs, and nothing else.
fn wipe(dir: &Path) -> Result<()> {
    for number in 1..=NODE_COUNT {
        let data = dir.join(format!("node{number}"));
        let log = dir.join(format!("node{number}.log"));
        for (path, result) in [
            (&data, fs::remove_dir_all(&data)),
            (&log, fs::remove_file(&log)),
        ] {
            match result {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    bail!("deleting {}: {error}", path.display());
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The last lines of a log, for an error message.
pub(super) fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if text.trim().is_empty() => "  (nothing)".into(),
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.iter().skip(lines.len().saturating_sub(TAIL_LINES));
            last.map(|line| format!("  {line}"))
                .collect::<Vec<_>>()
                .join("\n")
        }
        Err(error) => format!("  (cannot be read: {error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temp() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    fn refused(dir: &Path, fresh: bool, grpc_port: u16) -> String {
        let opened = Folder::open(dir, fresh, grpc_port);
        opened.err().expect("refused").to_string()
    }

    #[test]
    fn fresh_deletes_the_nodes_of_our_own_folder_only() {
        let temp = temp();
        let dir = temp.path().join("dev");
        drop(Folder::open(&dir, false, 4333).expect("made"));
        fs::create_dir(dir.join("node1")).expect("made");
        fs::write(dir.join("node1/data"), "x").expect("written");
        fs::write(dir.join("notes.txt"), "mine").expect("written");
        drop(Folder::open(&dir, false, 4333).expect("kept"));
        assert!(dir.join("node1/data").exists());
        drop(Folder::open(&dir, true, 4333).expect("wiped"));
        assert!(!dir.join("node1").exists());
        assert!(dir.join("notes.txt").exists());
    }

    #[test]
    fn a_folder_without_our_marker_is_refused_and_left_alone() {
        let temp = temp();
        fs::create_dir(temp.path().join("node1")).expect("made");
        for fresh in [false, true] {
            let error = refused(temp.path(), fresh, 4333);
            assert!(
                error.contains("was not created by `lockstepd dev`"),
                "{error}"
            );
        }
        assert!(temp.path().join("node1").exists());
        assert!(!temp.path().join(MARKER).exists());
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let temp = temp();
        let _held = Folder::open(temp.path(), false, 4333).expect("made");
        let error = refused(temp.path(), true, 4333);
        assert!(error.contains("is in use by another"), "{error}");
    }

    #[test]
    fn other_ports_need_a_fresh_folder() {
        let temp = temp();
        drop(Folder::open(temp.path(), false, 4333).expect("made"));
        let error = refused(temp.path(), false, 5333);
        assert!(error.contains("uses --grpc-port 4333"), "{error}");
        drop(Folder::open(temp.path(), true, 5333).expect("fresh"));
        drop(Folder::open(temp.path(), false, 5333).expect("the same again"));
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let temp = temp();
        let log = temp.path().join("log");
        let text: String = (0..2000).map(|n| format!("line {n}\n")).collect();
        fs::write(&log, text).expect("written");
        let tail = tail(&log);
        assert!(
            tail.ends_with("  line 1999") && tail.lines().count() == TAIL_LINES,
            "{tail}"
        );
    }
}
