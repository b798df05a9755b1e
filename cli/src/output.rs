//! Atomic file output: a file appears complete or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use crate::temp_file_guard::TempFileGuard;

/// A file being written. Its target is untouched until [`commit`](Self::commit).
pub(crate) struct Output {
    target: PathBuf,
    sink: Sink,
}

enum Sink {
    /// Written next to the target, then renamed onto it.
    Replace(NamedTempFile),
    /// A pipe or a device cannot be replaced, only written to.
    Direct(File),
}

impl Output {
    /// Prepares to write `path`, and fails early if it cannot be written. `-` is stdout.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        Self::to(path, behind_links)
    }

    /// The same, but a link at `path` is replaced, and its target stays.
    pub(crate) fn replace(path: &Path) -> Result<Self> {
        Self::to(path, Path::to_owned)
    }

    fn to(path: &Path, target: fn(&Path) -> PathBuf) -> Result<Self> {
        if is_stdout(path) {
            let file = stdout().context("cannot write to stdout")?;
            return Ok(Self { target: "stdout".into(), sink: Sink::Direct(file) });
        }
        let name = path.display();
        let there = match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot write {name}")),
        };
        match &there {
            Some(there) if there.is_dir() => bail!("cannot write {name}: it is a folder, name a file"),
            Some(there) if !there.is_file() || is_descriptor(path) => {
                // A regular file behind a descriptor may have been opened to be appended to.
                let file = File::options().append(true).open(path);
                let file = file.with_context(|| format!("cannot write {name}"))?;
                return Ok(Self { target: path.to_owned(), sink: Sink::Direct(file) });
            }
            Some(there) if there.permissions().readonly() => bail!("cannot write {name}: it is read-only"),
            _ => {}
        }
        let target = target(path);
        if target.file_name().is_none() || name.to_string().ends_with(std::path::MAIN_SEPARATOR) {
            bail!("cannot write '{name}': it names no file");
        }

        let folder = folder_of(&target);
        let mut builder = tempfile::Builder::new();
        builder.prefix(".wgclip-").suffix(".part");
        // Permissions of an ordinary new file: temporary files are readable only by their owner.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut unfinished = TempFileGuard::begin();
        let file = builder.tempfile_in(folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                anyhow::anyhow!("there is no folder {}: create it first", folder.display())
            }
            // Without the name of the temporary file.
            kind => anyhow::anyhow!("the folder {} refuses files: {kind}", folder.display()),
        });
        let file = file.with_context(|| format!("cannot write {name}"))?;
        if let Some(there) = there {
            keep_mode(file.as_file(), &there).with_context(|| format!("cannot write {name}"))?;
        }
        unfinished.track(file.path());
        Ok(Self { target, sink: Sink::Replace(file) })
    }

    /// Whether the content goes straight to a pipe or a device, which may well be stdout.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.sink, Sink::Direct(_))
    }

    /// Writes the whole content.
    pub(crate) fn write(&mut self, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let file = match &mut self.sink {
            Sink::Replace(file) => file.as_file_mut(),
            Sink::Direct(file) => file,
        };
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let written = content(&mut out).and_then(|()| Ok(out.flush()?));
        // Discards the buffer: `drop` would write it.
        let _ = out.into_parts();
        // Errors of reading and clipping already say what failed.
        written.map_err(|error| match error.is::<io::Error>() && error.chain().len() == 1 {
            true => error.context(format!("cannot write {}", self.target.display())),
            false => error,
        })
    }

    /// Renames the written file to its target.
    pub(crate) fn commit(self) -> Result<()> {
        let Sink::Replace(file) = self.sink else { return Ok(()) };
        let unfinished = TempFileGuard::end(file.path());
        let put = file.persist(&self.target);
        drop(unfinished);
        put.map_err(|error| error.error)
            .with_context(|| format!("cannot write {}", self.target.display()))?;
        Ok(())
    }

    /// Both.
    #[cfg(feature = "plot")]
    pub(crate) fn finish(mut self, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        self.write(content)?;
        self.commit()
    }
}

/// The folder that contains a file.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether both paths name the same file, which need not exist yet.
pub(crate) fn is_same_file(path: &Path, other: &Path) -> bool {
    let place = |path: &Path| {
        let path = behind_links(if is_stdout(path) { Path::new("/dev/stdout") } else { path });
        let folder = fs::canonicalize(folder_of(&path)).ok()?;
        Some(fs::canonicalize(&path).unwrap_or_else(|_| folder.join(path.file_name().unwrap_or_default())))
    };
    place(path).is_some() && place(path) == place(other)
}

/// Whether a path stands for stdout.
fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|there| path == Path::new(there))
}

/// Stdout itself, whose file position advances with each write.
#[cfg(unix)]
fn stdout() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

#[cfg(windows)]
fn stdout() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(io::stdout().as_handle().try_clone_to_owned()?.into())
}

/// Whether a path stands for an open file of this process instead of a named file.
fn is_descriptor(path: &Path) -> bool {
    ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"].iter().any(|there| path.starts_with(there))
}

/// The target of a link, which need not exist yet. Loops of links have been refused before.
fn behind_links(path: &Path) -> PathBuf {
    let mut target = path.to_owned();
    while let Ok(link) = fs::read_link(&target) {
        target = target.parent().unwrap_or(Path::new("")).join(link);
    }
    target
}

/// Gives a new file the permissions of the one that it replaces and, if permitted, its owner.
fn keep_mode(file: &File, there: &fs::Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
        let _ = fchown(file, Some(there.uid()), Some(there.gid()));
        // Without the setuid and setgid bits, which would give the new content the old owner's rights.
        file.set_permissions(fs::Permissions::from_mode(there.mode() & 0o777))
    }
    #[cfg(not(unix))]
    file.set_permissions(there.permissions())
}
