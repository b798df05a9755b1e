//! Conversions by range alone, bounds that a type does not hold, and checkpoints of 8-bit floats.

use safetensors::Dtype;

use crate::files::{Folder, bytes, elements, npy, npy_f32, tensor, write_tensors};

fn halves(bits: &[u16]) -> Vec<u8> {
    bits.iter().flat_map(|bits| bits.to_le_bytes()).collect()
}

#[test]
fn the_range_of_a_type_is_an_interval() {
    let folder = Folder::new();
    let x = [1e9, -1e9, 70_000.0, 65_504.0, f32::INFINITY, f32::NAN, 0.5];
    write_tensors(&folder, "m.safetensors", &[("w", Dtype::F32, bytes(&x))]);
    let expected = halves(&[0x7bff, 0xfbff, 0x7bff, 0x7bff, 0x7c00, 0x7e00, 0x3800]);
    for name in ["f16", "fp16", "float16", "half"] {
        let done = folder.done(&format!("clip m.safetensors o.safetensors --to {name}"));
        assert_eq!(tensor(&folder, "o.safetensors", "w"), expected, "{name}");
        let line = "7 elements: 0 below, 0 above, 1 NaN, 3 saturated to f16; ";
        assert!(done.stdout.starts_with(line), "{done:?}");
    }
    for (bounds, saturated) in [("--max 100", 1), ("--min -1 --max 1", 0), ("--max inf", 3)] {
        let done = folder.done(&format!("clip m.safetensors o.safetensors --to f16 {bounds}"));
        assert!(done.stdout.contains(&format!(", {saturated} saturated to f16; ")), "{done:?}");
    }
    let done = folder.done("clip m.safetensors o.safetensors --to bf16 --min -1");
    assert!(done.stdout.contains("1 below, 0 above, 1 NaN, 0 saturated to bf16"), "{done:?}");
    let done = folder.done("clip m.safetensors o.safetensors --to f8_e4m3fn");
    assert!(done.stdout.contains("1 NaN, 5 saturated to f8_e4m3fn"), "without infinity: {done:?}");
    assert_eq!(folder.run("clip m.safetensors o.safetensors").code, 2, "neither a bound nor a type");
}

#[test]
fn bounds_that_a_type_does_not_hold_are_told_and_may_be_rounded_inward() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[20_878_924.0, 1.0]));
    let done = folder.done("clip x.npy y.npy --max 20878923");
    assert!(done.stderr.contains("becomes 20878924, since there is no 20878923"), "{done:?}");
    let done = folder.done("clip x.npy y.npy --max 20878923 --bounds inward");
    assert_eq!((elements(&folder.read("y.npy")), done.stderr), (vec![20_878_922.0, 1.0], String::new()));
    assert_eq!(folder.done("clip x.npy y.npy --max 0.1").stderr, "", "an ordinary fraction");
    let tensors = [("b", Dtype::BF16, halves(&[0x3f80])), ("e", Dtype::F8_E4M3, vec![0x7e])];
    write_tensors(&folder, "m.safetensors", &tensors);
    let done = folder.done("clip m.safetensors o.safetensors --max .999 --tensor b");
    assert!(done.stderr.contains("becomes 1, beyond what was asked"), "{done:?}");
    assert_eq!(tensor(&folder, "o.safetensors", "b"), halves(&[0x3f80]));
    folder.done("clip m.safetensors o.safetensors --max .999 --tensor b --bounds inward");
    assert_eq!(tensor(&folder, "o.safetensors", "b"), halves(&[0x3f7f]));
    let done = folder.done("clip m.safetensors o.safetensors --max .001 --tensor e");
    assert!(done.stderr.contains("becomes 0.001953125, beyond what was asked"), "{done:?}");
    folder.done("clip m.safetensors o.safetensors --max .001 --tensor e --bounds inward");
    assert_eq!(tensor(&folder, "o.safetensors", "e"), [0]);
    // Of a file too.
    folder.write("hi.npy", &npy_f32(&[0.999]));
    folder.done("clip m.safetensors o.safetensors --max hi.npy --tensor b --bounds inward");
    assert_eq!(tensor(&folder, "o.safetensors", "b"), halves(&[0x3f7f]));
    folder.write("i.npy", &npy("|i1", false, "(2,)", &[5, 253]));
    folder.done("clip i.npy j.npy --min -2.5 --max 2.5 --bounds inward");
    assert_eq!(folder.read("j.npy"), npy("|i1", false, "(2,)", &[2, 254]));
}

#[test]
fn floats_with_a_scale_beside_them_are_not_clipped_by_mistake() {
    let folder = Folder::new();
    for scale in ["l.weight_scale", "l.weight_scale_inv", "l.scale_weight"] {
        let tensors = [("l.weight", Dtype::F8_E4M3, vec![0x7e]), (scale, Dtype::F32, bytes(&[1e-3]))];
        write_tensors(&folder, "m.safetensors", &tensors);
        for command in
            ["clip m.safetensors o.safetensors --max 1", "clip-norm m.safetensors o.safetensors --max 1"]
        {
            let outcome = folder.run(command);
            assert_eq!(outcome.code, 1, "{outcome:?}");
            assert!(outcome.stderr.contains(&format!("scaled by '{scale}'")), "{outcome:?}");
        }
        folder.done("clip m.safetensors o.safetensors --max 1 --tensor l.weight");
        assert_eq!(tensor(&folder, "o.safetensors", "l.weight"), [0x38]);
    }
    write_tensors(
        &folder,
        "m.safetensors",
        &[("l.weight", Dtype::F8_E4M3, vec![0x7e]), ("bias", Dtype::F32, bytes(&[2.0]))],
    );
    folder.done("clip m.safetensors o.safetensors --max 1");
}

#[test]
fn names_of_numpy_and_torch_are_known() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[3.0, -4.0]));
    for (kind, norm) in [("1", "7"), ("2", "5"), ("inf", "4"), ("l2", "5")] {
        assert!(
            folder.done(&format!("norm x.npy --kind {kind}")).stdout.contains(&format!(" {norm} ")),
            "{kind}"
        );
    }
    for preset in ["jax", "keras", "torch"] {
        folder.done(&format!("clip-norm x.npy y.npy --max 1 --like {preset}"));
    }
}
