//! `lockstep`: the command line of Lockstep.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
