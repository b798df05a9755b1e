//! The command as its users run it: a process, files, exit codes.

mod bad_input;
mod bench;
mod devices;
mod files;
mod fixtures;
mod formats;
mod results;
mod streams;
