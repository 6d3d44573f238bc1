//! `lockstep man`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;

use super::Failure;
use super::{Arguments, Context};

const EXAMPLES: &str = "\
Examples:
  lockstep man | man -l -              read this program's own page
  lockstep man ~/.local/share/man/man1 install every page";

/// Write manual pages: one for the program and one for each command
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Man {
    /// The folder to write the pages to, created if it does not exist. Without it, the program's
    /// own page goes to stdout
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Man {
    pub(super) async fn run(self, _: &Context) -> Result<String, Failure> {
        let mut program = Arguments::command().disable_help_subcommand(true);
        program.build();
        let Some(folder) = &self.folder else {
            let mut page = Vec::new();
            let rendered = page_of(program).render(&mut page);
            rendered.map_err(Failure::local)?;
            return Ok(String::from_utf8_lossy(&page).into_owned());
        };
        let mut written = String::new();
        fs::create_dir_all(folder)
            .and_then(|()| write_all(folder, program, &mut written))
            .map_err(|error| Failure::cannot_write(folder, &error))?;
        Ok(written)
    }
}

/// Writes the pages of a command and its subcommands, and lists the files.
fn write_all(folder: &Path, command: clap::Command, written: &mut String) -> io::Result<()> {
    for below in command.get_subcommands() {
        write_all(folder, below.clone(), written)?;
    }
    let path = page_of(command).generate_to(folder)?;
    written.push_str(&format!("{}\n", path.display()));
    Ok(())
}

fn page_of(command: clap::Command) -> Page {
    Page::new(command).manual("Lockstep")
}
