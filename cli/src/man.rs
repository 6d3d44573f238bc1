//! `lockstep man`.

use std::fs;
use std::path::{Path, PathBuf};

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
        let mut program = Arguments::command();
        program.build();
        let Some(folder) = &self.folder else {
            return render(program).map(|page| String::from_utf8_lossy(&page).into_owned());
        };
        fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        let mut written = String::new();
        write_all(folder, program, &mut written)?;
        Ok(written)
    }
}

/// Writes the pages of a command and its subcommands, and lists the files.
fn write_all(folder: &Path, command: clap::Command, written: &mut String) -> Result<(), Failure> {
    for below in command
        .get_subcommands()
        .filter(|it| !it.is_hide_set() && it.get_name() != "help")
    {
        write_all(folder, below.clone(), written)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = folder.join(format!("{name}.1"));
    let page = render(command)?;
    fs::write(&path, page).map_err(|error| cannot_write(&path, &error))?;
    written.push_str(&format!("{}\n", path.display()));
    Ok(())
}

fn render(command: clap::Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let rendered = Page::new(command).manual("Lockstep").render(&mut page);
    rendered.map_err(Failure::local)?;
    Ok(page)
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::local(format!("cannot write {}: {error}", path.display()))
}
