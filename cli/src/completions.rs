//! `lockstep completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::{Arguments, Context};

/// Print a shell completion script
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(lockstep completions bash)
  lockstep completions zsh > ~/.zfunc/_lockstep
  lockstep completions fish > ~/.config/fish/completions/lockstep.fish")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) async fn run(self, _: &Context) -> Result<String, Failure> {
        let mut program = Arguments::command();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "lockstep", &mut script);
        Ok(String::from_utf8_lossy(&script).into_owned())
    }
}
