//! Files of every type and layout, archives, and bounds that are files, against the reference.

use std::collections::HashMap;
use std::io::{Cursor, Read, Write};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use wgclip::element::NumberClass;
use wgclip::{BackwardRule, Element, ElementType, TieRule, bf16, f16, reference, with_element};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::files::{DEVICES, Folder, bytes, elements, npy, npy_f32};

/// Elements of every kind of pattern, and their bytes in an order.
fn random<T: Element>(len: usize) -> Vec<T> {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| T::from_bits(rng.u64(..))).collect()
}

fn data<T: Element>(values: &[T], big: bool) -> Vec<u8> {
    let size = size_of::<T>();
    let of = |v: &T| {
        let little = v.to_bits().to_le_bytes();
        let mut bytes = little[..size].to_vec();
        if big {
            bytes.reverse();
        }
        bytes
    };
    values.iter().flat_map(of).collect()
}

fn every_layout<T: Element>(code: &str) {
    let folder = Folder::new();
    let x = random::<T>(2 * 3 * 5);
    let value = |text: f64| Some(T::from_f64(text));
    let expected: Vec<T> = x.iter().map(|&x| reference::clip(x, value(1.0), value(6.0))).collect();
    // The same elements in Fortran order.
    let fortran = |c: &[T]| -> Vec<T> {
        (0..30).map(|place| c[place % 2 * 15 + place / 2 % 3 * 5 + place / 6]).collect()
    };
    // How a file is read does not depend on the device: a GPU gets one layout, to see that elements reach it.
    for (device, layouts) in DEVICES.into_iter().zip([2, 1]) {
        for (order, big) in [("<", false), (">", true)].into_iter().rev().take(layouts) {
            let order = if size_of::<T>() == 1 { "|" } else { order };
            let descr = format!("{order}{code}");
            for (is_fortran, shape) in [(false, "(2, 3, 5)"), (true, "(2, 3, 5)")] {
                let lay = |c: &[T]| if is_fortran { fortran(c) } else { c.to_vec() };
                folder.write("x.npy", &npy(&descr, is_fortran, shape, &data(&lay(&x), big)));
                folder.done(&format!("clip x.npy y.npy --min 1 --max 6 --device {device}"));
                let wanted = npy(&descr, is_fortran, shape, &data(&lay(&expected), big));
                assert_eq!(folder.read("y.npy"), wanted, "{descr}, Fortran {is_fortran}, {device}");
            }
            folder.write("x.npy", &npy(&descr, false, "()", &data(&x[..1], big)));
            folder.done(&format!("clip x.npy y.npy --min 1 --max 6 --device {device}"));
            assert_eq!(
                folder.read("y.npy"),
                npy(&descr, false, "()", &data(&expected[..1], big)),
                "{descr}, 0-d"
            );
        }
    }
}

#[test]
fn npy_files_of_every_type_and_layout_keep_theirs() {
    for &element in ElementType::ALL {
        // numpy's code is a letter and the bytes; it has none for those of ml_dtypes, which the fixtures have.
        let letter = match element.layout().class {
            NumberClass::Float { .. } => "f",
            NumberClass::Signed => "i",
            NumberClass::Unsigned => "u",
        };
        if element != ElementType::Bf16 && !(element.is_float() && element.size() == 1) {
            with_element!(element, T => every_layout::<T>(&format!("{letter}{}", element.size())));
        }
    }
}

#[test]
fn integers_take_bounds_beyond_their_range_where_harmless() {
    let folder = Folder::new();
    folder.write("x.npy", &npy("|u1", false, "(4,)", &[0, 7, 200, 255]));
    for (args, expected) in [
        ("--max 300", [0, 7, 200, 255]),
        ("--min -5 --max 1e2", [0, 7, 100, 100]),
        ("--min 6.0 --max inf", [6, 7, 200, 255]),
        ("--min -inf --max 255.0", [0, 7, 200, 255]),
    ] {
        folder.done(&format!("clip x.npy y.npy {args}"));
        assert_eq!(folder.read("y.npy"), npy("|u1", false, "(4,)", &expected), "{args}");
    }
}

#[test]
fn bounds_may_be_files_that_broadcast() {
    let folder = Folder::new();
    let x: Vec<f32> = (0..6).map(|v| v as f32).collect();
    folder.write("x.npy", &npy("<f4", false, "(2, 3)", &bytes(&x)));
    folder.write("lo.npy", &npy("<f4", false, "(2, 1)", &bytes(&[1.0, f32::NAN])));
    folder.write("hi.npy", &npy(">f4", false, "(3,)", &data(&[2.0f32, 0.5, 4.0], true)));
    for device in DEVICES {
        let done = folder.done(&format!("clip x.npy y.npy --min lo.npy --max hi.npy --device {device}"));
        let y = elements(&folder.read("y.npy"));
        assert_eq!(y[..3], [1.0, 0.5, 2.0], "{device}");
        assert!(y[3..].iter().all(|y| y.is_nan()), "{device}");
        assert!(done.stdout.starts_with("6 elements: 1 below, 1 above, 0 NaN; "), "{done:?}");
    }
    folder.write("wide.npy", &npy("<f4", false, "(4,)", &bytes(&[0.0; 4])));
    folder.write("i4.npy", &npy("<i4", false, "(1,)", &[0; 4]));
    let done = folder.done("clip x.npy y.npy --max i4.npy");
    assert!(done.stderr.contains("i4.npy holds i32: its bounds are rounded to f32"), "{done:?}");
    // Integers take integers exactly, and whole floats; inward others too.
    folder.write("u1.npy", &npy("|u1", false, "(3,)", &[1, 100, 200]));
    folder.write("i2.npy", &npy("<i2", false, "()", &300i16.to_le_bytes()));
    folder.write("f8.npy", &npy("<f8", false, "()", &99.5f64.to_le_bytes()));
    folder.done("clip u1.npy y.npy --max i2.npy");
    assert!(folder.read("y.npy").ends_with(&[1, 100, 200]));
    folder.done("clip u1.npy y.npy --max f8.npy --bounds inward");
    assert!(folder.read("y.npy").ends_with(&[1, 99, 99]));
    // Inward holds for what the output is converted to.
    folder.write("f4.npy", &npy_f32(&[1.0, 0.5]));
    folder.write("hi.npy", &npy_f32(&[0.999]));
    for max in ["0.999", "hi.npy"] {
        folder.done(&format!("clip f4.npy f8.npy --to f16 --max {max} --bounds inward"));
        // The f16 below 0.999, which is not the nearest.
        assert!(folder.read("f8.npy").ends_with(&[0xfd, 0x3b, 0x00, 0x38]), "{max}");
    }
    folder.write("f8.npy", &npy("<f8", false, "()", &99.5f64.to_le_bytes()));
    for (args, message) in [
        ("--min wide.npy", "wide.npy has shape [4], but x.npy has [2, 3]"),
        ("--max folder", "folder is a folder"),
    ] {
        std::fs::create_dir_all(folder.path("folder")).unwrap();
        let outcome = folder.run(&format!("clip x.npy out.npy {args}"));
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains(message), "{outcome:?}");
        assert!(!folder.names().contains(&"out.npy".to_owned()));
    }
}

#[test]
fn gradients_of_bounds_are_written_in_their_shapes() {
    let folder = Folder::new();
    let x = random::<f32>(6 * 50);
    let g: Vec<f32> = (0..300).map(|i| (i as f32).sin()).collect();
    folder.write("x.npy", &npy("<f4", false, "(6, 50)", &bytes(&x)));
    folder.write("g.npy", &npy("<f4", false, "(6, 50)", &bytes(&g)));
    folder.write("hi.npy", &npy("<f4", false, "(50,)", &bytes(&[1.0; 50])));
    let rule = BackwardRule { ties: TieRule::Exclusive, ..BackwardRule::default() };
    let grads: Vec<_> = x
        .iter()
        .zip(&g)
        .map(|(&x, &g)| reference::clip_backward_bounds(x, g, Some(-1.0), Some(1.0), rule))
        .collect();
    let lo = reference::sum(&grads.iter().map(|grads| grads.lo).collect::<Vec<_>>());
    let column = |c: usize| grads.iter().skip(c).step_by(50).map(|grads| grads.hi).collect::<Vec<_>>();
    let hi: Vec<f32> = (0..50).map(|c| reference::sum(&column(c))).collect();
    for device in DEVICES {
        let files = "--min -1 --max hi.npy --min-grad glo.npy --max-grad ghi.npy";
        folder.done(&format!("backward x.npy g.npy gx.npy {files} --ties exclusive --device {device}"));
        assert_eq!(folder.read("glo.npy"), npy("<f4", false, "()", &bytes(&[lo])), "{device}");
        assert_eq!(folder.read("ghi.npy"), npy("<f4", false, "(50,)", &bytes(&hi)), "{device}");
        for (glo, message) in [("./ghi.npy", "written to one file"), ("glo.npz", ".npy or .safetensors")] {
            let files = format!("--min -1 --max hi.npy --min-grad {glo} --max-grad ghi.npy");
            let outcome = folder.run(&format!("backward x.npy g.npy gx.npy {files}"));
            assert!(outcome.code == 1 && outcome.stderr.contains(message), "{outcome:?}");
        }
        let gx = elements(&folder.read("gx.npy"));
        assert!(gx.iter().zip(&grads).all(|(gx, grads)| gx.to_bits() == grads.x.to_bits()), "{device}");
    }
}

fn archive(members: &[(&str, Vec<u8>, CompressionMethod)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content, method) in members {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(*method)).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn member(archive: &[u8], name: &str) -> (Vec<u8>, CompressionMethod) {
    let mut archive = ZipArchive::new(Cursor::new(archive)).unwrap();
    let mut file = archive.by_name(name).unwrap();
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    let method = file.compression();
    (content, method)
}

#[test]
fn npz_archives_keep_what_is_not_clipped() {
    use CompressionMethod::{Deflated, Stored};
    let folder = Folder::new();
    let labels = npy("<U3", false, "(2,)", &[0; 24]);
    let long: Vec<f32> = (0..5000).map(|v| v as f32).collect();
    folder.write(
        "x.npz",
        &archive(&[
            ("a.npy", npy_f32(&[-1.0, 0.5, 2.0]), Stored),
            ("labels.npy", labels.clone(), Stored),
            ("readme.txt", b"as it was".to_vec(), Deflated),
            ("long.npy", npy_f32(&long), Deflated),
            ("u8.npy", npy("|u1", false, "(2,)", &[0, 200]), Stored),
        ]),
    );
    for device in DEVICES {
        folder.done(&format!("clip x.npz y.npz --min 0 --max 1 --tensor a long u8 --device {device}"));
        let y = folder.read("y.npz");
        assert_eq!(member(&y, "a.npy"), (npy_f32(&[0.0, 0.5, 1.0]), Stored));
        assert_eq!(member(&y, "labels.npy"), (labels.clone(), Stored));
        assert_eq!(member(&y, "readme.txt"), (b"as it was".to_vec(), Deflated));
        let clipped: Vec<f32> = long.iter().map(|v| v.min(1.0)).collect();
        assert_eq!(member(&y, "long.npy"), (npy_f32(&clipped), Deflated));
        assert_eq!(member(&y, "u8.npy"), (npy("|u1", false, "(2,)", &[0, 1]), Stored));
    }
    // A gradient for what was clipped; for the others, which nothing clipped, the upstream one.
    folder.write(
        "g.npz",
        &archive(&[("a.npy", npy_f32(&[3.0; 3]), Stored), ("b.npy", npy_f32(&[4.0]), Stored)]),
    );
    folder.done("backward x.npz g.npz gx.npz --min 0 --max 1 --tensor a");
    let gx = folder.read("gx.npz");
    assert_eq!(member(&gx, "a.npy").0, npy_f32(&[0.0, 3.0, 0.0]));
    assert_eq!(member(&gx, "b.npy").0, npy_f32(&[4.0]));

    for (args, message) in [
        (
            "clip x.npz out.npz --min 0 --tensor labels",
            "tensor 'labels', holds elements of type <U3, not f32",
        ),
        ("clip x.npz out.npz --min 0 --tensor b", "holds no tensor 'b': there are a, labels, long, u8"),
        ("clip x.npz out.npy --min 0 --tensor a", "out.npy would hold a .npz file"),
        ("backward x.npz g.npz out.npz --min 0 --tensor u8", "g.npz holds no tensor 'u8'"),
    ] {
        let outcome = folder.run(args);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains(message), "{outcome:?}");
    }
    // A member that does not begin as an array may be a damaged one.
    let mut torn = folder.read("x.npz");
    let magic = torn.windows(6).position(|bytes| bytes == b"\x93NUMPY").unwrap();
    torn[magic] ^= 4;
    folder.write("torn.npz", &torn);
    let outcome = folder.run("clip torn.npz out.npz --min 0");
    assert!(outcome.code == 1 && outcome.stderr.contains("tensor 'a', is damaged"), "{outcome:?}");
    let mut torn = folder.read("x.npz");
    torn[60] ^= 1; // in the header of the first member
    folder.write("torn.npz", &torn);
    assert_eq!(folder.run("clip torn.npz out.npz --min 0 --tensor a").code, 1);
    assert!(!folder.names().iter().any(|name| name.starts_with("out")));
}

#[test]
fn safetensors_files_keep_metadata_and_what_is_not_clipped() {
    let folder = Folder::new();
    let half: Vec<u8> = [-2.0f32, 0.5, 7.0].iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
    let (weights, flags) = (bytes(&[-2.0, 0.25, 2.0, 9.0]), [1u8, 0]);
    let file = safetensors::serialize(
        [
            ("w", TensorView::new(Dtype::F32, vec![2, 2], &weights).unwrap()),
            ("h", TensorView::new(Dtype::BF16, vec![3], &half).unwrap()),
            ("flags", TensorView::new(Dtype::BOOL, vec![2], &flags).unwrap()),
        ],
        Some(HashMap::from([("format".to_owned(), "pt".to_owned())])),
    )
    .unwrap();
    folder.write("m.safetensors", &file);
    for device in DEVICES {
        folder.done(&format!(
            "clip m.safetensors y.safetensors --min -1 --max 1 --tensor w h --device {device}"
        ));
        let y = folder.read("y.safetensors");
        let (_, metadata) = SafeTensors::read_metadata(&y).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        let y = SafeTensors::deserialize(&y).unwrap();
        assert_eq!(y.tensor("w").unwrap().data(), bytes(&[-1.0, 0.25, 1.0, 1.0]), "{device}");
        let clipped: Vec<u8> =
            [-1.0f32, 0.5, 1.0].iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        assert_eq!(y.tensor("h").unwrap().data(), clipped, "{device}");
        assert_eq!(y.tensor("flags").unwrap().data(), flags, "{device}");
    }
    let grad = "backward m.safetensors m.safetensors gx.safetensors --max 1 --tensor h --max-grad";
    folder.done(&format!("{grad} hi.npy"));
    assert_eq!(
        folder.read("hi.npy"),
        npy("<V2", false, "()", &bf16::from_f32(7.0).to_le_bytes()),
        "as ml_dtypes writes it"
    );
    folder.done(&format!("{grad} hi.safetensors"));
    let hi = folder.read("hi.safetensors");
    let hi = SafeTensors::deserialize(&hi).unwrap();
    assert_eq!(hi.tensor("max_grad").unwrap().data(), bf16::from_f32(7.0).to_le_bytes());

    for (content, message) in [
        (&file[..file.len() - 1], "not a .safetensors file"),
        (&file[..20], "not a .safetensors file"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "not a .safetensors file"),
    ] {
        folder.write("bad.safetensors", content);
        let outcome = folder.run("clip bad.safetensors out.safetensors --min 0");
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains(message) && outcome.stderr.lines().count() <= 2, "{outcome:?}");
    }
}

#[test]
fn check_reports_every_operation() {
    let folder = Folder::new();
    let done = folder.done("check --type u8 --device gpu --json --seed 7");
    let report: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let device = &report["devices"][0];
    assert_eq!((&report["seed"], &device["mismatches"]), (&7.into(), &0.into()));
    // Every operation, in each of its forms, less the affine map and conversions, which are for floats, and sums.
    let forms =
        wgclip::op::Op::variants().filter(|(op, _)| op.is_for(wgclip::ElementType::U8, false)).count();
    assert_eq!(device["rows"].as_array().unwrap().len(), forms + 1);
    assert!(device["rows"].as_array().unwrap().iter().all(|row| row["cases"].as_u64() > Some(80_000)));
    assert!(device["builtins"].as_array().unwrap().len() == 2 && device["kind"] != "cpu", "{device}");
    let text = folder.done("check --type i8 --device cpu --op clip,clip_backward_bounds").stdout;
    assert!(text.contains("clip_backward_bounds") && text.contains(" 0 mismatches, "), "{text}");
}

#[test]
fn what_has_no_type_to_numpy_has_no_byte_order() {
    let folder = Folder::new();
    let x = [1.5f32, -2.0, 3.0];
    folder.write("x.npy", &npy(">f4", false, "(3,)", &data(&x, true)));
    for device in DEVICES {
        folder.done(&format!("clip x.npy y.npy --max 2 --to bf16 --device {device}"));
        let expected: Vec<u8> =
            [1.5, -2.0, 2.0].iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        assert_eq!(folder.read("y.npy"), npy("<V2", false, "(3,)", &expected), "{device}");
        folder.done(&format!("clip x.npy y.npy --max 2 --to f16 --device {device}"));
        let expected: Vec<f16> = [1.5, -2.0, 2.0].map(f16::from_f32).to_vec();
        assert_eq!(folder.read("y.npy"), npy(">f2", false, "(3,)", &data(&expected, true)), "{device}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn outputs_are_apart_and_whole() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[1.0, 5.0]));
    folder.write("b.npy", &npy_f32(&[2.0]));
    folder.write("old.npy", b"old");
    symlink("g.npy", folder.path("link.npy")).unwrap();
    symlink(".", folder.path("here")).unwrap();
    let before = folder.names();
    for grad in ["b.npy", "here/x.npy", "link.npy", "here/g.npy", "./x.npy"] {
        let outcome = folder.run(&format!("backward x.npy x.npy g.npy --max b.npy --max-grad {grad}"));
        assert_eq!((outcome.code, folder.names()), (1, before.clone()), "{grad}: {outcome:?}");
    }
    // The gradient of the bound waits for that of x.
    let outcome = folder.run("backward x.npy x.npy /dev/full --max b.npy --max-grad old.npy");
    assert!(outcome.code == 1 && outcome.stderr.contains("/dev/full"), "{outcome:?}");
    assert_eq!(folder.read("old.npy"), b"old");
    let outcome = folder.run("backward x.npy x.npy g.npy --max b.npy --max-grad /dev/full");
    assert!(outcome.code == 1 && outcome.stderr.contains("cannot write /dev/full"), "{outcome:?}");
    assert_eq!(folder.names(), before);

    // What else goes to the file that stdout is comes before and after.
    let mut shell = std::process::Command::new("sh");
    let script = format!(
        "(printf AB; {} clip x.npy - --max 2; printf CD) > both 2> said",
        env!("CARGO_BIN_EXE_wgclip")
    );
    assert!(shell.current_dir(folder.path("")).args(["-c", &script]).status().unwrap().success());
    assert_eq!(folder.read("both"), [b"AB".as_slice(), &npy_f32(&[1.0, 2.0]), b"CD"].concat());
    assert!(folder.read("said").starts_with(b"2 elements: 0 below, 1 above"));
}
