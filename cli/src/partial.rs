//! Output files that appear only once they are complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Failure;

/// A file under another name until it is complete. Dropped before, it is removed.
pub(super) struct Partial {
    target: PathBuf,
    path: PathBuf,
    writer: BufWriter<File>,
    kept: bool,
}

impl Partial {
    /// `mode` as for `chmod`, before the umask.
    pub(super) fn create(target: &Path, mode: u32) -> Result<Self, Failure> {
        let Some(name) = target.file_name() else {
            let message = format!("{} does not name a file", target.display());
            return Err(Failure::usage(message));
        };
        let mut name = name.to_owned();
        name.push(".partial");
        let path = target.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode);
        let file = options.open(&path);
        let file = file.map_err(|error| Failure::cannot_write(&path, &error))?;
        Ok(Self {
            target: target.to_owned(),
            path,
            writer: BufWriter::new(file),
            kept: false,
        })
    }

    pub(super) fn append(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.write_all(text.as_bytes());
        written.map_err(|error| Failure::cannot_write(&self.path, &error))
    }

    /// Makes the content durable, and gives the file its name.
    pub(super) fn complete(mut self) -> Result<(), Failure> {
        let named = self.sync_and_rename();
        named.map_err(|error| Failure::cannot_write(&self.target, &error))
    }

    fn sync_and_rename(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        self.writer.get_ref().sync_all()?;
        fs::rename(&self.path, &self.target)?;
        self.kept = true;
        let folder = self.target.parent();
        let folder = folder.filter(|it| !it.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}
