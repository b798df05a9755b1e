//! The `wgclip` command: clips tensor files on the GPU or the CPU. It is a library so that its file layer can be fuzzed; its
//! interface is the command line.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. Errors are one or two lines on stderr.

mod args;
mod batch;
#[cfg(feature = "bench")]
mod bench;
mod bound_text;
#[cfg(feature = "check")]
mod check;
mod clip_norm;
mod decimal;
mod devices;
pub mod files;
mod inspect;
mod norm;
mod operand;
mod output;
mod pipeline;
mod progress;
mod quantile;
mod quantize;
mod report;
mod resources;
mod run;
mod select;
mod session;
mod softmax;
mod source;
mod target;
mod temp_file_guard;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use args::{Cli, Command};

/// Runs the command with the arguments of this process.
pub fn main() -> ExitCode {
    quiet_mesa();
    ExitCode::from(run(std::env::args_os()))
}

/// Runs the command with these arguments, the first of which is its name. Returns the exit code. Call it from the only thread of a dedicated
/// process: it takes over signal handling and the logger.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<_> = arguments.into_iter().collect();
    temp_file_guard::survive_size_limits();
    // wgpu and the drivers log much that a user of this command cannot act on: `RUST_LOG` shows it.
    let filter = env_logger::Env::default().default_filter_or("off,wgclip=warn");
    // It fails if the process already has a logger, which is fine.
    let _ = env_logger::Builder::from_env(filter).try_init();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, arguments.get(1)),
    };
    let done = match &cli.command {
        Command::Clip(args) => run::clip(args),
        Command::Backward(args) => run::backward(args),
        Command::Activate(args) => run::activate(args),
        Command::Norm(args) => norm::norm(args),
        Command::ClipNorm(args) => clip_norm::clip_norm(args),
        Command::Quantize(args) => quantize::quantize(args),
        Command::Dequantize(args) => quantize::dequantize(args),
        #[cfg(not(feature = "plot"))]
        Command::Inspect(args) if args.plot.is_some() => return not_built("inspect --plot", "plot"),
        Command::Inspect(args) => inspect::inspect(args),
        #[cfg(feature = "check")]
        Command::Check(args) => check::check(args),
        #[cfg(not(feature = "check"))]
        Command::Check(_) => return not_built("check", "check"),
        #[cfg(feature = "bench")]
        Command::Bench(args) => bench::bench(args),
        #[cfg(not(feature = "bench"))]
        Command::Bench(_) => return not_built("bench", "bench"),
        Command::Devices { json } => devices::list(*json),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("error: {error:#}"));
            if is_usage(&error) { 2 } else { 1 }
        }
    }
}

/// Says how to build a feature that is missing in this build, and returns the exit code for wrong usage.
#[cfg(not(all(feature = "bench", feature = "check")))]
fn not_built(what: &str, feature: &str) -> u8 {
    say(&format!(
        "error: this build has no 'wgclip {what}': build it with 'cargo run --release --features {feature} -- {what} …', or install \
         all of the command with 'cargo install --path cli --features full'"
    ));
    2
}

/// Writes to stderr. Ignores write errors: it may be closed.
fn say(text: &str) {
    let lines: Vec<_> = text.split('\n').map(files::printable).collect();
    let _ = writeln!(std::io::stderr(), "{}", lines.join("\n"));
}

/// Whether printing failed for a reason other than a closed pipe.
fn ignore_broken_pipe(printed: io::Result<()>) -> anyhow::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => Ok(printed?),
    }
}

/// Whether the command line was wrong in a way that depends on the tensor's type.
fn is_usage(error: &anyhow::Error) -> bool {
    error.downcast_ref::<bound_text::BoundError>().is_some()
        || matches!(error.downcast_ref(), Some(wgclip::Error::NanBound { .. }))
}

/// Prints help, or a command line error in two lines.
fn usage(error: &clap::Error, subcommand: Option<&OsString>) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // There may be no reader; this is not a failure.
            let _ = error.print();
        }
        _ => {
            let text = error.render().to_string();
            let what = text.split("\n\n").next().unwrap_or_default();
            let what: Vec<_> = what.lines().map(str::trim).collect();
            let tip: String = text.lines().filter(|line| line.trim().starts_with("tip:")).collect();
            let tip = if tip.is_empty() { tip } else { format!("{}; ", tip.trim()) };
            let is_number = |context| match error.get(context) {
                Some(ContextValue::String(argument)) => argument.parse::<f64>().is_ok(),
                _ => false,
            };
            // numpy.clip and torch.clamp take positional bounds.
            let tip = match error.kind() == ErrorKind::UnknownArgument && is_number(ContextKind::InvalidArg) {
                true => "bounds and limits are options: --min 0 --max 1; ".to_owned(),
                false => tip,
            };
            let command = subcommand.and_then(|name| name.to_str());
            let command = command.filter(|name| Cli::command().find_subcommand(name).is_some());
            let command = command.map_or(String::new(), |name| format!("{name} "));
            say(&format!("{}\n{tip}for more information, try 'wgclip {command}--help'", what.join(" ")));
        }
    }
    u8::try_from(error.exit_code()).unwrap_or(2)
}

/// Mesa's device selection layer for Vulkan writes to stderr if no desktop session is running. It then has
/// nothing to do, unless it was asked to choose, so it is turned off.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the layer is controlled by the environment alone")]
fn quiet_mesa() {
    let wanted = ["XDG_RUNTIME_DIR", "WAYLAND_DISPLAY", "MESA_VK_DEVICE_SELECT", "NODEVICE_SELECT"];
    if wanted.iter().all(|name| std::env::var_os(name).is_none()) {
        // SAFETY: called first in main, when no other thread could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

#[cfg(not(target_os = "linux"))]
fn quiet_mesa() {}
