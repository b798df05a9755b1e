//! What is written in the place of a [`Source`]: a file, or the files of a folder, whole or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::output::Output;
use crate::source::{Folder, INDEX, Source};
use crate::temp_file_guard::TempFileGuard;

/// What is being written.
pub(crate) enum Target {
    File(Option<Output>),
    /// The folder itself, file by file: others in it stay.
    InPlace {
        path: PathBuf,
        shards: Vec<String>,
        index: Option<String>,
        written: Vec<Output>,
    },
    /// A folder next to its place.
    New {
        path: PathBuf,
        folder: TempDir,
        source: PathBuf,
        shards: Vec<String>,
        others: Vec<String>,
    },
}

impl Target {
    /// Prepares to write `path`, and fails early where that cannot work.
    pub(crate) fn create(source: &Source, path: &Path) -> Result<Self> {
        let Some(Folder { path: from, shards, others }) = &source.folder else {
            source.files[0].check_output(path)?;
            return Ok(Self::File(Some(Output::create(path)?)));
        };
        let name = path.display();
        let (from, shards) =
            (if from.as_os_str().is_empty() { Path::new(".") } else { from }, shards.clone());
        match fs::metadata(path) {
            Ok(there) if !there.is_dir() => {
                bail!(
                    "cannot write {name}: it is a file, and a checkpoint of several goes to a folder: name one"
                )
            }
            Ok(_) if fs::canonicalize(path)? == fs::canonicalize(from)? => {
                let index = others.iter().find(|other| other.ends_with(INDEX)).cloned();
                return Ok(Self::InPlace { path: path.to_owned(), shards, index, written: Vec::new() });
            }
            Ok(_) if fs::read_dir(path)?.next().is_some() => {
                bail!(
                    "cannot write {name}: the folder is not empty; name a new one, or that of the checkpoint itself"
                )
            }
            _ => {}
        }
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".wgclip-").suffix(".part");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let mut unfinished = TempFileGuard::begin();
        let folder = builder.tempdir_in(parent).with_context(|| format!("cannot write {name}"))?;
        unfinished.track(folder.path());
        let (source, others) = (from.to_owned(), others.clone());
        Ok(Self::New { path: path.to_owned(), folder, source, shards, others })
    }

    /// Whether the content goes straight to a pipe or a device, which may well be stdout.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self, Self::File(Some(output)) if output.is_direct())
    }

    /// Writes file `index` of the source.
    pub(crate) fn write(
        &mut self,
        index: usize,
        content: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::File(output) => output.as_mut().map_or(Ok(()), |output| output.write(content)),
            Self::InPlace { path, shards, written, .. } => {
                let mut output = Output::create(&path.join(&shards[index]))?;
                output.write(content)?;
                written.push(output);
                Ok(())
            }
            Self::New { folder, shards, .. } => {
                Output::create(&folder.path().join(&shards[index]))?.finish(content)
            }
        }
    }

    /// Puts all in place. `bytes` are those of all tensors, where they changed: the index of a checkpoint has them.
    pub(crate) fn commit(self, bytes: Option<u64>) -> Result<()> {
        match self {
            Self::File(output) => output.map_or(Ok(()), Output::commit),
            Self::InPlace { path, index, mut written, .. } => {
                if let Some((index, bytes)) = index.zip(bytes) {
                    let text = index_of(&path.join(&index), bytes)?;
                    let mut output = Output::create(&path.join(index))?;
                    output.write(|out| Ok(out.write_all(&text)?))?;
                    written.push(output);
                }
                written.into_iter().try_for_each(Output::commit)
            }
            Self::New { path, folder, source, others, .. } => {
                for other in &others {
                    let (from, to) = (source.join(other), folder.path().join(other));
                    let copied = match bytes.filter(|_| other.ends_with(INDEX)) {
                        Some(bytes) => fs::write(to, index_of(&from, bytes)?),
                        None => fs::copy(&from, to).map(drop),
                    };
                    copied.with_context(|| format!("cannot copy {}", from.display()))?;
                }
                let unfinished = TempFileGuard::end(folder.path());
                // An empty folder that is there makes room.
                let put = fs::rename(folder.path(), &path);
                if put.is_ok() {
                    let _ = folder.keep();
                }
                drop(unfinished);
                put.with_context(|| format!("cannot write {}", path.display()))
            }
        }
    }
}

/// The text of an index with the bytes of all tensors.
fn index_of(path: &Path, bytes: u64) -> Result<Vec<u8>> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut index: serde_json::Value = serde_json::from_slice(&text)?;
    match index.pointer_mut("/metadata/total_size") {
        Some(size) => *size = bytes.into(),
        None => return Ok(text),
    }
    Ok(serde_json::to_vec_pretty(&index)?)
}
