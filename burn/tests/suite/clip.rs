//! Clipping, forward and backward, to the bit.

use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor};
use wgclip::{BackwardRule, Element, OutsideRule, TieRule, bf16, f16, reference};
use wgclip_burn::op::Op;
use wgclip_burn::ops::{Bound, Broadcast, Call, ClipOps, Optional};
use wgclip_burn::{clip, clip_keeping_mask, clip_with};

use crate::support::{Float, LENGTHS, bits, bound, devices, elements, normal, random, tensor};

const VALUES: [(Option<f64>, Option<f64>); 5] =
    [(Some(0.0), Some(1.0)), (Some(-0.5), None), (None, Some(1.0)), (Some(1.0), Some(-1.0)), (None, None)];

fn values_of<T: Float>() {
    let rng = &mut fastrand::Rng::with_seed(1);
    for device in devices() {
        for len in LENGTHS {
            let x = random::<T>(len, rng);
            for (lo, hi) in VALUES {
                let y = clip(tensor(&x, [len], &device), (lo, hi)).unwrap();
                let (lo, hi) = (lo.map(<T as Element>::from_f64), hi.map(<T as Element>::from_f64));
                let expected: Vec<T> = x.iter().map(|&x| reference::clip(x, lo, hi)).collect();
                assert_eq!(bits(&elements::<T, 1>(y)), bits(&expected), "{len} between {lo:?} and {hi:?}");
            }
        }
    }
}

#[test]
fn values_of_f32() {
    values_of::<f32>();
}

#[test]
fn values_of_f16() {
    values_of::<f16>();
}

#[test]
fn values_of_bf16() {
    values_of::<bf16>();
}

/// The element of a bound of shape `dims` that belongs to element (r, c) of a matrix.
fn at<T: Copy>(bound: &[T], dims: [usize; 2], r: usize, c: usize) -> T {
    bound[(if dims[0] == 1 { 0 } else { r }) * dims[1] + if dims[1] == 1 { 0 } else { c }]
}

/// Shapes of bounds that broadcast to a matrix: one, of rows, of columns, of all.
fn shapes(rows: usize, columns: usize) -> [[usize; 2]; 4] {
    [[1, 1], [rows, 1], [1, columns], [rows, columns]]
}

fn tensors_of<T: Float>() {
    let rng = &mut fastrand::Rng::with_seed(2);
    for device in devices() {
        for (rows, columns) in [(1, 1), (3, 5), (7, 16), (130, 257)] {
            let x = random::<T>(rows * columns, rng);
            let of_x = [rows, columns];
            for dims in shapes(rows, columns) {
                let lo = random::<T>(dims[0] * dims[1], rng);
                let hi = random::<T>(dims[0] * dims[1], rng);
                let bounds = (tensor(&lo, dims, &device), tensor(&hi, dims, &device));
                let y = clip(tensor(&x, of_x, &device), bounds).unwrap();
                let one = |n: usize| {
                    let (r, c) = (n / columns, n % columns);
                    reference::clip(x[n], Some(at(&lo, dims, r, c)), Some(at(&hi, dims, r, c)))
                };
                let expected: Vec<T> = (0..x.len()).map(one).collect();
                assert_eq!(bits(&elements::<T, 2>(y)), bits(&expected), "{of_x:?} between {dims:?}");
            }
        }
    }
}

#[test]
fn tensors_of_bounds() {
    tensors_of::<f32>();
    tensors_of::<f16>();
    tensors_of::<bf16>();
}

/// The gradients of x and the bounds, for an upstream gradient.
fn gradients<const D: usize>(
    [x, g]: [Tensor<D>; 2],
    bounds: [Bound<Dispatch>; 2],
    rule: BackwardRule,
    needs: [bool; 3],
) -> [Option<Tensor<D>>; 4] {
    let call = Call::new(Op::Clip, rule).backward(needs[0], [needs[1], needs[2], false, false]).unwrap();
    let g = Optional::Some(g.into_dispatch());
    let made = Dispatch::run(x.into_dispatch(), g, Broadcast::new(bounds), call).into_array();
    made.map(|gradient| gradient.map(Tensor::from_dispatch))
}

/// The gradients of every rule, of upstream gradients of any bits.
fn rules_of<T: Float>() {
    let rng = &mut fastrand::Rng::with_seed(3);
    for device in devices() {
        for len in [1, 5, 17, 1000, 4097] {
            let (x, g) = (random::<T>(len, rng), random::<T>(len, rng));
            for rule in BackwardRule::all() {
                let (lo, hi) = (Some(<T as Element>::from_f64(0.0)), Some(<T as Element>::from_f64(1.0)));
                let operands = [&x, &g].map(|of| tensor(of, [len], &device));
                let [gx, ..] = gradients(operands, [bound(lo), bound(hi)], rule, [true, false, false]);
                let one = |(&x, &g): (&T, &T)| reference::clip_backward(x, g, lo, hi, rule);
                let expected: Vec<T> = x.iter().zip(&g).map(one).collect();
                assert_eq!(bits(&elements::<T, 1>(gx.unwrap())), bits(&expected), "{len} by {rule}");
            }
        }
    }
}

#[test]
fn gradients_by_every_rule() {
    rules_of::<f32>();
    rules_of::<f16>();
    rules_of::<bf16>();
}

/// The gradients of bounds that are tensors: exact sums.
fn bounds_of<T: Float>() {
    let rng = &mut fastrand::Rng::with_seed(4);
    let (rows, columns) = (37, 24);
    for device in devices() {
        let (x, g) = (random::<T>(rows * columns, rng), random::<T>(rows * columns, rng));
        for rule in BackwardRule::all() {
            for dims in shapes(rows, columns) {
                let lo = normal::<T>(dims[0] * dims[1], rng);
                let hi = normal::<T>(dims[0] * dims[1], rng);
                let operands = [&x, &g].map(|of| tensor(of, [rows, columns], &device));
                let bounds = [&lo, &hi].map(|of| Bound::from(tensor(of, dims, &device)));
                let [gx, glo, ghi, _] = gradients(operands, bounds, rule, [true; 3]);
                let one = |n: usize| {
                    let (r, c) = (n / columns, n % columns);
                    let (lo, hi) = (at(&lo, dims, r, c), at(&hi, dims, r, c));
                    reference::clip_backward_bounds(x[n], g[n], Some(lo), Some(hi), rule)
                };
                let all: Vec<_> = (0..x.len()).map(one).collect();
                let expected: Vec<T> = all.iter().map(|all| all.x).collect();
                assert_eq!(
                    bits(&elements::<T, 2>(gx.unwrap())),
                    bits(&expected),
                    "x between {dims:?} by {rule}"
                );
                for (gradient, side) in [(glo, 0), (ghi, 1)] {
                    let mut parts = vec![Vec::new(); dims[0] * dims[1]];
                    for (n, all) in all.iter().enumerate() {
                        let r = if dims[0] == 1 { 0 } else { n / columns };
                        let c = if dims[1] == 1 { 0 } else { n % columns };
                        parts[r * dims[1] + c].push(if side == 0 { all.lo } else { all.hi });
                    }
                    let expected: Vec<T> = parts.iter().map(|parts| reference::sum(parts)).collect();
                    let made = bits(&elements::<T, 2>(gradient.unwrap()));
                    assert_eq!(made, bits(&expected), "bound {side} of {dims:?} by {rule}");
                }
            }
        }
    }
}

#[test]
fn gradients_of_bounds() {
    bounds_of::<f32>();
    bounds_of::<f16>();
    bounds_of::<bf16>();
}

/// What a loss sends back through Burn's autodiff.
#[test]
fn autodiff_passes_the_gradients_on() {
    let rng = &mut fastrand::Rng::with_seed(5);
    for device in devices() {
        let device = device.autodiff();
        let (x, g) = (normal::<f32>(1003, rng), normal::<f32>(1003, rng));
        let (low, high) = ([-1.5f32], [1.25f32]);
        for rule in BackwardRule::all() {
            let leaf = tensor(&x, [1003], &device).require_grad();
            let lo = tensor(&low, [1], &device).require_grad();
            let hi = tensor(&high, [1], &device).require_grad();
            let y = clip_with(leaf.clone(), (&lo, &hi), rule).unwrap();
            let loss = (y * tensor(&g, [1003], &device)).sum();
            let grads = loss.backward();
            let all: Vec<_> = (0..x.len())
                .map(|n| reference::clip_backward_bounds(x[n], g[n], Some(low[0]), Some(high[0]), rule))
                .collect();
            let expected: Vec<f32> = all.iter().map(|all| all.x).collect();
            assert_eq!(bits(&elements::<f32, 1>(leaf.grad(&grads).unwrap())), bits(&expected), "{rule}");
            for (bound, parts) in [
                (lo, all.iter().map(|all| all.lo).collect::<Vec<_>>()),
                (hi, all.iter().map(|all| all.hi).collect()),
            ] {
                let made = elements::<f32, 1>(bound.grad(&grads).unwrap());
                assert_eq!(bits(&made), bits(&[reference::sum(&parts)]), "{rule}");
            }
        }
    }
}

/// What needs no gradient gets none, and what does gets it all the same.
#[test]
fn operands_are_tracked_one_by_one() {
    for device in devices() {
        let device = device.autodiff();
        for tracked in 0..8 {
            let leaf = |value: f32, n: u32| {
                let leaf = tensor(&[value], [1], &device);
                if tracked >> n & 1 == 1 { leaf.require_grad() } else { leaf }
            };
            let (x, lo, hi) = (leaf(7.0, 0), leaf(0.0, 1), leaf(6.0, 2));
            let y = clip(x.clone(), (&lo, &hi)).unwrap();
            assert_eq!(elements::<f32, 1>(y.clone()), [6.0]);
            if tracked == 0 {
                continue;
            }
            let grads = (y * 3.0).sum().backward();
            for (leaf, n, expected) in [(x, 0, 0.0), (lo, 1, 0.0), (hi, 2, 3.0)] {
                let gradient = leaf.grad(&grads).map(elements::<f32, 1>);
                let expected = (tracked >> n & 1 == 1).then(|| vec![expected]);
                assert_eq!(gradient, expected, "operand {n} of {tracked:03b}");
            }
        }
    }
}

/// A mask gives what x would.
#[test]
fn a_mask_tells_the_gradient() {
    let rng = &mut fastrand::Rng::with_seed(6);
    for device in devices() {
        for len in LENGTHS {
            let (x, g) = (random::<f32>(len, rng), random::<f32>(len, rng));
            for rule in BackwardRule::all() {
                let leaf = tensor(&x, [len], &device.clone().autodiff()).require_grad();
                let made = clip_keeping_mask(leaf, 0.0..=1.0, rule);
                assert_eq!(made.is_ok(), rule.fits_mask(), "{rule}");
                if rule.is_identity() || made.is_err() {
                    continue;
                }
                let (lo, hi) = (Some(0.0), Some(1.0));
                let of_x = tensor(&x, [len], &device).into_dispatch();
                let masked = Dispatch::clip_with_mask(of_x, bound(lo), bound(hi), rule);
                let y = elements::<f32, 1>(Tensor::from_dispatch(masked.y));
                let expected: Vec<f32> = x.iter().map(|&x| reference::clip(x, lo, hi)).collect();
                assert_eq!(bits(&y), bits(&expected), "{len}");
                let gx = Dispatch::mask_backward(tensor(&g, [len], &device).into_dispatch(), masked.mask);
                let one = |(&x, &g): (&f32, &f32)| reference::clip_backward(x, g, lo, hi, rule);
                let expected: Vec<f32> = x.iter().zip(&g).map(one).collect();
                let made = elements::<f32, 1>(Tensor::from_dispatch(gx));
                assert_eq!(bits(&made), bits(&expected), "{len} by {rule}");
            }
        }
    }
}

/// A mask tells nothing of bounds: those that may receive a gradient do.
#[test]
fn bounds_of_a_mask_receive_their_gradients() {
    for device in devices() {
        let device = device.autodiff();
        let (x, hi) =
            (tensor(&[1.0f32, 7.0, 8.0], [3], &device), tensor(&[6.0f32], [1], &device).require_grad());
        let y = clip_keeping_mask(x, (0.0, &hi), BackwardRule::default()).unwrap();
        assert_eq!(elements::<f32, 1>(hi.grad(&(y * 3.0).sum().backward()).unwrap()), [6.0]);
    }
}

#[test]
fn a_mask_is_kept_by_autodiff() {
    for device in devices() {
        let device = device.autodiff();
        let x = tensor(&[-1.0f32, 0.0, 0.5, 1.0, 2.0], [5], &device).require_grad();
        let y = clip_keeping_mask(x.clone(), 0.0..=1.0, BackwardRule::default()).unwrap();
        let grads = (y * 3.0).sum().backward();
        assert_eq!(elements::<f32, 1>(x.grad(&grads).unwrap()), [0.0, 3.0, 3.0, 3.0, 0.0]);
    }
}

/// Views, and work that has not been done yet.
#[test]
fn views_and_pending_work() {
    let rng = &mut fastrand::Rng::with_seed(7);
    for device in devices() {
        let (rows, columns) = (70, 129);
        let x = normal::<f32>(rows * columns, rng);
        let one = |x: f32| reference::clip(x, Some(-1.0), Some(1.0));
        let whole = tensor(&x, [rows, columns], &device);
        let clipped = |x: Tensor<2>| elements::<f32, 2>(clip(x, -1.0..=1.0).unwrap());
        for (from, to) in [(0, 1), (1, 3), (64, 70), (3, 69)] {
            let made = clipped(whole.clone().slice([from..to, 0..columns]));
            let expected: Vec<f32> = x[from * columns..to * columns].iter().map(|&x| one(x)).collect();
            assert_eq!(bits(&made), bits(&expected), "rows {from} to {to}");
            let made = clipped(whole.clone().slice([0..rows, from..to]));
            let expected: Vec<f32> = (0..rows)
                .flat_map(|r| x[r * columns + from..r * columns + to].iter().map(|&x| one(x)))
                .collect();
            assert_eq!(bits(&made), bits(&expected), "columns {from} to {to}");
        }
        let made = clipped(whole.clone().transpose());
        let expected: Vec<f32> = (0..rows * columns).map(|n| one(x[n % rows * columns + n / rows])).collect();
        assert_eq!(bits(&made), bits(&expected), "transposed");
        // Quarters, so that every device computes the same.
        let quarters: Vec<f32> = x.iter().map(|x| (x * 4.0).round() / 4.0).collect();
        let pending = tensor(&quarters, [rows, columns], &device) * 2.0 + 1.0;
        let made = clipped(pending.clone());
        let expected: Vec<f32> = quarters.iter().map(|x| one(x * 2.0 + 1.0)).collect();
        assert_eq!(bits(&made), bits(&expected), "pending");
        // What was clipped is as it was.
        let kept: Vec<f32> = quarters.iter().map(|x| x * 2.0 + 1.0).collect();
        assert_eq!(bits(&elements::<f32, 2>(pending)), bits(&kept));
    }
}

/// Slices of 16-bit floats begin in the middle of a word, and tensors of bounds may be views too.
#[test]
fn views_of_bounds_and_of_other_types() {
    let flex = Device::flex();
    let x: Vec<bf16> = (0..100).map(|n| bf16::from_f32(n as f32 / 10.0)).collect();
    let y = clip(tensor(&x, [100], &flex).narrow(0, 1, 97), 2.0..=5.0).unwrap();
    let expected: Vec<bf16> =
        x[1..98].iter().map(|x| x.clamp(bf16::from_f32(2.0), bf16::from_f32(5.0))).collect();
    assert_eq!(bits(&elements::<bf16, 1>(y)), bits(&expected));
    for device in devices() {
        let x = tensor(&[-9.0f32, -1.0, 0.0, 1.0, 9.0, 2.0], [2, 3], &device);
        let hi = tensor(&[0.5f32, 7.0, 1.5, 7.0, 2.5, 7.0], [3, 2], &device).slice([0..3, 0..1]).transpose();
        assert_eq!(elements::<f32, 2>(clip(x, (-2.0, hi)).unwrap()), [-2.0, -1.0, 0.0, 0.5, 1.5, 2.0]);
    }
}

#[test]
fn nothing_is_clipped_to_nothing() {
    for device in devices() {
        let x = Tensor::<2>::zeros([0, 3], &device.clone().autodiff()).require_grad();
        let hi = tensor(&[1.0f32], [1], &device.autodiff()).require_grad();
        let y = clip(x, (0.0, &hi)).unwrap();
        assert_eq!(y.dims(), [0, 3]);
        let gradient = hi.grad(&y.sum().backward()).unwrap();
        assert_eq!(elements::<f32, 1>(gradient), [0.0]);
    }
}

/// Straight through, the gradient is not even looked at.
#[test]
fn straight_through_keeps_any_gradient() {
    let rule =
        BackwardRule { outside: OutsideRule::StraightThrough, ties: TieRule::Half, ..Default::default() };
    for device in devices() {
        let device = device.autodiff();
        let x = tensor(&[-5.0f32, 0.5, 5.0], [3], &device).require_grad();
        let y = clip_with(x.clone(), 0.0..=1.0, rule).unwrap();
        let g = tensor(&[f32::INFINITY, 2.0, -3.0], [3], &device);
        let gradient = x.grad(&(y * g).sum().backward()).unwrap();
        assert_eq!(elements::<f32, 1>(gradient), [f32::INFINITY, 2.0, -3.0]);
    }
}
