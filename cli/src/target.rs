//! The output for a [`Source`]: a file, or the files of a folder, written atomically.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::files::check_safetensors_output;
use crate::output::{Output, folder_of};
use crate::source::{Folder, INDEX, Source};
use crate::temp_file_guard::TempFileGuard;

/// An output being written.
pub(crate) enum Target {
    File(Output),
    Folder(FolderTarget),
}

/// What changes in the index of a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct IndexChanges {
    /// The new total of all tensors.
    pub bytes: u64,
    /// Tensors that are new, and the number of the file that holds each.
    pub added: Vec<(String, usize)>,
    /// Tensors that are gone.
    pub removed: Vec<String>,
}

/// A checkpoint in a folder. All of its files are written before the first is renamed.
pub(crate) struct FolderTarget {
    path: PathBuf,
    /// A temporary folder next to the target, if the target does not exist yet.
    new: Option<TempDir>,
    source: PathBuf,
    in_place: bool,
    shards: Vec<String>,
    others: Vec<String>,
    written: Vec<Output>,
}

impl Target {
    /// Prepares to write `path`, and fails early if it cannot be written.
    pub(crate) fn create(source: &Source, path: &Path) -> Result<Self> {
        Self::create_checked(source, path, |path| source.files[0].check_output(path))
    }

    /// The same for `.safetensors` files, whatever the source.
    pub(crate) fn create_safetensors(source: &Source, path: &Path) -> Result<Self> {
        Self::create_checked(source, path, check_safetensors_output)
    }

    fn create_checked(source: &Source, path: &Path, check: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        match &source.folder {
            Some(folder) => FolderTarget::create(folder, path).map(Self::Folder),
            None => {
                check(path)?;
                Output::create(path).map(Self::File)
            }
        }
    }

    /// Whether the content goes straight to a pipe or a device, which may well be stdout.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self, Self::File(output) if output.is_direct())
    }

    /// Writes file `index` of the source.
    pub(crate) fn write(
        &mut self,
        index: usize,
        content: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::File(output) => output.write(content),
            Self::Folder(folder) => folder.write(&folder.shards[index].clone(), content),
        }
    }

    /// Renames all files. A checkpoint's index gets the changes, if there are any.
    pub(crate) fn commit(self, changes: Option<IndexChanges>) -> Result<()> {
        match self {
            Self::File(output) => output.commit(),
            Self::Folder(folder) => folder.commit(changes),
        }
    }
}

impl FolderTarget {
    fn create(folder: &Folder, path: &Path) -> Result<Self> {
        let name = path.display();
        let source = if folder.path.as_os_str().is_empty() { Path::new(".") } else { &folder.path };
        let is_file =
            ["npy", "npz", "safetensors", "json"].iter().any(|e| path.extension() == Some(e.as_ref()));
        let there = fs::metadata(path).ok();
        if path == Path::new("-") || is_file || there.as_ref().is_some_and(|there| !there.is_dir()) {
            bail!("cannot write {name}: a checkpoint of a folder goes to a folder, name one");
        }
        let in_place = there.is_some() && fs::canonicalize(path)? == fs::canonicalize(source)?;
        if there.is_some() && !in_place && fs::read_dir(path)?.next().is_some() {
            bail!(
                "cannot write {name}: the folder is not empty; name a new one, or that of the checkpoint itself"
            );
        }
        let new = match there {
            Some(_) => None,
            None => Some(folder_beside(path).with_context(|| format!("cannot write {name}"))?),
        };
        Ok(Self {
            path: path.to_owned(),
            new,
            source: source.to_owned(),
            in_place,
            shards: folder.shards.clone(),
            others: folder.others.clone(),
            written: Vec::new(),
        })
    }

    fn write(&mut self, name: &str, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let folder = self.new.as_ref().map_or(&*self.path, TempDir::path);
        // A link, as in download caches, is replaced, not its target.
        let mut output = Output::replace(&folder.join(name))?;
        output.write(content)?;
        self.written.push(output);
        Ok(())
    }

    fn commit(mut self, changes: Option<IndexChanges>) -> Result<()> {
        for other in self.others.clone() {
            let from = self.source.join(&other);
            match changes.as_ref().filter(|_| other.ends_with(INDEX)) {
                Some(changes) => {
                    let text = index_of(&from, changes, &self.shards)?;
                    self.write(&other, |out| Ok(out.write_all(&text)?))?;
                }
                None if self.in_place => {}
                None => {
                    let file = File::open(&from).with_context(|| format!("cannot open {}", from.display()));
                    let mut file = file?;
                    self.write(&other, |out| Ok(io::copy(&mut file, out).map(drop)?))?;
                }
            }
        }
        self.written.into_iter().try_for_each(Output::commit)?;
        let Some(folder) = self.new else { return Ok(()) };
        let unfinished = TempFileGuard::end(folder.path());
        let put = fs::rename(folder.path(), &self.path);
        if put.is_ok() {
            let _ = folder.keep();
        }
        drop(unfinished);
        put.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// A temporary folder next to a target.
fn folder_beside(path: &Path) -> Result<TempDir> {
    let parent = folder_of(path);
    if !parent.is_dir() {
        bail!("there is no folder {}: create it first", parent.display());
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wgclip-").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let mut unfinished = TempFileGuard::begin();
    let folder = builder.tempdir_in(parent);
    // Without the name of the temporary folder.
    let folder = folder.map_err(|error| {
        anyhow::anyhow!("the folder {} refuses folders: {}", parent.display(), error.kind())
    })?;
    unfinished.track(folder.path());
    Ok(folder)
}

/// The text of an index with its changes.
fn index_of(path: &Path, changes: &IndexChanges, shards: &[String]) -> Result<Vec<u8>> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut index: serde_json::Value = serde_json::from_slice(&text)?;
    let IndexChanges { bytes, added, removed } = changes;
    let mut is_changed = !added.is_empty() || !removed.is_empty();
    if let Some(size) = index.pointer_mut("/metadata/total_size") {
        *size = (*bytes).into();
        is_changed = true;
    }
    if let Some(map) = index.pointer_mut("/weight_map").and_then(serde_json::Value::as_object_mut) {
        removed.iter().for_each(|name| drop(map.remove(name)));
        map.extend(added.iter().map(|(name, file)| (name.clone(), shards[*file].clone().into())));
    }
    if is_changed { Ok(serde_json::to_vec_pretty(&index)?) } else { Ok(text) }
}
