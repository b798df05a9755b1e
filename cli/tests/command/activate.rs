//! `wgclip activate`: files in, files out, exit codes.

use safetensors::Dtype;
use wgclip::{bf16, reference};

use crate::files::{DEVICES, Folder, bits, elements, npy, npy_f32, tensor, write_tensors};

const X: [f32; 7] = [-110.0, -3.0, -0.0, 1e-30, 0.5, 40.0, f32::NAN];

#[test]
fn values_are_those_of_the_reference() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&X));
    for device in DEVICES {
        for (function, of) in [
            ("tanh", reference::tanh as fn(f32) -> f32),
            ("sigmoid", reference::sigmoid),
            ("soft_cap --cap 30", |x| reference::soft_cap(x, 30.0)),
        ] {
            let told = folder.done(&format!("activate x.npy y.npy --fn {function} --device {device}")).stdout;
            let name = function.split(' ').next().unwrap();
            assert!(
                told.starts_with("7 elements: 1 NaN; ") && told.contains(&format!("of which {name} ")),
                "{told}"
            );
            let expected: Vec<f32> = X.into_iter().map(of).collect();
            assert_eq!(bits(&elements(&folder.read("y.npy"))), bits(&expected), "{function} on {device}");
        }
    }
}

#[test]
fn other_tensors_and_byte_orders_are_kept() {
    let folder = Folder::new();
    let halves = X.map(bf16::from_f32);
    let of = |x: &[bf16]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    let integers: Vec<u8> = [1i32, -2, 3].iter().flat_map(|n| n.to_le_bytes()).collect();
    let tensors = [("a", Dtype::BF16, of(&halves)), ("step", Dtype::I32, integers.clone())];
    write_tensors(&folder, "m.safetensors", &tensors);
    folder.done("activate m.safetensors m.safetensors --fn sigmoid --quiet");
    assert_eq!(tensor(&folder, "m.safetensors", "a"), of(&halves.map(reference::sigmoid)));
    assert_eq!(tensor(&folder, "m.safetensors", "step"), integers);
    let swapped = |x: &[f32]| x.iter().flat_map(|x| x.to_be_bytes()).collect::<Vec<_>>();
    folder.write("big.npy", &npy(">f4", true, "(7,)", &swapped(&X)));
    folder.done("activate big.npy big.npy --fn tanh");
    let made = folder.read("big.npy");
    assert!(made.ends_with(&swapped(&X.map(reference::tanh))));
}

#[test]
fn softmax_goes_along_axes() {
    let folder = Folder::new();
    let x: Vec<f32> = (0..60).map(|n| ((n * 37) % 60) as f32 / 7.0 - 3.0).collect();
    let slice = |start: usize, step: usize, len: usize| -> Vec<f32> {
        reference::softmax(&(0..len).map(|n| x[start + n * step]).collect::<Vec<_>>())
    };
    let shaped = |x: &[f32], fortran| {
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        npy("<f4", fortran, "(12, 5)", &bytes)
    };
    folder.write("x.npy", &shaped(&x, false));
    let rows: Vec<f32> = (0..12).flat_map(|n| slice(5 * n, 1, 5)).collect();
    let columns: Vec<Vec<f32>> = (0..5).map(|n| slice(n, 5, 12)).collect();
    let columns: Vec<f32> = (0..12).flat_map(|n| columns.iter().map(move |column| column[n])).collect();
    for device in DEVICES {
        for (options, expected) in [
            ("", &rows),
            ("--axes 1", &rows),
            ("--axes 0 --memory 1MiB", &columns),
            ("--axes 0,1", &slice(0, 1, 60)),
        ] {
            let told =
                folder.done(&format!("activate x.npy y.npy --fn softmax {options} --device {device}")).stdout;
            assert!(told.starts_with("60 elements") && told.contains("of which softmax "), "{told}");
            assert_eq!(bits(&elements(&folder.read("y.npy"))), bits(expected), "{options} on {device}");
        }
    }
    // In Fortran order the columns of the file's 12 x 5 are stored as rows of 12.
    folder.write("f.npy", &shaped(&x, true));
    folder.done("activate f.npy y.npy --fn softmax --axes 0 --quiet");
    let expected: Vec<f32> = (0..5).flat_map(|n| slice(12 * n, 1, 12)).collect();
    assert_eq!(bits(&elements(&folder.read("y.npy"))), bits(&expected));
}

#[test]
fn mistakes_are_told_and_nothing_is_written() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&X));
    folder.write("d.npy", &npy("<f8", false, "(1,)", &1f64.to_le_bytes()));
    for (command, code, words) in [
        ("activate x.npy y.npy", 2, "--fn"),
        ("activate x.npy y.npy --fn softmin", 2, "softmax"),
        ("activate x.npy y.npy --fn tanh --axes 0", 1, "leave them out"),
        ("activate x.npy y.npy --fn softmax --axes 1", 1, "none is axis 1"),
        ("activate d.npy y.npy --fn softmax", 1, "up to 32 bits"),
        ("activate x.npy y.npy --fn soft_cap", 2, "--cap"),
        ("activate x.npy y.npy --fn soft_cap --cap 0", 2, "positive"),
        ("activate x.npy y.npy --fn tanh --cap 3", 1, "leave it out"),
        ("activate d.npy y.npy --fn tanh", 1, "up to 32 bits"),
    ] {
        let outcome = folder.run(command);
        assert_eq!(outcome.code, code, "wgclip {command}: {outcome:?}");
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        assert!(!folder.path("y.npy").exists(), "{command}");
    }
}
