//! Identifies files of unsupported formats, and says what the user can do.

/// Bytes at the start of a file that identify it.
pub(super) const HEAD: usize = 512;

/// The first bytes, the format, and what to do about it.
const SIGNATURES: &[(&[u8], &str)] = &[
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, not the file that it stands for: fetch that with `git lfs pull`",
    ),
    (b"\x89HDF\r\n", "is an HDF5 file: read it with h5py, and save its arrays with numpy.savez"),
    (b"GGUF", "is a GGUF file: clip the checkpoint that it was made from, and convert that"),
    (b"\x1f\x8b", "is compressed by gzip: decompress it with gunzip"),
    (b"BZh", "is compressed by bzip2: decompress it with bunzip2"),
    (b"\xfd7zXZ", "is compressed by xz: decompress it with unxz"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd: decompress it with unzstd"),
    (b"MATLAB ", "is a MATLAB file: read it with scipy.io.loadmat, and save its arrays with numpy.savez"),
    (b"PAR1", "is a Parquet file: read it with pandas.read_parquet, and save its columns with numpy.savez"),
    (b"CDF\x01", NETCDF),
    (b"CDF\x02", NETCDF),
    (b"CDF\x05", NETCDF),
    (b"\x89PNG", IMAGE),
    (b"\xff\xd8\xff", IMAGE),
    (b"GIF8", IMAGE),
    (b"II*\0", IMAGE),
    (b"MM\0*", IMAGE),
    (b"RIFF", "is a RIFF file (an image or sound): read it in Python, and save its array with numpy.save"),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
];

const NETCDF: &str =
    "is a netCDF file: read it with xarray.open_dataset, and save its variables with numpy.savez";

const IMAGE: &str = "is an image: read it with imageio.imread, and save its array with numpy.save";

const ONNX: &str =
    "is an ONNX model: read its initializers with onnx.numpy_helper.to_array, and save them with numpy.savez";

const PICKLE: &str = "is a Python pickle: load it in Python, and save its arrays with numpy.savez, or its tensors with \
                      safetensors.torch.save_file";

/// The format of a zip archive that contains `data.pkl`.
pub(super) const PYTORCH: &str = "is a PyTorch file of torch.save: load it in Python with torch.load, and save its tensors \
                                  with safetensors.torch.save_file";

/// Describes a zip archive without `.npy` members by the names of its members, and says how to convert it.
pub(super) fn archive<'a>(mut members: impl Iterator<Item = &'a str>) -> &'static str {
    match members.any(|name| name.ends_with("model.weights.h5")) {
        true => {
            "is a Keras model: load it with keras.models.load_model, and save model.get_weights() with numpy.savez"
        }
        false => "is a zip archive without .npy members: save one with numpy.savez",
    }
}

/// Describes a folder without `.safetensors` files by the names of its files and folders, and says what to pass instead.
pub(crate) fn folder(files: &[String], of_tensors: &[String]) -> String {
    let has = |name: &str| files.iter().any(|file| file == name);
    if !of_tensors.is_empty() {
        return format!("has its tensors in folders: name one of {}", of_tensors.join(", "));
    }
    let what = match () {
        () if has(".zarray") || has(".zgroup") || has("zarr.json") => {
            "is a zarr store: clip it in Python with wgclip.dask, or save its arrays with numpy.savez"
        }
        () if has("saved_model.pb") => {
            "is a TensorFlow SavedModel: load it with tf.saved_model.load, and save its variables with numpy.savez"
        }
        () if files.iter().any(|file| file.ends_with(".npy")) => {
            "is a folder of .npy files: name each, or save them in one file with numpy.savez"
        }
        () => "is a folder without .safetensors files: name a file, or the folder of a checkpoint",
    };
    what.into()
}

/// The format of a file by its first bytes, if it is known and unsupported.
pub(super) fn identify(head: &[u8]) -> Option<&'static str> {
    if head.is_empty() {
        return Some("is empty: its download or its writer failed");
    }
    let text =
        String::from_utf8_lossy(head).trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).to_lowercase();
    if ["<!doctype html", "<html", "<head", "<?xml"].iter().any(|start| text.starts_with(start)) {
        return Some("is an HTML page, as servers send in a file's place: download the file itself");
    }
    if text.starts_with('{') || text.starts_with('[') {
        return Some("is JSON: name the file of tensors");
    }
    if head.get(4..8) == Some(b"TFL3") {
        return Some("is a TensorFlow Lite model: clip the model that it was made from, and convert that");
    }
    // A protobuf whose first fields are a small version and a text.
    if matches!(head, [0x08, 1..=0x20, 0x12, ..]) {
        return Some(ONNX);
    }
    SIGNATURES.iter().find(|(start, _)| head.starts_with(start)).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_known() {
        for (head, word) in [
            (&b""[..], "empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "git lfs pull"),
            (b"\n<!DOCTYPE html><html>", "HTML"),
            (b"\x80\x02}q\x00", "pickle"),
            (b"{\"weight_map\": {}}", "JSON"),
            (b"\x08\x08\x12\x07pytorch\x1a\x05", "ONNX"),
            (b"\x1c\0\0\0TFL3\x14\0", "TensorFlow Lite"),
            (b"PAR1\x15\x04", "Parquet"),
            (b"CDF\x02\0\0\0\0", "netCDF"),
            (b"\x89PNG\r\n\x1a\n", "image"),
            (b"\xff\xd8\xff\xe0", "image"),
        ] {
            assert!(identify(head).unwrap().contains(word), "{word}");
        }
        assert!(archive(["config.json", "model.weights.h5"].into_iter()).contains("Keras"));
        assert!(archive(["a.txt"].into_iter()).contains("numpy.savez"));
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        for (files, folders, word) in [
            (&[".zgroup"][..], &[][..], "zarr"),
            (&["saved_model.pb"], &[], "SavedModel"),
            (&["a.npy"], &[], ".npy files"),
            (&["model_index.json"], &["unet", "vae"], "one of unet, vae"),
            (&["a.txt"], &[], "without .safetensors"),
        ] {
            assert!(folder(&names(files), &names(folders)).contains(word), "{word}");
        }
        assert_eq!(identify(b"\x93NUMPY"), None);
        assert_eq!(identify(b"\x00\x01"), None);
    }
}
