//! What a file is that is none of ours, and what its owner can do.

/// Bytes of a file's start that tell.
pub(super) const HEAD: usize = 512;

/// What begins so, what it is, and what to do about it.
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
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
];

const PICKLE: &str = "is a Python pickle: load it in Python, and save its arrays with numpy.savez, or its tensors with \
                      safetensors.torch.save_file";

/// What a zip archive is that holds `data.pkl`.
pub(super) const PYTORCH: &str = "is a PyTorch file of torch.save: load it in Python with torch.load, and save its tensors \
                                  with safetensors.torch.save_file";

/// What a file is by its first bytes, if it is known and none of ours.
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
        ] {
            assert!(identify(head).unwrap().contains(word), "{word}");
        }
        assert_eq!(identify(b"\x93NUMPY"), None);
        assert_eq!(identify(b"\x00\x01"), None);
    }
}
