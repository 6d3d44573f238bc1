//! `lockstep completions`.

use clap::Args;
use clap_complete::Shell;

/// Print a script that completes this program's arguments
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(lockstep completions bash)
  lockstep completions zsh > ~/.zfunc/_lockstep
  lockstep completions fish > ~/.config/fish/completions/lockstep.fish")]
pub(super) struct Completions {
    /// The shell to complete in
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, mut program: clap::Command) -> String {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut program, "lockstep", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}
