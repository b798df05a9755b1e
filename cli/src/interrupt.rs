//! A run that is told to end takes its unfinished file with it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The file that is not yet in place, if any.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Holds off the end of the process while the unfinished file is made or put in place, so that a signal
/// finds it either there and known, or done.
pub struct Unfinished {
    file: MutexGuard<'static, Option<PathBuf>>,
}

impl Unfinished {
    /// To be held while the file is made, until [`is`](Self::is).
    pub fn begin() -> Self {
        // Before the signals are caught: one that found no file yet would be forgotten.
        let file = lock();
        watch();
        Self { file }
    }

    /// The file that was made.
    pub fn is(&mut self, file: &Path) {
        *self.file = Some(file.to_owned());
    }

    /// To be held while the file is put in place.
    pub fn end() -> Self {
        let mut file = lock();
        *file = None;
        Self { file }
    }
}

fn lock() -> MutexGuard<'static, Option<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the signals that end a process remove the unfinished file first. Those that the parent had ignored, as
/// `nohup` does, stay ignored.
#[cfg(unix)]
fn watch() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    let ignored = ignored();
    let wanted = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let Ok(mut signals) = Signals::new(wanted) else { return };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // Held to the end, so that nothing more is put in place.
            let mut file = lock();
            // What is in place already may as well be reported: the run is about to end.
            if let Some(file) = file.take() {
                let _ = std::fs::remove_file(file);
                let _ = emulate_default_handler(signal);
            }
        }
    });
}

#[cfg(not(unix))]
fn watch() {}

/// The signals that this process was started to ignore, a bit each, where the system tells.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
