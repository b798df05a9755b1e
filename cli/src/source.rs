//! Sources of tensors: a file, or a folder of files that make up one checkpoint.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use wgclip::{Element, ElementType};

use crate::files::{Entry, TensorFile, identify_folder, unreadable};
use crate::say;

/// The suffix of the name of a file that lists the shards of a checkpoint.
pub(crate) const INDEX: &str = ".index.json";

/// Elements read at once for the CPU.
pub(crate) const CHUNK: usize = 1 << 18;

/// A set of files whose tensors belong together.
pub(crate) struct Source {
    path: PathBuf,
    pub files: Vec<TensorFile>,
    /// Where each tensor is.
    places: HashMap<String, Place>,
    pub folder: Option<Folder>,
}

/// A tensor, by its file and its index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub file: usize,
    pub index: usize,
}

/// A checkpoint in a folder.
pub(crate) struct Folder {
    pub path: PathBuf,
    /// The names of the files of tensors.
    pub shards: Vec<String>,
    /// The names of other files that belong to it.
    pub others: Vec<String>,
    /// Whether it contains folders.
    pub folders: bool,
    /// The tensors that an index lists, and their files.
    listed: HashMap<String, String>,
}

impl Source {
    /// Opens a file, a folder of shards, or an index of shards. `assumed` is the type of bytes without one.
    ///
    /// # Errors
    /// If there are no tensors, or a file cannot be read.
    pub(crate) fn open(path: &Path, assumed: Option<ElementType>) -> Result<Self> {
        Self::open_with(path, assumed, TensorFile::open)
    }

    /// The same, for reading more than once, even from a pipe.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_again(path: &Path, assumed: Option<ElementType>) -> Result<Self> {
        Self::open_with(path, assumed, TensorFile::open_again)
    }

    fn open_with(
        path: &Path,
        assumed: Option<ElementType>,
        open: fn(&Path) -> Result<TensorFile>,
    ) -> Result<Self> {
        let folder = match () {
            () if path.is_dir() => Some(Folder::whole(path)?),
            () if path.to_string_lossy().ends_with(INDEX) => Some(Folder::of_index(path)?),
            () => None,
        };
        let paths = match &folder {
            Some(folder) => folder.shards.iter().map(|shard| folder.path.join(shard)).collect(),
            None => vec![path.to_owned()],
        };
        let mut files = paths.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
        let mut places = HashMap::new();
        for (file, opened) in files.iter_mut().enumerate() {
            assumed.into_iter().for_each(|element| opened.assume(element));
            for (index, entry) in opened.entries().iter().enumerate() {
                if places.insert(entry.name.clone(), Place { file, index }).is_some() {
                    bail!("{} holds two tensors of the name '{}'", path.display(), entry.name);
                }
            }
        }
        if places.is_empty() {
            bail!("{} holds no tensors", path.display());
        }
        if let Some(folder) = &folder {
            for (name, shard) in &folder.listed {
                let holds = places.get(name).is_some_and(|place| folder.shards[place.file] == *shard);
                if !holds {
                    bail!(
                        "the index of {} lists tensor '{name}' in {shard}, which does not hold it: download both again",
                        path.display()
                    );
                }
            }
        }
        Ok(Self { path: path.to_owned(), files, places, folder })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The files that are read, and those that belong to them.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        match &self.folder {
            Some(folder) => {
                let all = folder.shards.iter().chain(&folder.others);
                all.map(|file| folder.path.join(file)).chain([self.path.clone()]).collect()
            }
            None => vec![self.path.clone()],
        }
    }

    /// Every tensor, file by file.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.files
            .iter()
            .enumerate()
            .flat_map(|(file, opened)| (0..opened.entries().len()).map(move |index| Place { file, index }))
    }

    /// The tensor with this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Place> {
        self.places.get(name).copied()
    }

    /// The tensor, if there is only one.
    pub(crate) fn only(&self) -> Option<Place> {
        self.places().next().filter(|_| self.places.len() == 1)
    }

    pub(crate) fn entry(&self, place: Place) -> &Entry {
        &self.files[place.file].entries()[place.index]
    }

    /// The type of a tensor, which must be one that can be clipped.
    ///
    /// # Errors
    /// If it is not; the error says what it holds, and what to do.
    pub(crate) fn element(&self, place: Place) -> Result<ElementType> {
        self.files[place.file].element(place.index)
    }

    /// Reads the elements of a tensor, `len` at once, in native byte order; passes on where each chunk begins, and its elements.
    pub(crate) fn chunks<T: Element>(
        &mut self,
        place: Place,
        len: usize,
        take: &mut dyn FnMut(usize, &mut Vec<T>) -> Result<()>,
    ) -> Result<()> {
        let (entry, what) = (self.entry(place).clone(), self.describe(place));
        let mut x = Vec::<T>::new();
        self.files[place.file].elements(place.index, &mut |reader| {
            for start in (0..entry.shape.len()).step_by(len) {
                x.resize(len.min(entry.shape.len() - start), T::ZERO);
                let read = reader.read_exact(bytemuck::cast_slice_mut(&mut x));
                read.map_err(|error| unreadable(&what, error))?;
                entry.layout.swap(&mut x);
                take(start, &mut x)?;
            }
            Ok(())
        })
    }

    pub(crate) fn describe(&self, place: Place) -> String {
        self.files[place.file].describe(place.index)
    }

    /// Whether its only tensor has no name.
    pub(crate) fn is_npy(&self) -> bool {
        self.files.iter().all(TensorFile::is_npy)
    }

    /// Reports that there is no tensor with this name, and lists those that exist.
    pub(crate) fn no_such(&self, name: &str) -> anyhow::Error {
        let mut names: Vec<_> = self.places().map(|place| &self.entry(place).name[..]).take(9).collect();
        let path = self.path.display();
        if self.is_npy() {
            return anyhow!("{path} holds no tensor '{name}': it holds one, without a name");
        }
        if names.len() > 8 {
            names.truncate(8);
            names.push("…");
        }
        let names = names.join(", ");
        match name {
            "" => anyhow!("{path} holds tensors with names, the other file one without: there are {names}"),
            name => anyhow!("{path} holds no tensor '{name}': there are {names}"),
        }
    }
}

/// The folders within one that hold `.safetensors` files.
fn folders_of_tensors(path: &Path) -> Result<Vec<String>> {
    let read = || format!("cannot read {}", path.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(read)? {
        let folder = entry.with_context(read)?;
        // A folder that cannot be read has none to list.
        let Ok(files) = fs::read_dir(folder.path()) else { continue };
        let is_tensors = |file: fs::DirEntry| file.path().extension().is_some_and(|of| of == "safetensors");
        if files.flatten().any(is_tensors) {
            found.push(folder.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

impl Folder {
    /// All of a folder: the shards that its index lists, or without an index its tensor files.
    fn whole(path: &Path) -> Result<Self> {
        let name = path.display();
        let read = || format!("cannot read {name}");
        let (mut files, mut folders) = (Vec::new(), false);
        for entry in fs::read_dir(path).with_context(read)? {
            let entry = entry.with_context(read)?;
            // Also behind a link, as in download caches.
            let file = entry.path();
            let metadata = fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?;
            folders |= metadata.is_dir();
            if metadata.is_file() {
                let file = entry.file_name().into_string();
                files.push(file.map_err(|file| anyhow!("{name} holds {file:?}, a name that is not UTF-8"))?);
            }
        }
        files.sort();
        let indices: Vec<_> =
            files.iter().filter(|file| file.ends_with(&format!(".safetensors{INDEX}"))).collect();
        let (shards, listed) = match indices[..] {
            [] => (
                files.iter().filter(|file| file.ends_with(".safetensors")).cloned().collect(),
                HashMap::new(),
            ),
            [index] => shards_of(&path.join(index))?,
            _ => {
                let indices: Vec<_> = indices.into_iter().cloned().collect();
                bail!("{name} holds several indices of shards: name one of {}", indices.join(", "))
            }
        };
        let shards: Vec<String> = shards;
        if shards.is_empty() {
            let of_tensors = folders_of_tensors(path)?;
            bail!("{name} {}", identify_folder(&files, &of_tensors));
        }
        let others: Vec<_> = files.into_iter().filter(|file| !shards.contains(file)).collect();
        let unlisted: Vec<_> = others.iter().filter(|file| file.ends_with(".safetensors")).cloned().collect();
        if !unlisted.is_empty() {
            say(&format!(
                "warning: files that the index of {name} does not list are left as they are: {}",
                unlisted.join(", ")
            ));
        }
        Ok(Self { path: path.to_owned(), shards, others, folders, listed })
    }

    /// An index and its shards.
    fn of_index(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let index = path.file_name().and_then(|name| name.to_str()).context("the index has no name")?;
        let (shards, listed) = shards_of(path)?;
        Ok(Self { path: folder, shards, others: vec![index.to_owned()], folders: false, listed })
    }
}

/// The names of the files that an index lists, and the file of each tensor.
fn shards_of(path: &Path) -> Result<(Vec<String>, HashMap<String, String>)> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let name = path.display();
    let text = fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let index: Index = serde_json::from_slice(&text).with_context(|| {
        format!("{name} is not an index of shards: it has no weight_map of names and files")
    })?;
    if index.weight_map.is_empty() {
        bail!("{name} lists no tensors");
    }
    let mut shards: Vec<_> = index.weight_map.values().cloned().collect();
    shards.sort();
    shards.dedup();
    if let Some(shard) =
        shards.iter().find(|shard| Path::new(shard).components().count() != 1 || shard.contains(".."))
    {
        bail!("{name} lists '{shard}', which is not the name of a file beside it");
    }
    Ok((shards, index.weight_map))
}
