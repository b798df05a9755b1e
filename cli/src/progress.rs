//! Progress bars: on a terminal, nothing elsewhere.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// Of a check of a device.
pub(crate) fn steps(device: &str) -> ProgressBar {
    bar("{prefix} [{bar:30}] {percent}% {msg}, {eta} left").with_prefix(device.to_owned())
}

/// Of so many bytes.
pub(crate) fn bytes(total: u64) -> ProgressBar {
    let bar = bar("[{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    bar.set_length(total);
    bar
}

fn bar(template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(1).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
