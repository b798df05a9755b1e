//! `wgclip inspect`: what it tells of values, against counts made here.

use std::process::Stdio;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::files::{Folder, bytes, npy, npy_f32, wait};

#[test]
fn values_are_told_as_they_are() {
    let folder = Folder::new();
    let x = [f32::NAN, -2.0, -0.0, 0.0, 0.5, 1.5, f32::INFINITY, 1e-3];
    folder.write("x.npy", &npy_f32(&x));
    let report: Value =
        serde_json::from_str(&folder.done("inspect x.npy --json --min -1 --max 1").stdout).unwrap();
    let tensor = &report["tensors"][0];
    for (key, value) in [("nan", 1), ("inf", 1), ("zeros", 2), ("below", 1), ("above", 2), ("elements", 8)] {
        assert_eq!(tensor[key], value, "{key}: {report}");
    }
    assert_eq!((&tensor["min"], &tensor["max"]), (&(-2.0).into(), &1.5.into()));
    assert_eq!((&tensor["type"], &tensor["shape"]), (&"f32".into(), &serde_json::json!([8])));
    let counts = report["histogram"]["counts"].as_array().unwrap();
    assert_eq!(counts.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 6);
    assert_eq!((&counts[0], counts.last().unwrap()), (&1.into(), &1.into()));

    let text = folder.done("inspect x.npy --max 1").stdout;
    assert!(text.contains("25.000 %") && text.contains('#'), "{text}");
    let text = folder.done("inspect x.npy --plot h.svg").stdout;
    assert!(!text.contains('%'), "{text}");
    assert!(folder.read("h.svg").starts_with(b"<svg"));
}

#[test]
fn bounds_that_are_files_and_pipes_are_read() {
    let folder = Folder::new();
    let x = npy("<f4", true, "(2, 3)", &bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
    folder.write("x.npy", &x);
    // In Fortran order the columns are [0, 1], [2, 3], [4, 5].
    folder.write("hi.npy", &npy("<f4", false, "(3,)", &bytes(&[0.5, 9.0, 4.5])));
    let mut run = folder.command("inspect - --max hi.npy --json");
    let mut run = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut run.stdin.take().unwrap(), &x).unwrap();
    assert!(wait(&mut run).success());
    let output = run.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["tensors"][0]["above"], &report["file"]), (&2.into(), &"-".into()));
}

#[test]
fn types_that_cannot_be_clipped_have_their_names_and_shapes() {
    let folder = Folder::new();
    folder.write("words.npy", &npy("<U3", false, "(1, 2)", &[0; 24]));
    let text = folder.done("inspect words.npy").stdout;
    assert!(text.contains("<U3") && text.contains("[1, 2]"), "{text}");
    folder.write("ints.npy", &npy("<i8", false, "(2,)", &[0xff; 16]));
    let report: Value = serde_json::from_str(&folder.done("inspect ints.npy --json").stdout).unwrap();
    assert_eq!(report["tensors"][0]["min"], -1);
    assert!(report["histogram"].is_null(), "one value has no spread");
    let outcome = folder.run("inspect ints.npy --tensor x");
    assert!(outcome.code == 1 && outcome.stderr.contains("holds no tensor 'x'"), "{outcome:?}");
    assert_eq!(folder.run("inspect nowhere.npy").code, 1);
}

#[test]
fn bounds_are_for_what_a_clip_would_choose() {
    let folder = Folder::new();
    let (w, steps) = (bytes(&[0.25, 9.0]), 7i64.to_le_bytes());
    let views = [
        ("w", TensorView::new(Dtype::F32, vec![2], &w).unwrap()),
        ("steps\u{1b}[31m", TensorView::new(Dtype::I64, vec![1], &steps).unwrap()),
    ];
    folder.write("m.safetensors", &safetensors::serialize(views, None).unwrap());
    let done = folder.done("inspect m.safetensors --max 0.5 --json");
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    let of = |name: &str| {
        report["tensors"].as_array().unwrap().iter().find(|t| t["name"] == name).unwrap().clone()
    };
    assert_eq!((&of("w")["above"], &of("steps\u{1b}[31m")["max"]), (&1.into(), &7.into()));
    assert!(of("steps\u{1b}[31m").get("above").is_none());
    let text = folder.done("inspect m.safetensors").stdout;
    assert!(text.contains("\\u{1b}[31m") && !text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn a_range_beyond_that_of_a_number_has_a_plot_and_no_input_is_lost() {
    let folder = Folder::new();
    let x: Vec<u8> = [-1.7e308f64, 8e307, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    folder.write("x.npy", &npy("<f8", false, "(3,)", &x));
    folder.done("inspect x.npy --plot x.svg");
    assert!(folder.read("x.svg").starts_with(b"<svg"));
    let before = folder.read("x.npy");
    for args in ["inspect x.npy --plot x.npy", "backward x.npy x.npy y.npy --max 1 --max-grad x.npy"] {
        assert_eq!(folder.run(args).code, 1, "{args}");
    }
    assert!(folder.read("x.npy") == before && folder.names() == ["x.npy", "x.svg"]);
}
