//! The `wgclip` command: clips tensor files on the GPU or the CPU.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. Errors are one or two lines on stderr.

mod args;
mod bench;
mod check;
mod clip;
mod devices;
mod files;
mod interrupt;
mod output;
mod progress;
mod report;
mod stream;

use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use args::{Cli, Command};

fn main() -> ExitCode {
    quiet_mesa();
    // wgpu and the drivers say much that a user of this command cannot act on: `RUST_LOG` shows it.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("off,wgclip=warn")).init();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match &cli.command {
        Command::Value(args) => clip::value(args),
        Command::Grad(args) => clip::grad(args),
        Command::Check(args) => check::check(args),
        Command::Bench(args) => bench::bench(args),
        Command::Devices { json } => devices::list(*json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(if is_usage(&error) { 2 } else { 1 })
        }
    }
}

/// Writes to stderr. If nobody listens there, that is no failure.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether the command line was at fault, in a way that only the type of the tensor could show.
fn is_usage(error: &anyhow::Error) -> bool {
    use wgclip::Error::{FractionalBound, ImpossibleBound, InvalidBound, NanBound};
    let error = error.downcast_ref();
    matches!(
        error,
        Some(FractionalBound { .. } | ImpossibleBound { .. } | InvalidBound { .. } | NanBound { .. })
    )
}

/// Prints help, or what is wrong with the command line in two lines.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nobody may be reading; that is no failure.
            let _ = error.print();
        }
        _ => {
            let text = error.render().to_string();
            let what = text.split("\n\n").next().unwrap_or_default();
            let what: Vec<_> = what.lines().map(str::trim).collect();
            let tip: String = text.lines().filter(|line| line.trim().starts_with("tip:")).collect();
            let tip = if tip.is_empty() { tip } else { format!("{}; ", tip.trim()) };
            let command =
                std::env::args().nth(1).filter(|name| Cli::command().find_subcommand(name).is_some());
            let command = command.map_or(String::new(), |name| format!("{name} "));
            say(&format!("{}\n{tip}for more information, try 'wgclip {command}--help'", what.join(" ")));
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Mesa's device selection layer for Vulkan writes to stderr where no desktop session is running. There it has
/// no work to do either, unless it was asked to choose, so it is turned off.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the layer is controlled by the environment alone")]
fn quiet_mesa() {
    let wanted = ["XDG_RUNTIME_DIR", "WAYLAND_DISPLAY", "MESA_VK_DEVICE_SELECT", "NODEVICE_SELECT"];
    if wanted.iter().all(|name| std::env::var_os(name).is_none()) {
        // SAFETY: called first in main, when no other thread runs that could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

#[cfg(not(target_os = "linux"))]
fn quiet_mesa() {}
