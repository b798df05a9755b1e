//! `wgclip quantize`, `wgclip dequantize`, and the error that `wgclip inspect` tells.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::files::{DEVICES, Folder, bytes, npy, npy_f32, tensor, write_tensors};

/// The type, the shape and the bytes of a tensor.
fn found(folder: &Folder, file: &str, name: &str) -> (Dtype, Vec<usize>, Vec<u8>) {
    let read = folder.read(file);
    let tensors = SafeTensors::deserialize(&read).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec())
}

/// A matrix of two rows, a vector, and metadata.
fn model(folder: &Folder) {
    let (w, norm) = (bytes(&[-1.27, 0.5, 0.004, 0.0, 254.0, 3.0, -2.0, 1.0]), bytes(&[1.0, 2.0]));
    let tensors = [
        ("w", TensorView::new(Dtype::F32, vec![2, 4], &w)),
        ("norm", TensorView::new(Dtype::F32, vec![2], &norm)),
    ];
    let tensors = tensors.into_iter().map(|(name, tensor)| (name, tensor.unwrap()));
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    folder.write("m.safetensors", &safetensors::serialize(tensors, metadata).unwrap());
}

#[test]
fn codes_have_their_scales_beside_them() {
    let folder = Folder::new();
    model(&folder);
    for device in DEVICES {
        let run = |options: &str| {
            folder.done(&format!("quantize m.safetensors q.safetensors --device {device} {options}"))
        };
        let done = run("--per-channel 0");
        let line = "1 tensor as i8, 256 codes, symmetric, minmax: 32 B to 16 B; SQNR ";
        assert!(done.stdout.starts_with(line) && done.stdout.contains("; 1 kept; "), "{done:?}");
        let codes = [-127i8, 50, 0, 0, 127, 2, -1, 0].map(|code| code as u8).to_vec();
        assert_eq!(found(&folder, "q.safetensors", "w"), (Dtype::I8, vec![2, 4], codes));
        assert_eq!(found(&folder, "q.safetensors", "w_scale"), (Dtype::F32, vec![2, 1], bytes(&[0.01, 2.0])));
        assert_eq!(tensor(&folder, "q.safetensors", "norm"), bytes(&[1.0, 2.0]));
        let read = folder.read("q.safetensors");
        assert_eq!(SafeTensors::deserialize(&read).unwrap().names().len(), 3, "no zero points");
        let header = String::from_utf8_lossy(&read).into_owned();
        assert!(header.contains(r#""format":"pt""#), "{header}");

        run("--group 2 --bits 4 --to u8 --scheme affine");
        assert_eq!(found(&folder, "q.safetensors", "w_scale").1, [2, 2]);
        let zero_points = found(&folder, "q.safetensors", "w_zero_point");
        assert_eq!(zero_points, (Dtype::U8, vec![2, 2], vec![11, 0, 0, 10]));
        assert_eq!(found(&folder, "q.safetensors", "w").2, [0, 15, 15, 0, 15, 0, 0, 15]);

        run("--tensor norm");
        assert_eq!(
            found(&folder, "q.safetensors", "norm_scale"),
            (Dtype::F32, vec![], bytes(&[2.0 / 127.0]))
        );
        assert_eq!(found(&folder, "q.safetensors", "w").0, Dtype::F32);
    }
}

#[test]
fn values_come_back_from_codes() {
    let folder = Folder::new();
    model(&folder);
    for device in DEVICES {
        folder.done("quantize m.safetensors q.safetensors --per-channel 0");
        let done = folder.done(&format!("dequantize q.safetensors d.safetensors --device {device}"));
        assert!(done.stdout.starts_with("1 tensor as f32; "), "{done:?}");
        let values = bytes(&[-1.27, 0.5, 0.0, 0.0, 254.0, 4.0, -2.0, 0.0]);
        assert_eq!(found(&folder, "d.safetensors", "w"), (Dtype::F32, vec![2, 4], values));
        let read = folder.read("d.safetensors");
        assert_eq!(SafeTensors::deserialize(&read).unwrap().names().len(), 2, "scales are gone");
        folder.done(&format!("dequantize q.safetensors q.safetensors --to f16 --device {device}"));
        assert_eq!(found(&folder, "q.safetensors", "w").0, Dtype::F16);
    }
    // As other programs write them: one scale for each row in a vector, and one for each group.
    let codes = [1i8, -2, 3, 4].map(|code| code as u8).to_vec();
    let halves = |values: [u16; 2]| values.iter().flat_map(|bits| bits.to_le_bytes()).collect::<Vec<_>>();
    for (shape, expected) in [(vec![2], [0.5, -1.0, 6.0, 8.0]), (vec![1, 2], [0.5, -4.0, 1.5, 8.0])] {
        let scale = halves([0x3800, 0x4000]);
        let tensors = [
            ("w", TensorView::new(Dtype::I8, vec![2, 2], &codes).unwrap()),
            ("w_scale", TensorView::new(Dtype::F16, shape, &scale).unwrap()),
        ];
        folder.write("q.safetensors", &safetensors::serialize(tensors, None).unwrap());
        folder.done("dequantize q.safetensors d.safetensors");
        assert_eq!(tensor(&folder, "d.safetensors", "w"), bytes(&expected));
    }
}

#[test]
fn codes_may_be_8_bit_floats() {
    let folder = Folder::new();
    let x = [448.0, 1.0, -3.0, 0.5, 896.0, 17.0, 2.0, -0.25];
    folder.write("x.npy", &npy("<f4", false, "(2, 4)", &bytes(&x)));
    for device in DEVICES {
        let options = format!("--to f8_e4m3fn --per-channel 0 --device {device}");
        let done = folder.done(&format!("quantize x.npy q.safetensors {options}"));
        let line = "1 tensor as f8_e4m3fn, scales greatest, minmax: 32 B to 16 B; SQNR ";
        assert!(done.stdout.starts_with(line), "{done:?}");
        // 8.5 is halfway between codes.
        let codes = vec![0x7e, 0x38, 0xc4, 0x30, 0x7e, 0x50, 0x38, 0xa0];
        assert_eq!(found(&folder, "q.safetensors", "x"), (Dtype::F8_E4M3, vec![2, 4], codes));
        assert_eq!(found(&folder, "q.safetensors", "x_scale"), (Dtype::F32, vec![2, 1], bytes(&[1.0, 2.0])));
        folder.done(&format!("dequantize q.safetensors d.safetensors --device {device}"));
        let values = [448.0, 1.0, -3.0, 0.5, 896.0, 16.0, 2.0, -0.25];
        assert_eq!(tensor(&folder, "d.safetensors", "x"), bytes(&values));
    }
    let done = folder.done("inspect x.npy --to f8_e5m2 --scales round-up");
    assert!(done.stdout.contains("SQNR"), "{done:?}");
    for (options, says) in [
        ("--to f8_e4m3fn --bits 4", "--bits is for integer codes"),
        ("--to f8_e5m2 --range mse", "--range mse is for integer codes"),
        ("--to f8_e5m2 --like tensorflow", "half-even"),
        ("--to mxfp8 --per-channel 0", "--per-channel is not for mxfp8"),
        ("--to mxfp8 --scales greatest", "powers of two"),
        ("--to mxfp8", "groups of 32 do not divide"),
        ("--scales floor", "--scales is for floats"),
        ("--to mxfp4 --bits 4", "--bits is for integer codes, and mxfp4 is a float"),
        ("--to int4", "a last axis of a multiple of 8"),
        ("--to int4 --bits 8", "int4 has 4 bits"),
        ("--to int4 --scheme affine", "int4 has no zero points"),
    ] {
        let refused = folder.run(&format!("quantize x.npy r.safetensors {options}"));
        assert!(refused.stderr.contains(says), "{options}: {refused:?}");
        assert!(!folder.path("r.safetensors").exists(), "{options}");
    }
}

/// Blocks of 32 along the last axis, with a power of two each: 2^(byte - 127).
#[test]
fn microscaling_blocks_have_exponents() {
    let folder = Folder::new();
    let mut x = vec![0.0f32; 96];
    (x[0], x[5], x[33], x[40]) = (448.0, -1.0, 1.0, 0.002);
    folder.write("x.npy", &npy("<f4", false, "(1, 96)", &bytes(&x)));
    for device in DEVICES {
        folder.done(&format!("quantize x.npy q.safetensors --to mxfp8 --device {device}"));
        let (dtype, shape, codes) = found(&folder, "q.safetensors", "x");
        assert_eq!((dtype, shape), (Dtype::F8_E4M3, vec![1, 96]));
        assert_eq!([codes[0], codes[5], codes[33]], [0x7e, 0xb8, 0x78]);
        let scales = found(&folder, "q.safetensors", "x_scale");
        assert_eq!(scales, (Dtype::F8_E8M0, vec![1, 3], vec![127, 119, 0]));
        folder.done(&format!("dequantize q.safetensors d.safetensors --device {device}"));
        let mut values = x.clone();
        // 0.512 in units of 2^-8: the nearest code is 0.5.
        values[40] = 0.5 / 256.0;
        assert_eq!(tensor(&folder, "d.safetensors", "x"), bytes(&values));
    }
    folder.done("quantize x.npy q.safetensors --to mxfp8_e5m2 --scales round-up");
    assert_eq!(found(&folder, "q.safetensors", "x_scale").2, [120, 112, 0]);
}

/// The same with 4-bit floats, two a byte: the first in the low bits.
#[test]
fn codes_may_be_4_bit_floats() {
    let folder = Folder::new();
    let mut x = vec![0.0f32; 96];
    (x[0], x[1], x[33], x[40]) = (6.0, -1.0, 1.0, 0.1);
    for (shape, dims) in [("(1, 96)", vec![1, 96]), ("(96,)", vec![96])] {
        folder.write("x.npy", &npy("<f4", false, shape, &bytes(&x)));
        for device in DEVICES {
            let done = folder.done(&format!("quantize x.npy q.safetensors --to mxfp4 --device {device}"));
            assert!(
                done.stdout.starts_with("1 tensor as mxfp4, scales floor, minmax: 384 B to 51 B"),
                "{done:?}"
            );
            let (dtype, shape, codes) = found(&folder, "q.safetensors", "x");
            assert_eq!((dtype, shape, codes.len()), (Dtype::F4, dims.clone(), 48));
            assert_eq!([codes[0], codes[1], codes[16], codes[20]], [0xa7, 0, 0x60, 0x01]);
            assert_eq!(found(&folder, "q.safetensors", "x_scale").2, [127, 125, 0]);
            folder.done(&format!("dequantize q.safetensors d.safetensors --device {device}"));
            let mut values = x.clone();
            values[40] = 0.125;
            assert_eq!(found(&folder, "d.safetensors", "x"), (Dtype::F32, dims.clone(), bytes(&values)));
        }
    }
    let done = folder.done("inspect x.npy --to mxfp4 --scales even --json");
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let error = report["tensors"][0]["greatest_error"].as_f64().unwrap();
    assert!((error - 0.025).abs() < 1e-6, "{error}");
}

/// 8 in an I32, as compressed-tensors packs them: 8 more than what is meant, the first in the low bits.
#[test]
fn integers_of_4_bits_are_packed() {
    let folder = Folder::new();
    let row = [7.0f32, -7.0, 1.0, 0.0, 3.0, -2.0, 5.0, 6.0];
    let x: Vec<f32> = row.into_iter().chain(row.map(|x| 2.0 * x)).collect();
    std::fs::create_dir(folder.path("c")).unwrap();
    let data = bytes(&x);
    let tensors = [("w", TensorView::new(Dtype::F32, vec![2, 8], &data).unwrap())];
    folder.write("c/a.safetensors", &safetensors::serialize(tensors, None).unwrap());
    let index = r#"{"metadata":{"total_size":64},"weight_map":{"w":"a.safetensors"}}"#;
    folder.write("c/model.safetensors.index.json", index.as_bytes());
    let names = |path: &str| {
        let index: serde_json::Value = serde_json::from_slice(&folder.read(path)).unwrap();
        index["weight_map"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    for device in DEVICES {
        let done = folder.done(&format!("quantize c q --to int4 --per-channel 0 --device {device}"));
        assert!(done.stdout.starts_with("1 tensor as int4, 16 codes, symmetric, minmax: "), "{done:?}");
        let words = [0x1f, 0x89, 0x6b, 0xed].repeat(2);
        assert_eq!(found(&folder, "q/a.safetensors", "w_packed"), (Dtype::I32, vec![2, 1], words));
        assert_eq!(
            found(&folder, "q/a.safetensors", "w_scale"),
            (Dtype::F32, vec![2, 1], bytes(&[1.0, 2.0]))
        );
        let shape = [2u64, 8].into_iter().flat_map(u64::to_le_bytes).collect();
        assert_eq!(found(&folder, "q/a.safetensors", "w_shape"), (Dtype::I64, vec![2], shape));
        assert_eq!(names("q/model.safetensors.index.json"), ["w_packed", "w_scale", "w_shape"]);
        folder.done(&format!("dequantize q d --device {device}"));
        assert_eq!(found(&folder, "d/a.safetensors", "w"), (Dtype::F32, vec![2, 8], data.clone()));
        assert_eq!(names("d/model.safetensors.index.json"), ["w"]);
        folder.done(&format!("quantize c g --to int4 --group 2 --range -14..14 --device {device}"));
        assert_eq!(found(&folder, "g/a.safetensors", "w_scale"), (Dtype::F32, vec![2, 4], bytes(&[2.0; 8])));
        folder.done(&format!("dequantize g e --device {device}"));
        let values = [8.0f32, -8.0, 0.0, 0.0, 4.0, -2.0, 4.0, 6.0].into_iter().chain(row.map(|x| 2.0 * x));
        assert_eq!(found(&folder, "e/a.safetensors", "w").2, bytes(&values.collect::<Vec<_>>()));
        for made in ["q", "d", "g", "e"] {
            std::fs::remove_dir_all(folder.path(made)).unwrap();
        }
    }
    let packed = [
        ("w_packed", Dtype::I32, bytes(&[1.0])),
        ("w_scale", Dtype::F32, bytes(&[1.0])),
        ("w_zero_point", Dtype::I32, bytes(&[1.0])),
    ];
    write_tensors(&folder, "z.safetensors", &packed);
    let refused = folder.run("dequantize z.safetensors o.safetensors");
    assert!(refused.code == 1 && refused.stderr.contains("reads symmetric ones alone"), "{refused:?}");
}

#[test]
fn numpy_files_are_quantized_into_safetensors() {
    let folder = Folder::new();
    folder.write("x.npy", &npy("<f4", true, "(2, 2)", &bytes(&[1.0, 3.0, 2.0, 127.0])));
    folder.done("quantize x.npy q.safetensors --per-channel 0");
    assert_eq!(found(&folder, "q.safetensors", "x").2, [64, 127, 3, 127]);
    assert_eq!(found(&folder, "q.safetensors", "x_scale").2, bytes(&[2.0 / 127.0, 1.0]));
}

#[test]
fn a_folder_of_shards_is_quantized_with_its_index() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("c")).unwrap();
    write_tensors(&folder, "c/a.safetensors", &[("a", Dtype::F32, bytes(&[1.0, -2.0]))]);
    write_tensors(&folder, "c/b.safetensors", &[("b", Dtype::F32, bytes(&[4.0]))]);
    let index = r#"{"metadata":{"total_size":12},"weight_map":{"a":"a.safetensors","b":"b.safetensors"}}"#;
    folder.write("c/model.safetensors.index.json", index.as_bytes());
    let map = |path: &str| {
        let index: serde_json::Value = serde_json::from_slice(&folder.read(path)).unwrap();
        let map = index["weight_map"].as_object().unwrap().clone();
        let names: Vec<_> =
            map.iter().map(|(name, file)| format!("{name} {}", file.as_str().unwrap())).collect();
        (index["metadata"]["total_size"].as_u64().unwrap(), names)
    };
    folder.done("quantize c q");
    let names = ["a a.safetensors", "a_scale a.safetensors", "b b.safetensors", "b_scale b.safetensors"];
    assert_eq!(map("q/model.safetensors.index.json"), (2 + 4 + 1 + 4, names.map(str::to_owned).to_vec()));
    folder.done("dequantize q d");
    let names = ["a a.safetensors", "b b.safetensors"];
    assert_eq!(map("d/model.safetensors.index.json"), (12, names.map(str::to_owned).to_vec()));
    assert_eq!(tensor(&folder, "d/b.safetensors", "b"), bytes(&[4.0]));
}

#[test]
fn the_error_is_told_before_anything_is_written() {
    let folder = Folder::new();
    model(&folder);
    let done = folder.done("inspect m.safetensors --bits 8 --per-channel 0 --json");
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let row = |name: &str| {
        report["tensors"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone()
    };
    // The differences are 0.004, and 1 twice, of 3 to 4 and of 1 to 0.
    assert!((row("w")["greatest_error"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{done:?}");
    let signal = 1.27f64.powi(2) + 0.25 + 254f64.powi(2) + 9.0 + 4.0 + 1.0;
    let ratio = row("w")["sqnr"].as_f64().unwrap();
    assert!((ratio - 10.0 * (signal / 2.0).log10()).abs() < 1e-3, "{ratio}");
    assert!(row("norm").get("sqnr").is_none());
    let table = folder.done("inspect m.safetensors --bits 4");
    assert!(table.stdout.lines().next().unwrap().ends_with("SQNR dB  max error"), "{table:?}");
    let refused = folder.run("inspect m.safetensors --group 2");
    assert!(refused.stderr.contains("--group is about codes: give their --bits too"), "{refused:?}");
}

#[test]
fn what_cannot_be_quantized_is_refused_and_nothing_is_written() {
    let folder = Folder::new();
    model(&folder);
    write_tensors(&folder, "n.safetensors", &[("w", Dtype::F32, bytes(&[1.0, f32::NAN]))]);
    write_tensors(&folder, "i.safetensors", &[("w", Dtype::I32, bytes(&[1.0]))]);
    let taken = [("w", Dtype::F32, bytes(&[1.0])), ("w_zero_point", Dtype::F32, bytes(&[1.0]))];
    write_tensors(&folder, "t.safetensors", &taken);
    folder.write("v.npy", &npy_f32(&[1.0, 2.0]));
    let before = folder.names();
    for (args, code, message) in [
        (
            "quantize n.safetensors o.safetensors",
            1,
            "holds 1 NaN or infinite: no codes cover these; --finite-only",
        ),
        ("quantize i.safetensors o.safetensors", 1, "holds i32, and floats are quantized"),
        ("quantize t.safetensors o.safetensors", 1, "has a tensor 'w_zero_point' beside it"),
        ("quantize m.safetensors o.safetensors --group 3", 1, "which groups of 3 do not divide"),
        ("quantize m.safetensors o.safetensors --per-channel 2", 1, "none is axis 2"),
        ("quantize m.safetensors o.safetensors --bits 9 --to i8", 1, "codes of 9 bits do not fit i8"),
        ("quantize m.safetensors o.safetensors --bits 17", 2, "17"),
        ("quantize m.safetensors o.safetensors --range p0.1", 2, "is no range of values"),
        ("quantize m.safetensors o.safetensors --range widest", 2, "is no range of values"),
        ("quantize m.safetensors o.safetensors --to f16", 2, "f16"),
        ("quantize v.npy o.npy", 1, "would hold a .safetensors file"),
        ("dequantize m.safetensors o.safetensors", 1, "holds no codes"),
    ] {
        let refused = folder.run(args);
        assert_eq!(refused.code, code, "wgclip {args}: {refused:?}");
        assert!(refused.stderr.contains(message), "wgclip {args}: {refused:?}");
    }
    let scaled = |zero_point: Dtype, zero: Vec<u8>| {
        let codes = [
            ("w", Dtype::U8, vec![5]),
            ("w_scale", Dtype::F32, bytes(&[1.0])),
            ("w_zero_point", zero_point, zero),
        ];
        write_tensors(&folder, "z.safetensors", &codes);
        folder.run("dequantize z.safetensors o.safetensors")
    };
    for (zero_point, zero) in
        [(Dtype::I8, vec![251]), (Dtype::I32, vec![44, 1, 0, 0]), (Dtype::F32, bytes(&[2.5]))]
    {
        let refused = scaled(zero_point, zero);
        assert!(
            refused.code == 1 && refused.stderr.contains("zero points are whole numbers from 0 to 255"),
            "{refused:?}"
        );
    }
    std::fs::remove_file(folder.path("z.safetensors")).unwrap();
    assert_eq!(folder.names(), before);
    let kept = [
        ("e", Dtype::BF16, vec![0x80, 0x3f]),
        ("e_scale", Dtype::F32, bytes(&[2.0])),
        ("w", Dtype::I8, vec![3]),
        ("w_scale", Dtype::F32, bytes(&[2.0])),
    ];
    write_tensors(&folder, "k.safetensors", &kept);
    let done = folder.done("dequantize k.safetensors k.safetensors");
    assert!(done.stderr.contains("tensor 'e', holds bf16 with a scale"), "{done:?}");
    assert_eq!(
        (tensor(&folder, "k.safetensors", "w"), tensor(&folder, "k.safetensors", "e")),
        (bytes(&[6.0]), vec![0x80, 0x3f])
    );
    folder.done("quantize m.safetensors q.safetensors");
    let again = folder.run("quantize q.safetensors o.safetensors");
    assert!(again.code == 1 && again.stderr.contains("holds codes and their scales already"), "{again:?}");
    std::fs::remove_file(folder.path("q.safetensors")).unwrap();
    folder.write("e.npy", &npy("<f4", false, "(0, 2)", &[]));
    folder.done("quantize e.npy e.safetensors --per-channel 1");
    assert_eq!(found(&folder, "e.safetensors", "e_scale").2, bytes(&[1.0, 1.0]));
    folder.done("quantize n.safetensors o.safetensors --finite-only");
    assert_eq!(tensor(&folder, "o.safetensors", "w"), [127, 0], "NaN has the code of 0");
}
