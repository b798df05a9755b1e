//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

/// A file being written. Until [`finish`](Self::finish) its target is untouched.
pub struct Output {
    target: PathBuf,
    sink: Sink,
}

enum Sink {
    /// Written beside the target, then renamed onto it.
    Beside(NamedTempFile),
    /// A pipe or a device cannot be replaced, only written to.
    Direct(File),
}

/// The unfinished file, to be removed if the process is told to end.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

fn unfinished() -> MutexGuard<'static, Option<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a shell makes of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Has Ctrl-C and a request to terminate remove the unfinished file.
fn clean_up_when_interrupted() {
    let handler = || {
        // Held to the end, so that nothing more is begun or finished.
        let mut unfinished = unfinished();
        if let Some(file) = unfinished.take() {
            let _ = fs::remove_file(file);
        }
        std::process::exit(INTERRUPTED);
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        log::debug!("an interrupted run may leave a file: {error}");
    }
}

impl Output {
    /// Prepares to write `path`, and fails early where that cannot work.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.display();
        let there = match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot write {name}")),
        };
        let target = match &there {
            None => path.to_owned(),
            Some(there) if there.is_dir() => bail!("cannot write {name}: it is a folder, name a file"),
            Some(there) if there.permissions().readonly() => bail!("cannot write {name}: it is read-only"),
            Some(there) if !there.is_file() => {
                let file = File::options().write(true).open(path);
                let file = file.with_context(|| format!("cannot write {name}"))?;
                return Ok(Self { target: path.to_owned(), sink: Sink::Direct(file) });
            }
            // Through a link, to the file that it names.
            Some(_) => fs::canonicalize(path).with_context(|| format!("cannot write {name}"))?,
        };
        if target.file_name().is_none() {
            bail!("cannot write '{name}': it names no file");
        }

        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".wgclip-").suffix(".part");
        // As any new file, not readable by its owner alone as temporary files are.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        clean_up_when_interrupted();
        let mut unfinished = unfinished();
        let file = builder.tempfile_in(folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                anyhow::anyhow!("there is no folder {}: create it first", folder.display())
            }
            // Without the name of the temporary file.
            kind => anyhow::anyhow!("the folder {} refuses files: {kind}", folder.display()),
        });
        let file = file.with_context(|| format!("cannot write {name}"))?;
        if let Some(there) = there {
            file.as_file()
                .set_permissions(there.permissions())
                .with_context(|| format!("cannot write {name}"))?;
        }
        *unfinished = Some(file.path().to_owned());
        Ok(Self { target, sink: Sink::Beside(file) })
    }

    /// Writes the whole content and puts it in place.
    pub fn finish(self, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let name = self.target.display();
        match self.sink {
            Sink::Beside(mut file) => content(file.as_file_mut()).and_then(|()| {
                let mut unfinished = unfinished();
                file.persist(&self.target).map_err(|error| error.error)?;
                *unfinished = None;
                Ok(())
            }),
            Sink::Direct(mut file) => content(&mut file),
        }
        .with_context(|| format!("cannot write {name}"))
    }
}
