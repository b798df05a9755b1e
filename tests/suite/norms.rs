//! Clipping by norm as its users meet it: sharing, mistakes, what is not finite, and that nothing waits for the device.

use std::sync::OnceLock;

use wgclip::gpu::Adapter;
use wgclip::norm::{AnyTensor, NormState, global_norm, scale_in_place};
use wgclip::reference::Scaling;
use wgclip::{Device, Error, NonFinitePolicy, NormKind, NormLimit, clip_by_global_norm, f16, reference};

use crate::devices::{Suite, open};

fn a_list_is_clipped_in_place_and_clones_keep_theirs(device: Device) {
    let mut x = device.tensor(&[3.0f32, 0.0], [2]).unwrap();
    let mut half = device.tensor(&[f16::from_f32(-4.0)], [1, 1]).unwrap();
    let mut empty = device.tensor::<f32>(&[], [0, 3]).unwrap();
    let kept = x.clone();
    let norm = clip_by_global_norm(&mut [&mut x, &mut half, &mut empty], 2.5).unwrap();
    assert_eq!(norm.value().unwrap(), 5.0, "{device:?}");
    assert_eq!(x.to_vec().unwrap(), [1.5, 0.0], "{device:?}");
    assert_eq!(half.to_vec().unwrap(), [f16::from_f32(-2.0)], "{device:?}");
    assert_eq!(kept.to_vec().unwrap(), [3.0, 0.0], "{device:?}");
    let again = clip_by_global_norm(&mut [&mut x, &mut half], 2.5).unwrap();
    assert_eq!((again.value().unwrap(), x.to_vec().unwrap()), (2.5, vec![1.5, 0.0]), "{device:?}");
    let mut y = kept.clone();
    y.clip_by_norm_in_place(1.5).unwrap();
    assert_eq!((y.to_vec().unwrap(), kept.to_vec().unwrap()), (vec![1.5, 0.0], vec![3.0, 0.0]), "{device:?}");
}

fn a_norm_that_is_not_finite_may_be_an_error(device: Device) {
    let (bad, limit) = ([f32::NAN, 1.0], NormLimit::new(1.0).nonfinite(NonFinitePolicy::Error));
    let (mut x, mut good) = (device.tensor(&bad, [2]).unwrap(), device.tensor(&[3.0f32], [1]).unwrap());
    let on_gpu = device.info().limits.is_some();
    let clipped = clip_by_global_norm(&mut [&mut x, &mut good], limit);
    let is_reported = |error: Error| matches!(error, Error::NonFiniteNorm { .. });
    match clipped {
        // Whatever is read next says so, once.
        Ok(_) => assert!(on_gpu && good.to_vec().is_err_and(is_reported), "{device:?}"),
        Err(error) => assert!(!on_gpu && is_reported(error), "{device:?}"),
    }
    assert_eq!(good.to_vec().unwrap(), [3.0], "{device:?}");
    assert_eq!(x.to_vec().unwrap().map_bits(), bad.map(f32::to_bits), "{device:?}");
    // A finite norm is none.
    let norm = clip_by_global_norm(&mut [&mut good], limit).unwrap();
    assert_eq!((norm.value().unwrap(), good.to_vec().unwrap()), (3.0, vec![1.0]), "{device:?}");
    device.wait().unwrap();
}

trait MapBits {
    fn map_bits(&self) -> Vec<u32>;
}

impl MapBits for Vec<f32> {
    fn map_bits(&self) -> Vec<u32> {
        self.iter().map(|value| value.to_bits()).collect()
    }
}

fn mistakes_are_errors_and_change_nothing(device: Device) {
    let mut x = device.tensor(&[3.0f32, 4.0], [2]).unwrap();
    for limit in [NormLimit::new(-1.0), NormLimit::new(f64::NAN), NormLimit::new(1.0).eps(-1.0)] {
        assert!(matches!(x.clip_by_norm(limit, ..), Err(Error::InvalidLimit { .. })), "{device:?}");
        let clipped = clip_by_global_norm(&mut [&mut x], limit);
        assert!(matches!(clipped, Err(Error::InvalidLimit { .. })), "{device:?}");
    }
    assert!(matches!(x.norm(NormKind::L1, [1]), Err(Error::InvalidAxes { .. })), "{device:?}");
    assert!(matches!(x.sum([0, 0]), Err(Error::InvalidAxes { .. })), "{device:?}");
    let integers = device.tensor(&[3i32], [1]).unwrap();
    assert!(matches!(integers.norm(NormKind::Max, ..), Err(Error::Unsupported { .. })), "{device:?}");
    let norm = global_norm(&[&x], NormKind::L2).unwrap();
    assert!(matches!(norm.to_tensor::<f64>(), Err(Error::TypeMismatch { .. })), "{device:?}");
    let doubles = device.tensor(&[3.0f64, -4.0], [2]).unwrap();
    match doubles.norm(NormKind::L2, ..) {
        Ok(norm) => assert_eq!((norm.to_vec().unwrap(), device.info().limits.is_none()), (vec![5.0], true)),
        Err(error) => assert!(matches!(error, Error::Unsupported { .. }), "{device:?}: {error}"),
    }
    assert_eq!(x.to_vec().unwrap(), [3.0, 4.0], "{device:?}");
}

/// What changes the norm is taken off the gradient, at any size of the elements; within the limit nothing is.
fn the_gradient_is_that_of_the_expression(device: Device) {
    let upstream = device.tensor(&[1.0f32, -0.0], [2]).unwrap();
    let gradient = |x: [f32; 2], limit: NormLimit| {
        let x = device.tensor(&x, [2]).unwrap();
        x.clip_by_norm_backward(&upstream, limit, ..).and_then(|gx| gx.to_vec())
    };
    for size in [1.0, 1e30, 1e37, 1e-30, 1e-40] {
        let x = [6.0f32 * size, 8.0 * size];
        // Half of it is left, but for what is along x.
        let [left, right] = gradient(x, NormLimit::new(5.0 * f64::from(size))).unwrap()[..] else { panic!() };
        assert!(
            (left - 0.32).abs() < 1e-5 && (right + 0.24).abs() < 1e-5,
            "{left} {right} {size} {device:?}"
        );
        // To a norm of 5, whatever it was.
        let gx = gradient(x, NormLimit::new(5.0));
        let [left, right] = gx.unwrap().try_into().unwrap();
        let expected = if size < 1.0 { [1.0, 0.0] } else { [0.32 / size, -0.24 / size] };
        assert!((left - expected[0]).abs() <= 1e-5 * expected[0], "{left} {size} {device:?}");
        assert!((right - expected[1]).abs() <= 1e-5 * expected[0], "{right} {size} {device:?}");
    }
    let kept = [1.0f32, -0.0].map(f32::to_bits);
    for (x, limit) in [([6.0, 8.0], 10.0), ([0.0, 0.0], 0.0), ([1e38, -3e38], f64::INFINITY)] {
        let gx = gradient(x, NormLimit::new(limit)).unwrap();
        assert_eq!(gx.map_bits(), kept, "{x:?} {device:?}");
    }
    let infinite = [f32::NEG_INFINITY, 1.0];
    let policy = |policy| gradient(infinite, NormLimit::new(1.0).nonfinite(policy));
    assert!(policy(NonFinitePolicy::Propagate).unwrap().iter().all(|gx| gx.is_nan()), "{device:?}");
    assert_eq!(policy(NonFinitePolicy::Zero).unwrap().map_bits(), [0, 0], "{device:?}");
    assert_eq!(policy(NonFinitePolicy::Skip).unwrap().map_bits(), kept, "{device:?}");
    assert!(matches!(policy(NonFinitePolicy::Error), Err(Error::NonFiniteNorm { .. })), "{device:?}");
    let other = gradient([1.0, 2.0], NormLimit::new(1.0).kind(NormKind::L1));
    assert!(matches!(other, Err(Error::Unsupported { .. })), "{device:?}");
    let other = device.tensor(&[1.0f32; 3], [3]).unwrap().clip_by_norm_backward(&upstream, 1.0, ..);
    assert!(matches!(other, Err(Error::ShapeMismatch { .. })), "{device:?}");
    let other = Device::cpu().tensor(&[1.0f32; 2], [2]).unwrap().clip_by_norm_backward(&upstream, 1.0, ..);
    assert_eq!(matches!(other, Err(Error::DeviceMismatch { .. })), device.info().limits.is_some());
}

/// Partial states of any device, in any number of parts, have the bits of one.
fn states_of_a_device_are_merged(device: Device) {
    let rng = &mut fastrand::Rng::with_seed(3);
    let elements: Vec<f32> =
        (0..5_000).map(|_| f32::from_bits(rng.u32(..))).filter(|x| x.is_finite()).collect();
    for kind in NormKind::ALL {
        let mut all = NormState::new(kind);
        for part in elements.chunks(elements.len().div_ceil(7)) {
            let mut state = NormState::new(kind);
            let tensor = device.tensor(part, [part.len()]).unwrap();
            state.add(&[&tensor]).unwrap();
            all.merge(&NormState::from_words(kind, &state.to_words()).unwrap()).unwrap();
        }
        let expected = reference::norm(&elements, kind);
        assert_eq!(all.norm::<f32>().unwrap().to_bits(), expected.to_bits(), "{kind} on {device:?}");
    }
}

/// A scaling that is known here has the bits of the reference, in place, and clones keep theirs.
fn known_scalings_are_those_of_the_reference(device: Device) {
    let rng = &mut fastrand::Rng::with_seed(23);
    let mut elements: Vec<f32> = (0..1_003).map(|_| f32::from_bits(rng.u32(..))).collect();
    elements.extend([-0.0, f32::INFINITY, f32::from_bits(1), f32::MAX]);
    let halves: Vec<_> = elements.iter().map(|_| f16::from_bits(rng.u16(..))).collect();
    let bits = |x: &[f16]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for scaling in
        [Scaling::Keep, Scaling::Zero, Scaling::By(0.3f32), Scaling::By(0.0), Scaling::By(f32::NAN)]
    {
        let mut x = device.tensor(&elements, [elements.len()]).unwrap();
        let mut h = device.tensor(&halves, [halves.len()]).unwrap();
        let kept = x.clone();
        scale_in_place(&mut [&mut x, &mut h], scaling).unwrap();
        let expected: Vec<_> = elements.iter().map(|&x| reference::scale(x, scaling)).collect();
        assert_eq!(x.to_vec().unwrap().map_bits(), expected.map_bits(), "{scaling:?} {device:?}");
        let expected: Vec<_> = halves.iter().map(|&x| reference::scale(x, scaling)).collect();
        assert_eq!(bits(&h.to_vec().unwrap()), bits(&expected), "{scaling:?} {device:?}");
        assert_eq!(kept.to_vec().unwrap().map_bits(), elements.map_bits(), "{device:?}");
    }
    let (mut x, mut there) =
        (device.tensor(&[3.0f32], [1]).unwrap(), Device::cpu().tensor(&[3.0f32], [1]).unwrap());
    let (mut integers, mut doubles) =
        (device.tensor(&[3i32], [1]).unwrap(), device.tensor(&[3.0f64], [1]).unwrap());
    let on_gpu = device.info().limits.is_some();
    let refused = |done: wgclip::Result<()>| matches!(done, Err(Error::Unsupported { .. }));
    assert!(refused(scale_in_place(&mut [&mut x, &mut integers], Scaling::By(0.5f32))), "{device:?}");
    assert_eq!(refused(scale_in_place(&mut [&mut x, &mut doubles], Scaling::By(0.5f32))), on_gpu);
    assert_eq!(refused(scale_in_place(&mut [&mut x], Scaling::By(0.1f64))), on_gpu);
    let done = scale_in_place(&mut [&mut x, &mut there], Scaling::<f32>::Zero);
    assert_eq!(matches!(done, Err(Error::DeviceMismatch { .. })), on_gpu, "{device:?}");
    if on_gpu {
        assert_eq!((x.to_vec().unwrap(), there.to_vec().unwrap()), (vec![3.0], vec![3.0]), "{device:?}");
    }
    scale_in_place::<f32>(&mut [], Scaling::Zero).unwrap();
}

/// More than any dispatch takes at once, of random bits.
fn many_elements_lose_nothing(device: Device) {
    /// The sum and the norm, for all devices.
    static EXPECTED: OnceLock<[u32; 2]> = OnceLock::new();
    let rng = &mut fastrand::Rng::with_seed(17);
    let finite = |x: f32| if x.is_finite() { x } else { -f32::MAX };
    let elements: Vec<f32> = (0..(1 << 24) + 5).map(|_| finite(f32::from_bits(rng.u32(..)))).collect();
    let expected = EXPECTED.get_or_init(|| {
        [reference::sum(&elements), reference::norm(&elements, NormKind::L2)].map(f32::to_bits)
    });
    let x = device.tensor(&elements, [elements.len()]).unwrap();
    let actual = [x.sum(..).unwrap(), x.norm(NormKind::L2, ..).unwrap()];
    assert_eq!(actual.map(|actual| actual.to_vec().unwrap()[0].to_bits()), *expected, "{device:?}");
}

/// The same bits for shuffled elements.
fn the_order_makes_no_difference(device: Device) {
    let rng = &mut fastrand::Rng::with_seed(11);
    let mut elements: Vec<f32> =
        (0..70_001).map(|_| f32::from_bits(rng.u32(..))).filter(|x| x.is_finite()).collect();
    let bits = |elements: &[f32]| {
        let x = device.tensor(elements, [elements.len()]).unwrap();
        let norm = x.norm(NormKind::L2, ..).unwrap().to_vec().unwrap();
        (x.sum(..).unwrap().to_vec().unwrap()[0].to_bits(), norm[0].to_bits())
    };
    let first = bits(&elements);
    for _ in 0..3 {
        rng.shuffle(&mut elements);
        assert_eq!(bits(&elements), first, "{device:?}");
    }
}

/// A training step: forward, backward, clip by global norm. Nothing is submitted for it, so nothing is read.
fn a_step_reads_nothing(adapter: Adapter) {
    let device = open(&adapter, adapter.limits());
    let x = device.tensor(&vec![0.7f32; 4096], [64, 64]).unwrap();
    let upstream = device.tensor(&vec![3.0f32; 4096], [64, 64]).unwrap();
    let step = || {
        let rule = wgclip::BackwardRule::default();
        let mut first = x.clip_backward(&upstream, 0.0..=1.0, rule).unwrap();
        let mut second = x.clip(..=0.5).unwrap();
        let mut list: [&mut dyn AnyTensor; 2] = [&mut first, &mut second];
        let limit = NormLimit::like("torch", 1.0).unwrap().nonfinite(NonFinitePolicy::Skip);
        let norm = clip_by_global_norm(&mut list, limit).unwrap();
        (norm, first.affine(-0.1, 0.0).unwrap(), second)
    };
    drop(step());
    device.wait().unwrap();
    let before = device.stats();
    let kept: Vec<_> = (0..10).map(|_| step()).collect();
    let after = device.stats();
    assert_eq!(after.submissions, before.submissions, "{device:?}");
    assert!(after.dispatches > before.dispatches);
    let norms: Vec<_> = kept.iter().map(|(norm, ..)| norm.value().unwrap()).collect();
    let expected = f64::from((4096.0f64 * 9.0 + 4096.0 * 0.25).sqrt() as f32);
    assert!(norms.iter().all(|&norm| norm == expected), "{norms:?}");
}

pub(crate) fn register(suite: &mut Suite) {
    suite.per_device(&[
        (
            "norms::a_list_is_clipped_in_place_and_clones_keep_theirs",
            a_list_is_clipped_in_place_and_clones_keep_theirs,
        ),
        ("norms::a_norm_that_is_not_finite_may_be_an_error", a_norm_that_is_not_finite_may_be_an_error),
        ("norms::mistakes_are_errors_and_change_nothing", mistakes_are_errors_and_change_nothing),
        ("norms::the_gradient_is_that_of_the_expression", the_gradient_is_that_of_the_expression),
        ("norms::states_of_a_device_are_merged", states_of_a_device_are_merged),
        ("norms::known_scalings_are_those_of_the_reference", known_scalings_are_those_of_the_reference),
        ("norms::many_elements_lose_nothing", many_elements_lose_nothing),
        ("norms::the_order_makes_no_difference", the_order_makes_no_difference),
    ]);
    suite.per_adapter(&[("norms::a_step_reads_nothing", a_step_reads_nothing)]);
}
