//! `wgclip norm` and `wgclip clip-norm`: files in, files out, exit codes.

use safetensors::Dtype;
use serde_json::{Value, json};
use wgclip::{NormKind, NormLimit, reference};

use crate::files::{DEVICES, Folder, bits, bytes, elements, npy, npy_f32, tensor, write_tensors};

/// What a run says that must fail, with this exit code.
fn fails(folder: &Folder, command: &str, code: i32) -> String {
    let outcome = folder.run(command);
    assert_eq!(outcome.code, code, "wgclip {command}: {outcome:?}");
    outcome.stderr
}

fn report(folder: &Folder, command: &str) -> Value {
    serde_json::from_str(&folder.done(command).stdout).unwrap()
}

#[test]
fn norms_are_exact_and_told_in_bits() {
    let folder = Folder::new();
    folder.write("a.npy", &npy_f32(&[1e20, -1e20]));
    folder.write(
        "b.npy",
        &npy(">f4", true, "(2, 2)", &[0x40, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0x80, 0, 0]),
    );
    let told = report(&folder, "norm a.npy b.npy --json");
    let of = |x: &[f32], kind| format!("{:#010x}", reference::norm(x, kind).to_bits());
    assert_eq!(told["kind"], "l2");
    assert_eq!(told["tensors"][0]["bits"], of(&[1e20, -1e20], NormKind::L2));
    assert_eq!((&told["tensors"][1]["norm"], &told["tensors"][1]["type"]), (&json!(5.0), &json!("f32")));
    assert_eq!(told["global"]["bits"], of(&[1e20, -1e20, 3.0, -4.0], NormKind::L2));
    let told = report(&folder, "norm b.npy --kind l1 --axes -1 --json");
    assert_eq!(told["tensors"][0]["shape"], json!([2, 1]));
    assert_eq!(told["tensors"][0]["norms"][1]["norm"], 4.0);
    assert_eq!(told["global"]["norm"], 7.0);
    folder.write("d.npy", &npy("<f8", false, "(2,)", &[3e300f64, 4e300].map(f64::to_le_bytes).concat()));
    let told = report(&folder, "norm d.npy --json");
    assert_eq!(told["global"]["bits"], format!("{:#018x}", 5e300f64.to_bits()), "f64 where all are");
    assert!(folder.done("norm a.npy --kind max").stdout.contains(" 1e20 "));
}

/// Norms and coefficients of a list with f64 are f64, so that nothing becomes 0 or infinite on the way. Values from Python's fractions.
#[test]
fn f64_beside_shorter_floats_loses_nothing() {
    let folder = Folder::new();
    let f64s = |x: &[f64]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    for (a, b, max, norm, b_after) in [
        ([3e200, 4e200], 1f32, 1f64, 5e200, 0f32),
        ([3e-200, 4e-200], 0.0, 1e-201, 5e-200, 0.0),
        ([1e39, 0.0], 2e38, 1e39, 1.0198039014645342e39, 1.961_161_3e38),
    ] {
        write_tensors(
            &folder,
            "m.safetensors",
            &[("a", Dtype::F64, f64s(&a)), ("b", Dtype::F32, bytes(&[b]))],
        );
        let told = folder.done("norm m.safetensors").stdout;
        assert!(told.lines().last().unwrap().contains(&format!(" {norm:e} ")), "{told}");
        folder.done(&format!("clip-norm m.safetensors o.safetensors --max {max:e}"));
        assert_eq!(tensor(&folder, "o.safetensors", "a"), f64s(&a.map(|x| x * (max / norm))), "{norm}");
        assert_eq!(tensor(&folder, "o.safetensors", "b"), bytes(&[b_after]), "{norm}");
    }
}

#[test]
fn a_norm_that_is_not_finite_names_its_tensor_and_what_became_of_it() {
    let folder = Folder::new();
    let layers = [("layer0", [1f32, 2.0]), ("layer1", [f32::INFINITY, 1.0]), ("layer2", [f32::NAN, 1.0])];
    let layers = layers.map(|(name, x)| (name, Dtype::F32, bytes(&x)));
    write_tensors(&folder, "m.safetensors", &layers);
    let failed = fails(&folder, "clip-norm m.safetensors o.safetensors --max 1 --nonfinite error", 1);
    assert!(failed.contains("layer1") && failed.contains("the first of 2"), "{failed}");
    let done = folder.done("clip-norm m.safetensors o.safetensors --max 1");
    assert!(done.stderr.contains("warning: the norm of") && done.stderr.contains("layer1"), "{done:?}");
    assert!(done.stderr.contains("becomes 0 or NaN"), "{done:?}");
    let done = folder.done("clip-norm m.safetensors o.safetensors --max 1 --per-tensor --nonfinite zero");
    assert!(done.stdout.contains("1 scaled by norms of their own, 2 set to zero"), "{done:?}");
    let done = folder.done("clip-norm m.safetensors o.safetensors --max 1 --tensor layer0");
    assert_eq!(done.stderr, "");
    // Each is finite, and all of them are not.
    write_tensors(&folder, "h.safetensors", &["a", "b"].map(|name| (name, Dtype::F32, bytes(&[3e38]))));
    let done = folder.done("clip-norm h.safetensors o.safetensors --max 1");
    assert!(done.stderr.contains("all tensors together is inf"), "{done:?}");
}

#[test]
fn what_is_beyond_the_limit_is_scaled_and_the_rest_keeps_its_bits() {
    let folder = Folder::new();
    let x = [3.0f32, -4.0, 1e-30, 0.25];
    folder.write("x.npy", &npy_f32(&x));
    let scaled = |limit: NormLimit| {
        let scaling = reference::scaling(reference::norm(&x, limit.kind), &limit);
        npy_f32(&x.map(|x| reference::scale(x, scaling)))
    };
    folder.done("clip-norm x.npy y.npy --max 1 --like torch");
    assert_eq!(folder.read("y.npy"), scaled(NormLimit::new(1.0).eps(1e-6)));
    folder.done("clip-norm x.npy y.npy --max 2 --kind max --quiet");
    assert_eq!(folder.read("y.npy"), scaled(NormLimit::new(2.0).kind(NormKind::Max)));
    for same in ["--max inf", "--max 6", "--max 2 --average", "--max 5 --axes 0 --kind max"] {
        folder.done(&format!("clip-norm x.npy y.npy {same}"));
        assert_eq!(folder.read("y.npy"), npy_f32(&x), "{same}");
    }
    folder.done("clip-norm x.npy x.npy --max 0");
    assert_eq!(folder.read("x.npy"), npy_f32(&[0.0, -0.0, 0.0, 0.0]));
}

#[test]
fn rows_have_norms_of_their_own_in_fortran_order_too() {
    let folder = Folder::new();
    // Rows [3, 4] and [6, 8].
    folder.write("x.npy", &npy("<f4", true, "(2, 2)", &bytes(&[3.0f32, 6.0, 4.0, 8.0])));
    folder.done("clip-norm x.npy y.npy --max 5 --axes 1");
    assert_eq!(folder.read("y.npy"), npy("<f4", true, "(2, 2)", &bytes(&[3.0f32, 3.0, 4.0, 4.0])));
}

#[test]
fn what_is_not_finite_has_its_policy() {
    let folder = Folder::new();
    let x = [f32::INFINITY, 1.0];
    folder.write("x.npy", &npy_f32(&x));
    for (policy, expected) in [("propagate", [f32::NAN, 0.0]), ("zero", [0.0, 0.0]), ("skip", x)] {
        folder.done(&format!("clip-norm x.npy y.npy --max 1 --nonfinite {policy}"));
        assert_eq!(folder.read("y.npy"), npy_f32(&expected), "{policy}");
    }
    let failed = fails(&folder, "clip-norm x.npy y.npy --max 1 --nonfinite error", 1);
    assert!(failed.contains("NaN or infinite"), "{failed}");
    assert_eq!(folder.read("y.npy"), npy_f32(&x), "the target stays");
}

#[test]
fn wrong_usage_says_what_to_do() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[1.0]));
    folder.write("i.npy", &npy("<i4", false, "(1,)", &[1, 0, 0, 0]));
    for wrong in ["--max -1", "--max nan", "--max x", "--max 1 --eps -1", "--max 1 --eps inf", ""] {
        fails(&folder, &format!("clip-norm x.npy y.npy {wrong}"), 2);
    }
    let failed = fails(&folder, "norm i.npy", 1);
    assert!(failed.contains("norms are of floats"), "{failed}");
    let failed = fails(&folder, "clip-norm x.npy y.npy --max 1 --axes 1", 1);
    assert!(failed.contains("none is axis 1"), "{failed}");
}

/// Norms and what is scaled by them have the same bits on every device, in whatever memory.
#[test]
fn every_device_gives_the_same_bits() {
    let folder = Folder::new();
    let x: Vec<f32> = (0..300_003).map(|n| (n as f32 * 0.7).sin() * 1e30).collect();
    folder.write("x.npy", &npy("<f4", false, "(3, 100001)", &bytes(&x)));
    write_tensors(
        &folder,
        "m.safetensors",
        &[("a", Dtype::F32, bytes(&x)), ("b", Dtype::F32, bytes(&[])), ("c", Dtype::F32, bytes(&x[..7]))],
    );
    for options in ["norm x.npy --json", "norm x.npy --json --kind l1 --axes 1", "norm m.safetensors --json"]
    {
        let on = |device: &str| folder.done(&format!("{options} --memory 2MiB --device {device}")).stdout;
        let expected = folder.done(&format!("{options} --device cpu")).stdout;
        for device in DEVICES {
            assert_eq!(on(device), expected, "{options} on {device}");
        }
    }
    let norm = reference::norm(&[&x[..], &x[..7]].concat(), NormKind::L2);
    let scaling = reference::scaling(norm, &NormLimit::new(1e20));
    let expected: Vec<_> = x.iter().map(|&x| reference::scale(x, scaling)).collect();
    let rows = |average: f32| -> Vec<f32> {
        let row = |row: &[f32]| {
            let norm = reference::norm(row, NormKind::L2) / average;
            let scaling = reference::scaling(norm, &NormLimit::new(1e20));
            row.iter().map(move |&x| reference::scale(x, scaling)).collect::<Vec<_>>()
        };
        x.chunks(100_001).flat_map(row).collect()
    };
    for device in DEVICES {
        let clip = |options: &str| {
            let said =
                folder.done(&format!("clip-norm {options} --max 1e20 --memory 2MiB --device {device}"));
            assert!(said.stdout.contains("limited to"), "{said:?}");
        };
        clip("m.safetensors o.safetensors");
        assert_eq!(tensor(&folder, "o.safetensors", "a"), bytes(&expected), "{device}");
        assert_eq!(tensor(&folder, "o.safetensors", "c"), bytes(&expected[..7]), "{device}");
        for (options, expected) in [("", rows(1.0)), (" --average", rows(100_001.0))] {
            clip(&format!("x.npy y.npy --axes 1{options}"));
            assert_eq!(bits(&elements(&folder.read("y.npy"))), bits(&expected), "{device}{options}");
        }
        clip("m.safetensors o.safetensors --per-tensor --nonfinite zero");
    }
    let failed = fails(&folder, "clip-norm x.npy y.npy --max 1 --axes 0 --memory 1MiB", 1);
    assert!(failed.contains("more than a quarter of --memory"), "{failed}");
}

/// GPUs have no norms of f64; by itself the command takes the CPU then.
#[test]
fn norms_of_f64_are_those_of_the_cpu() {
    let folder = Folder::new();
    folder.write("d.npy", &npy("<f8", false, "(2,)", &[3e300f64, 4e300].map(f64::to_le_bytes).concat()));
    for command in ["norm d.npy", "clip-norm d.npy e.npy --max 1"] {
        folder.done(command);
        folder.done(&format!("{command} --device cpu"));
        let failed = fails(&folder, &format!("{command} --device gpu"), 1);
        assert!(failed.contains("holds f64") && failed.contains("--device cpu"), "{failed}");
    }
}
