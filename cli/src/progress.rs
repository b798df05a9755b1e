//! Progress bars, shown only on a terminal.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// For a check or a benchmark of a device.
#[cfg(any(feature = "bench", feature = "check"))]
pub(crate) fn steps(device: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = style("{prefix} [{bar:30}] {percent}% {msg}, {eta} left");
    ProgressBar::new(1).with_style(style).with_prefix(device.to_owned())
}

/// How long a run takes before it shows its progress.
const PATIENCE: Duration = Duration::from_secs(2);

/// The progress of a run, in bytes, shown only if it takes long.
pub(crate) struct Bytes {
    bar: ProgressBar,
    hidden: bool,
    start: Instant,
}

impl Bytes {
    pub(crate) fn new(total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        Self { bar, hidden: !io::stderr().is_terminal(), start: Instant::now() }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        if !self.hidden && self.bar.is_hidden() && self.start.elapsed() > PATIENCE {
            self.bar.set_style(style("[{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"));
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(bytes as u64);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
