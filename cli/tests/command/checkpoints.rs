//! Checkpoints of several files: in a folder, out of a folder, whole or not at all.

use std::fs;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::files::{Folder, bytes};

/// A file of tensors of f32, each of these values.
fn shard(tensors: &[(&str, &[f32])]) -> Vec<u8> {
    let data: Vec<_> = tensors.iter().map(|(name, values)| (*name, bytes(values), values.len())).collect();
    let views =
        data.iter().map(|(name, data, len)| (*name, TensorView::new(Dtype::F32, vec![*len], data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// A folder `ck` with two shards, their index, and what else belongs to a model.
fn checkpoint() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("ck")).unwrap();
    folder.write("ck/a.safetensors", &shard(&[("one", &[-9.0, 0.5]), ("two", &[9.0; 3])]));
    folder.write("ck/b.safetensors", &shard(&[("three", &[7.0, -7.0, 0.0])]));
    let map = json!({"one": "a.safetensors", "two": "a.safetensors", "three": "b.safetensors"});
    let index = json!({"metadata": {"total_size": 32}, "weight_map": map});
    folder.write("ck/model.safetensors.index.json", index.to_string().as_bytes());
    folder.write("ck/config.json", b"{}");
    folder
}

fn tensor(folder: &Folder, file: &str, name: &str) -> (Dtype, Vec<u8>) {
    let file = folder.read(file);
    let tensor = SafeTensors::deserialize(&file).unwrap().tensor(name).unwrap();
    (tensor.dtype(), tensor.data().to_vec())
}

fn names(folder: &Folder, path: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder.path(path))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_folder_of_shards_becomes_another() {
    let folder = checkpoint();
    for device in ["cpu", "gpu"] {
        let done = folder.done(&format!("clip ck out --min -1 --max 1 --except two --device {device}"));
        assert!(
            done.stdout.starts_with("5 elements: 2 below, 1 above, 0 NaN; 1 tensor left as it was; "),
            "{done:?}"
        );
        assert_eq!(names(&folder, "out"), names(&folder, "ck"));
        assert_eq!(tensor(&folder, "out/a.safetensors", "one").1, bytes(&[-1.0, 0.5]));
        assert_eq!(tensor(&folder, "out/a.safetensors", "two").1, bytes(&[9.0; 3]));
        assert_eq!(tensor(&folder, "out/b.safetensors", "three").1, bytes(&[1.0, -1.0, 0.0]));
        for same in ["config.json", "model.safetensors.index.json"] {
            assert_eq!(folder.read(&format!("out/{same}")), folder.read(&format!("ck/{same}")));
        }
        fs::remove_dir_all(folder.path("out")).unwrap();
    }
    // An empty folder may be there, and the index may be named.
    fs::create_dir(folder.path("out")).unwrap();
    folder.done("clip ck/model.safetensors.index.json out --max 1");
    assert_eq!(names(&folder, "out"), ["a.safetensors", "b.safetensors", "model.safetensors.index.json"]);
    // Upstream gradients of all, of which those of one file were clipped.
    folder.done("backward ck ck gx --min -8 --max 8 --tensor one three");
    assert_eq!(tensor(&folder, "gx/a.safetensors", "one").1, bytes(&[0.0, 0.5]));
    assert_eq!(tensor(&folder, "gx/a.safetensors", "two").1, bytes(&[9.0; 3]));
    assert_eq!(folder.names(), ["ck", "gx", "out"]);
}

#[test]
fn a_folder_is_clipped_where_it_is() {
    let folder = checkpoint();
    fs::create_dir(folder.path("ck/notes")).unwrap();
    folder.done("clip ck ck/ --min -1 --max 1 --to f8_e4m3fn --tensor t*");
    assert_eq!(tensor(&folder, "ck/a.safetensors", "one"), (Dtype::F32, bytes(&[-9.0, 0.5])));
    assert_eq!(tensor(&folder, "ck/a.safetensors", "two"), (Dtype::F8_E4M3, vec![0x38; 3]));
    assert_eq!(tensor(&folder, "ck/b.safetensors", "three"), (Dtype::F8_E4M3, vec![0x38, 0xb8, 0]));
    let index: Value = serde_json::from_slice(&folder.read("ck/model.safetensors.index.json")).unwrap();
    assert_eq!(index["metadata"]["total_size"], 2 * 4 + 3 + 3);
    assert_eq!(index["weight_map"]["three"], "b.safetensors");
    assert_eq!(names(&folder, "ck").len(), 5, "{:?}", names(&folder, "ck"));
}

#[test]
fn bounds_may_have_the_names_of_the_tensors() {
    let folder = checkpoint();
    folder.write("hi.safetensors", &shard(&[("three", &[1.0]), ("two", &[4.0, 5.0, 6.0]), ("one", &[0.25])]));
    for device in ["cpu", "gpu"] {
        folder.done(&format!("clip ck out --max hi.safetensors --device {device}"));
        assert_eq!(tensor(&folder, "out/a.safetensors", "one").1, bytes(&[-9.0, 0.25]));
        assert_eq!(tensor(&folder, "out/a.safetensors", "two").1, bytes(&[4.0, 5.0, 6.0]));
        assert_eq!(tensor(&folder, "out/b.safetensors", "three").1, bytes(&[1.0, -7.0, 0.0]));
        fs::remove_dir_all(folder.path("out")).unwrap();
    }
    folder.write("some.safetensors", &shard(&[("three", &[1.0]), ("two", &[4.0])]));
    let outcome = folder.run("clip ck out --max some.safetensors");
    assert!(outcome.code == 1 && outcome.stderr.contains("no bound for tensor 'one'"), "{outcome:?}");
    assert!(!folder.names().contains(&"out".to_owned()), "{:?}", folder.names());
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let folder = checkpoint();
    fs::create_dir(folder.path("full")).unwrap();
    folder.write("full/mine", b"precious");
    fs::create_dir(folder.path("empty")).unwrap();
    folder.write("bad.index.json", br#"{"weight_map": {"one": "../ck/a.safetensors"}}"#);
    folder.write("gone.index.json", br#"{"weight_map": {"one": "nowhere.safetensors"}}"#);
    folder.write("other.index.json", b"{}");
    folder.write("x.safetensors", &shard(&[("one", &[1.0])]));
    folder
        .write("ghost.index.json", br#"{"weight_map": {"one": "x.safetensors", "ghost": "x.safetensors"}}"#);
    let before = folder.names();
    for (args, message) in [
        ("ck full", "the folder is not empty"),
        ("ck ck/config.json", "a checkpoint of a folder goes to a folder"),
        ("empty out", "is a folder without .safetensors files"),
        ("bad.index.json out", "which is not the name of a file beside it"),
        ("gone.index.json out", "cannot open nowhere.safetensors"),
        ("other.index.json out", "it has no weight_map"),
        ("ghost.index.json out", "lists tensor 'ghost' in x.safetensors, which does not hold it"),
        ("ck out --tensor four", "holds no tensor 'four': there are one, two, three"),
        ("ck out --tensor x*", "holds no tensor 'x*'"),
        ("ck out --except *", "nothing is left to clip"),
    ] {
        let outcome = folder.run(&format!("clip {args} --max 1"));
        assert!(outcome.code == 1 && outcome.stderr.contains(message), "{args}: {outcome:?}");
        assert_eq!(folder.names(), before, "{args}");
    }
    assert_eq!(folder.read("full/mine"), b"precious");
}

/// Tensors of several types of float, between bounds of f32 that some of them cannot hold.
#[test]
fn bounds_of_another_float_are_rounded_or_refused() {
    let folder = Folder::new();
    let e4m3 = [0x38u8, 0xfe, 0x7e, 0x7f];
    let views = [
        ("a", TensorView::new(Dtype::F8_E4M3, vec![4], &e4m3).unwrap()),
        ("b", TensorView::new(Dtype::F8_E4M3, vec![1], &[0x44]).unwrap()),
    ];
    folder.write("x.safetensors", &safetensors::serialize(views, None).unwrap());
    for device in ["cpu", "gpu"] {
        for (bound, expected) in
            [(f32::INFINITY, e4m3), (500.0, e4m3), (448.0, e4m3), (2.0, [0x38, 0xfe, 0x40, 0x7f])]
        {
            folder.write("hi.safetensors", &shard(&[("hi", &[bound])]));
            let done = folder
                .done(&format!("clip x.safetensors y.safetensors --max hi.safetensors --device {device}"));
            assert_eq!(tensor(&folder, "y.safetensors", "a").1, expected, "{bound}");
            assert_eq!(done.stderr.matches("warning").count(), 1, "{done:?}");
        }
    }
    let before = folder.read("y.safetensors");
    folder.write("lo.safetensors", &shard(&[("lo", &[500.0])]));
    let outcome = folder.run("clip x.safetensors y.safetensors --min lo.safetensors");
    assert!(outcome.code == 1 && outcome.stderr.contains("no value could satisfy it"), "{outcome:?}");
    assert_eq!(folder.read("y.safetensors"), before);
}

#[test]
fn what_is_not_of_the_checkpoint_is_told() {
    let folder = checkpoint();
    fs::create_dir(folder.path("ck/1_Pooling")).unwrap();
    folder.write("ck/consolidated.safetensors", &shard(&[("one", &[-9.0])]));
    let done = folder.done("clip ck out --max 1");
    assert!(
        done.stderr.contains(
            "files that the index of ck does not list are left as they are: consolidated.safetensors"
        ),
        "{done:?}"
    );
    assert!(done.stderr.contains("folders within"), "{done:?}");
    assert_eq!(folder.read("out/consolidated.safetensors"), folder.read("ck/consolidated.safetensors"));
    for out in ["-", "y.safetensors", "no/where"] {
        let outcome = folder.run(&format!("clip ck {out} --max 1"));
        let words = ["a checkpoint of a folder goes to a folder", "there is no folder no: create it first"];
        assert!(outcome.code == 1 && words.iter().any(|word| outcome.stderr.contains(word)), "{outcome:?}");
    }
    assert_eq!(folder.names(), ["ck", "out"]);
}

#[cfg(unix)]
#[test]
fn links_lead_in_and_are_replaced_in_place() {
    use std::os::unix::fs::symlink;
    let folder = checkpoint();
    fs::create_dir(folder.path("blobs")).unwrap();
    fs::rename(folder.path("ck/b.safetensors"), folder.path("blobs/0123")).unwrap();
    symlink("../blobs/0123", folder.path("ck/b.safetensors")).unwrap();
    let blob = folder.read("blobs/0123");
    // An empty folder behind a link may be written to.
    fs::create_dir(folder.path("empty")).unwrap();
    symlink("empty", folder.path("out")).unwrap();
    folder.done("clip ck out --max 1");
    assert_eq!(tensor(&folder, "empty/b.safetensors", "three").1, bytes(&[1.0, -7.0, 0.0]));
    folder.done("clip ck ck --max 1");
    assert_eq!(tensor(&folder, "ck/b.safetensors", "three").1, bytes(&[1.0, -7.0, 0.0]));
    assert_eq!(folder.read("blobs/0123"), blob, "a cache keeps what its name is the checksum of");
}
