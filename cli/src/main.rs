//! The `wgclip` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    wgclip_cli::main()
}
