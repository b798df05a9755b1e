//! Burn's own operations, which take over where the kernels do not run: the values of the reference.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use wgclip::{BackwardRule, reference};
use wgclip_burn::ops::{Bound, composed};

use crate::support::{normal, random};

fn flex(elements: &[f32], dims: [usize; 2]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(elements.to_vec(), dims))
}

fn same(made: FlexTensor, expected: &[f32], what: &str) {
    let made: Vec<f32> = made.into_data().try_into_vec().unwrap();
    for (n, (made, expected)) in made.iter().zip(expected).enumerate() {
        let close = (made - expected).abs() <= 1e-5 * expected.abs();
        assert!(
            made == expected || close || made.is_nan() && expected.is_nan(),
            "{what}, {n}: {made}, {expected}"
        );
    }
}

#[test]
fn values_and_gradients_are_those_of_the_rule() {
    let rng = &mut fastrand::Rng::with_seed(8);
    let dims = [31, 8];
    let x = random::<f32>(248, rng);
    let g = normal::<f32>(248, rng);
    let mut bounds: Vec<f32> = normal(8, rng);
    bounds[3] = f32::NAN;
    for (lo, hi) in [(Some(0.0), None), (None, Some(1.0)), (Some(0.0), Some(1.0)), (Some(1.0), Some(-1.0))] {
        for (tensor_lo, tensor_hi) in [(false, false), (true, false), (false, true)] {
            let of =
                |n: usize, value: Option<f32>, tensor: bool| if tensor { Some(bounds[n % 8]) } else { value };
            let bound = |value: Option<f32>, tensor: bool| match (value, tensor) {
                (_, true) => Bound::<Flex>::Tensor(flex(&bounds, [1, 8])),
                (Some(value), _) => Bound::Value(value.into()),
                (None, _) => Bound::Absent,
            };
            let (of_lo, of_hi) = (bound(lo, tensor_lo), bound(hi, tensor_hi));
            let y = composed::clip::<Flex>(flex(&x, dims), &of_lo, &of_hi);
            let expected: Vec<f32> =
                (0..248).map(|n| reference::clip(x[n], of(n, lo, tensor_lo), of(n, hi, tensor_hi))).collect();
            same(y, &expected, "clip");
            for rule in BackwardRule::all() {
                let needs = [true, tensor_lo, tensor_hi];
                let [gx, glo, ghi] = composed::clip_backward::<Flex>(
                    flex(&x, dims),
                    flex(&g, dims),
                    &of_lo,
                    &of_hi,
                    rule,
                    needs,
                );
                let all: Vec<_> = (0..248)
                    .map(|n| {
                        let (lo, hi) = (of(n, lo, tensor_lo), of(n, hi, tensor_hi));
                        reference::clip_backward_bounds(x[n], g[n], lo, hi, rule)
                    })
                    .collect();
                same(
                    gx.expect("no gradient of x"),
                    &all.iter().map(|all| all.x).collect::<Vec<_>>(),
                    &format!("x by {rule}"),
                );
                for (made, tensor, side) in [(glo, tensor_lo, 0), (ghi, tensor_hi, 1)] {
                    let Some(made) = made else {
                        assert!(!tensor, "no gradient of a bound");
                        continue;
                    };
                    let part = |c: usize| {
                        let parts = all.iter().skip(c).step_by(8).map(|all| [all.lo, all.hi][side]);
                        parts.map(f64::from).sum::<f64>() as f32
                    };
                    let expected: Vec<f32> = (0..8).map(part).collect();
                    let made: Vec<f32> = made.into_data().try_into_vec().unwrap();
                    for (made, expected) in made.iter().zip(&expected) {
                        assert!((made - expected).abs() < 1e-3, "bound {side} by {rule}: {made}, {expected}");
                    }
                }
            }
        }
    }
}
