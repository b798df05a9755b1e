//! Bounds that are percentiles of the tensor itself, and what `wgclip inspect` shows of them.

use safetensors::Dtype;
use serde_json::{Value, json};
use wgclip::reference::{clip, quantile};

use crate::files::{DEVICES, Folder, bits, bytes, elements, npy, npy_f32, tensor, write_tensors};

/// Random bits, NaN among them, in three rows.
fn random(len: usize) -> Vec<f32> {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| f32::from_bits(rng.u32(..))).collect()
}

fn clipped(x: &[f32], lower: Option<f64>, upper: Option<f64>) -> Vec<f32> {
    let bound = |share: Option<f64>| share.and_then(|share| quantile(x, share));
    let (lo, hi) = (bound(lower), bound(upper));
    x.iter().map(|&x| clip(x, lo, hi)).collect()
}

#[test]
fn bounds_are_percentiles_of_the_tensor_on_every_device() {
    let folder = Folder::new();
    let (rows, columns) = (3, 40_001);
    let x = random(rows * columns);
    folder.write("x.npy", &npy("<f4", false, "(3, 40001)", &bytes(&x)));
    for device in DEVICES {
        for (options, lower, upper) in [
            ("--min p0.1 --max p99.9", Some(0.001), Some(0.999)),
            ("--max p50", None, Some(0.5)),
            ("--min p0 --max p100", Some(0.0), Some(1.0)),
            ("--min p33.3", Some(0.333), None),
        ] {
            folder.done(&format!("clip x.npy y.npy {options} --memory 1MiB --device {device}"));
            let y = elements(&folder.read("y.npy"));
            assert_eq!(bits(&y), bits(&clipped(&x, lower, upper)), "{options} on {device}");
        }
        folder.done(&format!("clip x.npy y.npy --min p1 --max p99 --axes -1 --device {device}"));
        let rows = x.chunks(columns).flat_map(|row| clipped(row, Some(0.01), Some(0.99))).collect::<Vec<_>>();
        assert_eq!(bits(&elements(&folder.read("y.npy"))), bits(&rows), "{device}");
    }
    let number = folder.done("clip x.npy y.npy --min 0 --max p99");
    assert!(number.stderr.is_empty(), "{number:?}");
    let crossed = folder.done("clip x.npy y.npy --min 3e38 --max p0");
    assert!(crossed.stderr.contains("--min is above --max in x.npy"), "{crossed:?}");
}

/// Columns, in Fortran order too, of integers, in shards and from a pipe.
#[test]
fn every_tensor_has_percentiles_of_its_own() {
    let folder = Folder::new();
    // Columns (1, 5, 3) and (9, 9, 2), row by row and column by column.
    for (fortran, data) in [(false, [1u8, 9, 5, 9, 3, 2]), (true, [1, 5, 3, 9, 9, 2])] {
        folder.write("x.npy", &npy("|u1", fortran, "(3, 2)", &data));
        folder.done("clip x.npy y.npy --min p40 --max p60 --axes 0");
        let expected = if fortran { [3, 3, 3, 9, 9, 9] } else { [3, 9, 3, 9, 3, 9] };
        assert!(folder.read("y.npy").ends_with(&expected), "{fortran}");
        folder.done("clip x.npy y.npy --max p50");
        let expected = data.map(|x| x.min(3));
        assert!(folder.read("y.npy").ends_with(&expected), "{fortran}");
    }
    let (a, b) = ([1f32, 2.0, 3.0, 4.0], [f32::NAN, f32::NAN]);
    write_tensors(
        &folder,
        "m.safetensors",
        &[("a", Dtype::F32, bytes(&a)), ("b", Dtype::F32, bytes(&b)), ("c", Dtype::F32, Vec::new())],
    );
    folder.done("clip m.safetensors o.safetensors --min p50 --max p75");
    assert_eq!(tensor(&folder, "o.safetensors", "a"), bytes(&[2.0, 2.0, 3.0, 3.0]));
    assert_eq!(tensor(&folder, "o.safetensors", "b"), bytes(&b), "no numbers, nothing to clip");
}

/// The gradient takes the percentiles of x, whatever the upstream gradient is.
#[test]
fn the_backward_pass_has_the_percentiles_of_x() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[1.0, 2.0, 3.0, 4.0]));
    folder.write("g.npy", &npy_f32(&[50.0, 60.0, 70.0, 80.0]));
    folder.done("backward x.npy g.npy gx.npy --min p50 --max p75");
    assert_eq!(elements(&folder.read("gx.npy")), [0.0, 60.0, 70.0, 0.0]);
    folder.done("backward x.npy g.npy gx.npy --min p50 --max p75 --max-grad max.npy");
    assert_eq!(elements(&folder.read("gx.npy")), [0.0, 60.0, 70.0, 0.0]);
    assert_eq!(elements(&folder.read("max.npy")), [80.0]);
}

#[test]
fn what_is_no_percentile_is_refused() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[1.0, 2.0]));
    for (options, said) in [
        ("--max p101", "p0 to p100"),
        ("--max p-1", "not a number"),
        ("--max p1e1", "not a number"),
        ("--min p90 --max p10", "give them in order"),
        ("--max 1 --axes 0", "--axes are for percentiles"),
    ] {
        let outcome = folder.run(&format!("clip x.npy y.npy {options}"));
        assert_eq!(outcome.code, 2, "{options}: {outcome:?}");
        assert!(outcome.stderr.contains(said), "{options}: {outcome:?}");
    }
    let outcome = folder.run("clip x.npy y.npy --max p50 --axes 1");
    assert!(outcome.code == 1 && outcome.stderr.contains("none is axis 1"), "{outcome:?}");
}

#[test]
fn inspect_shows_moments_percentiles_and_first_values() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[3.0, f32::NAN, 1.0, f32::INFINITY, 2.0]));
    let report = folder.done("inspect x.npy --percentiles 0,50,p75 --head 4 --json --max p75").stdout;
    let row = &serde_json::from_str::<Value>(&report).unwrap()["tensors"][0];
    assert_eq!((&row["mean"], &row["std"]), (&json!(2.0), &json!((2f64 / 3.0).sqrt())));
    assert_eq!(row["percentiles"], json!({"p0": 1.0, "p50": 2.0, "p75": 3.0}));
    assert_eq!(row["first"], json!([3.0, "NaN", 1.0, "inf"]));
    assert_eq!(row["above"], 1);
    let table = folder.done("inspect x.npy --percentiles 50 --head 2").stdout;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].contains("mean") && lines[0].ends_with("p50"), "{table}");
    assert_eq!(lines[2], "  3 NaN", "{table}");
    let outcome = folder.run("inspect x.npy --percentiles 101");
    assert_eq!(outcome.code, 2, "{outcome:?}");
}
