//! The command as its users run it: a process, files, exit codes.

mod activate;
mod bad_input;
mod bench;
mod checkpoints;
mod conversions;
mod devices;
mod files;
mod fixtures;
mod formats;
mod inspect;
mod norms;
mod percentiles;
mod quantize;
mod results;
mod streams;
