//! A run that is told to end takes its unfinished files with it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// The files that are not yet in place.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Holds off the end of the process while an unfinished file is made or put in place, so that a signal
/// finds it either there and known, or done.
pub(crate) struct TempFileGuard {
    files: MutexGuard<'static, Vec<PathBuf>>,
}

impl TempFileGuard {
    /// To be held while a file is made, until [`track`](Self::track).
    pub(crate) fn begin() -> Self {
        static WATCH: Once = Once::new();
        // Before the signals are caught: one that found no file yet would be forgotten.
        let files = lock();
        WATCH.call_once(watch);
        Self { files }
    }

    /// The file that was made.
    pub(crate) fn track(&mut self, file: &Path) {
        self.files.push(file.to_owned());
    }

    /// To be held while a file is put in place.
    pub(crate) fn end(file: &Path) -> Self {
        let mut files = lock();
        files.retain(|unfinished| unfinished != file);
        Self { files }
    }
}

fn lock() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has a file that grows beyond the limit of its size be an error, and not the end of the process.
#[cfg(unix)]
pub(crate) fn survive_size_limits() {
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
}

#[cfg(not(unix))]
pub(crate) fn survive_size_limits() {}

/// Has the signals that end a process remove the unfinished files first. Those that the parent had ignored, as
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
            let mut files = lock();
            // What is in place already may as well be reported: the run is about to end.
            if !files.is_empty() {
                files.drain(..).for_each(|file| {
                    // The second for a folder.
                    let _ = std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir_all(&file));
                });
                let _ = emulate_default_handler(signal);
            }
        }
    });
}

#[cfg(not(unix))]
fn watch() {}

/// The signals that this process was started to ignore, one bit each, where the system tells.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
