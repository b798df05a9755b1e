//! Held to the reference, to the bit.

use candle_core::{DType, Device, Tensor, Var};
use wgclip::{BackwardRule, Element, NonFinitePolicy, NormKind, NormLimit, bf16, f16, reference};

use super::{clip, clip_by_global_norm, gradient};

/// Bits of any kind, from a fixed seed.
fn numbers(rng: &mut fastrand::Rng, len: usize) -> Vec<f32> {
    let special = [0.0, -0.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-45, 0.25];
    (0..len).map(|_| if rng.bool() { special[rng.usize(..8)] } else { f32::from_bits(rng.u32(..)) }).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_clip_and_its_gradient_are_the_reference_s() {
    let rng = &mut fastrand::Rng::with_seed(1);
    let (lo, hi) = (0.25f32, 1.0f32);
    for rule in BackwardRule::all() {
        let (data, upstream) = (numbers(rng, 1003), numbers(rng, 1003));
        let x = Var::new(&data[..], &Device::Cpu).unwrap();
        let g = Tensor::new(&upstream[..], &Device::Cpu).unwrap();
        let clipped = clip(&x, Some(lo.into()), Some(hi.into()), rule).unwrap();
        let expected: Vec<_> = data.iter().map(|&x| reference::clip(x, Some(lo), Some(hi))).collect();
        assert_eq!(bits(&clipped.to_vec1().unwrap()), bits(&expected));
        // candle adds what arrives to +0: a -0 is lost on the way, and the payload of a NaN.
        let gx = gradient(&x, &g, |x| clip(x, Some(lo.into()), Some(hi.into()), rule)).unwrap();
        let gx = gx.to_vec1::<f32>().unwrap();
        for ((&x, &g), gx) in data.iter().zip(&upstream).zip(gx) {
            let expected = reference::clip_backward(x, g, Some(lo), Some(hi), rule);
            assert!(gx == expected || gx.is_nan() && expected.is_nan(), "{x} {g} {rule}: {gx}");
        }
    }
}

#[test]
fn every_type_and_a_view_are_clipped() {
    fn check<T: Element + candle_core::WithDType>() {
        let data: Vec<T> = (0..12).map(|n| <T as Element>::from_f64(f64::from(n))).collect();
        let x = Tensor::from_vec(data, (3, 4), &Device::Cpu).unwrap();
        let view = x.t().unwrap().narrow(0, 1, 2).unwrap();
        let clipped = clip(&view, Some(2.0), Some(6.0), BackwardRule::default()).unwrap();
        let values: Vec<f64> = clipped
            .flatten_all()
            .unwrap()
            .to_vec1::<T>()
            .unwrap()
            .iter()
            .map(|value| Element::to_f64(*value))
            .collect();
        assert_eq!((clipped.dims(), values), (&[2, 3][..], vec![2.0, 5.0, 6.0, 2.0, 6.0, 6.0]));
    }
    check::<u8>();
    check::<u32>();
    check::<i16>();
    check::<i32>();
    check::<i64>();
    check::<bf16>();
    check::<f16>();
    check::<f32>();
    check::<f64>();
    let integers = Tensor::new(&[1i64, 2], &Device::Cpu).unwrap();
    assert!(
        clip(&integers, Some(0.5), None, BackwardRule::default()).is_err(),
        "a fraction bounds no integers"
    );
    let crossed = clip(&integers, Some(3.0), Some(2.0), BackwardRule::default()).unwrap();
    assert_eq!(crossed.to_vec1::<i64>().unwrap(), [2, 2]);
}

#[test]
fn gradients_are_clipped_by_their_exact_norm() {
    let device = &Device::Cpu;
    // Their squares overflow f32, and those of f16 do.
    let a = Var::new(&[0f32; 2], device).unwrap();
    let b = Var::from_tensor(&Tensor::new(&[f16::ZERO], device).unwrap()).unwrap();
    let mut grads = (a.sum_all().unwrap() + b.to_dtype(DType::F32).unwrap().sum_all().unwrap())
        .unwrap()
        .backward()
        .unwrap();
    grads.insert(&a, Tensor::new(&[3e20f32, 0.0], device).unwrap());
    grads.insert(&b, Tensor::new(&[f16::from_f32(-6e4)], device).unwrap());
    let vars = [a.clone(), b.clone(), a.clone()];
    let expected = reference::norm(&[3e20f32, 0.0, -6e4], NormKind::L2);
    let norm = clip_by_global_norm(&vars, &mut grads, NormLimit::new(1.0)).unwrap();
    assert_eq!(norm.to_bits(), expected.to_bits());
    let clipped = grads.get(&a).unwrap().to_vec1::<f32>().unwrap();
    assert!((clipped[0] - 1.0).abs() < 1e-6, "once: {clipped:?}");

    grads.insert(&a, Tensor::new(&[f32::NAN, 1.0], device).unwrap());
    let limit = NormLimit::new(1.0).nonfinite(NonFinitePolicy::Error);
    assert!(clip_by_global_norm(&vars, &mut grads, limit).is_err());
    assert_eq!(grads.get(&a).unwrap().to_vec1::<f32>().unwrap()[1], 1.0, "nothing is changed");
    let limit = NormLimit::new(1.0).nonfinite(NonFinitePolicy::Zero);
    clip_by_global_norm(&vars, &mut grads, limit).unwrap();
    assert_eq!(grads.get(&a).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0]);
}
