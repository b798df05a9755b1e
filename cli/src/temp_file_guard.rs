//! Removes the unfinished files of a run that is ended by a signal.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// The files that were not yet renamed.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Delays the end of the process while an unfinished file is created or renamed, so that a signal
/// finds it either registered or done.
pub(crate) struct TempFileGuard {
    files: MutexGuard<'static, Vec<PathBuf>>,
}

impl TempFileGuard {
    /// Held while a file is created, until [`track`](Self::track).
    pub(crate) fn begin() -> Self {
        static WATCH: Once = Once::new();
        // Before the signals are caught: a signal that found no file yet would be lost.
        let files = lock();
        WATCH.call_once(watch);
        Self { files }
    }

    /// Registers the created file.
    pub(crate) fn track(&mut self, file: &Path) {
        self.files.push(file.to_owned());
    }

    /// Held while a file is renamed.
    pub(crate) fn end(file: &Path) -> Self {
        let mut files = lock();
        files.retain(|unfinished| unfinished != file);
        Self { files }
    }
}

fn lock() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes exceeding the file size limit an error instead of ending the process.
#[cfg(unix)]
pub(crate) fn survive_size_limits() {
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default());
}

#[cfg(not(unix))]
pub(crate) fn survive_size_limits() {}

/// Makes the signals that end a process remove the unfinished files first. Signals that the parent had ignored, as
/// with `nohup`, stay ignored.
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
            // Held to the end, so that no more files are renamed.
            let mut files = lock();
            // If all files are in place, let the run report them: it is about to end.
            if !files.is_empty() {
                files.drain(..).for_each(|file| {
                    // The second call is for a folder.
                    let _ = std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir_all(&file));
                });
                let _ = emulate_default_handler(signal);
            }
        }
    });
}

#[cfg(not(unix))]
fn watch() {}

/// The signals that this process was started to ignore, one bit each, if the system reports them.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
