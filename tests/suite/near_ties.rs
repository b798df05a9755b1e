//! Quotients next to where the code changes, for which a product with the reciprocal of the scale is not near enough.

use wgclip::quantize::{QuantGradient, QuantRule, Quotient, Rounding};
use wgclip::{Device, Element, bf16, f16, reference};

use crate::devices::{Suite, seed};

/// Numbers within a few units in the last place of a half, or of an integer, times the scale.
fn numbers<T: Element>(random: &mut fastrand::Rng, scale: f64, most: i32) -> Vec<T> {
    let number = |_| {
        let steps = f64::from(random.i32(-2 * most..2 * most)) / 2.0;
        let near = T::from_f64(steps * scale).to_bits();
        T::from_bits(near.wrapping_add_signed(random.i64(-2..3)) & T::TYPE.layout().mask())
    };
    let mut x: Vec<T> = (0..2000).map(number).collect();
    // Blocks of 512 elements of which few, or one, are near.
    x.extend(
        (0..3000)
            .map(|n| T::from_f64(if n % 700 == 3 { 0.5 * scale } else { 0.3 * scale * f64::from(n % 7) })),
    );
    x
}

fn codes_are_those_of_the_reference<T: Element>(seed: u64) {
    let (device, random) = (Device::cpu(), &mut fastrand::Rng::with_seed(seed));
    let quotients = Quotient::ALL
        .iter()
        .flat_map(|&quotient| Rounding::ALL.iter().map(move |&rounding| (quotient, rounding)));
    for (quotient, rounding) in quotients {
        for (min, max) in [(-128, 127), (0, 15), (-2000, 2000), (-32768, 32767)] {
            // As T holds it, so that fake quantisation has the same.
            let scale = match random.u8(0..4) {
                0 => 0.25,
                _ => T::from_f64(0.01 + random.f64() * if random.bool() { 1.0 } else { -1.0 }).to_f64(),
            };
            let gradient = QuantGradient::ALL[random.usize(..QuantGradient::ALL.len())];
            let rule = QuantRule { min, max, quotient, rounding, gradient, ..QuantRule::EXACT };
            let zero_point = f64::from(random.i32(min.max(-100)..max.min(100)));
            let values = numbers::<T>(random, scale, (max - min).min(3000));
            let x = device.tensor(&values, [values.len()]).unwrap();
            let codes = x.quantize::<i32>(scale as f32, zero_point as f32, rule).unwrap().to_vec().unwrap();
            let y =
                x.fake_quantize(T::from_f64(scale), T::from_f64(zero_point), rule).unwrap().to_vec().unwrap();
            let upstream: Vec<T> = (0..values.len()).map(|n| T::from_f64(1.0 + n as f64 % 7.0)).collect();
            let g = device.tensor(&upstream, [values.len()]).unwrap();
            let (scale_of_type, zero_of_type) = (T::from_f64(scale), T::from_f64(zero_point));
            let gx =
                x.fake_quantize_backward_x(&g, scale_of_type, zero_of_type, rule).unwrap().to_vec().unwrap();
            let outputs = codes.into_iter().zip(y).zip(gx);
            for (n, ((&x, &g), ((code, y), gx))) in values.iter().zip(&upstream).zip(outputs).enumerate() {
                let index = n as u64;
                let what = format!("{x:?} by {scale} from {zero_point}, {rule}, {}", T::TYPE);
                assert_eq!(code, reference::quantize(x, scale, zero_point, rule, index), "{what}");
                let expected = reference::fake_quantize(x, scale_of_type, zero_of_type, rule, index);
                assert_eq!(y.to_bits(), expected.to_bits(), "{what}");
                let [expected, ..] =
                    reference::fake_quantize_backward(x, g, scale_of_type, zero_of_type, rule, index);
                assert_eq!(gx.to_bits(), expected.to_bits(), "{what}");
            }
        }
    }
}

fn near_ties_have_the_codes_of_exact_quotients() {
    let seed = seed();
    codes_are_those_of_the_reference::<f32>(seed);
    codes_are_those_of_the_reference::<f16>(seed);
    codes_are_those_of_the_reference::<bf16>(seed);
}

pub(crate) fn register(suite: &mut Suite) {
    suite.once(&[(
        "cpu::near_ties_have_the_codes_of_exact_quotients",
        near_ties_have_the_codes_of_exact_quotients,
    )]);
}
