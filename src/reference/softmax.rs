//! Softmax, in integers: the same for every order of the elements and for every device.
//!
//! Errors, in units of 2^-32 of an exponential: the difference of the positions is within 1, the remainder lacks less than 1, multiples of ln 2 are within 1/7, and
//! [`exp_of_remainder`] is between 4.2 too small and 3.6 too large (each of the 3 * 10^9 remainders was tried, see the test). The sum lies in the same interval, since its terms do; it is
//! within 1 of that by rounding, and its terms lack less than 2^-62 each. So a quotient is within 12 * 2^-32 of the real value, which is less than 0.05 of the last
//! place of an f32, and after rounding within 0.55.

use super::activation::{power_of_two, quiet_nan};
use super::exact::dot;
use crate::Element;

/// What is this far below the greatest element, in units of 2^-32, or further, rounds to 0 in every type and adds nothing to a sum: 128.
const FARTHEST: f64 = 549_755_813_888.0;

/// ln 2 in units of 2^-40.
const LN2: u64 = 0xb1_7217_f7d2;

/// exp(-n / 16) in units of 2^-32; 1 is one unit less.
const POWERS_OF_16THS: [u32; 12] = [
    0xffff_ffff,
    0xf07d_5fde,
    0xe1eb_5127,
    0xd43b_4096,
    0xc75f_7cf5,
    0xbb4b_2970,
    0xaff2_30af,
    0xa549_38ca,
    0x9b45_97e3,
    0x91dd_4986,
    0x8906_e49a,
    0x80b9_91ff,
];

/// 1 - exp(-n / 256) in units of 2^-32.
const LOSSES_OF_256THS: [u32; 16] = [
    0,
    0x00ff_802b,
    0x01fe_0155,
    0x02fb_847d,
    0x03f8_0aa0,
    0x04f3_94bb,
    0x05ee_23ca,
    0x06e7_b8c7,
    0x07e0_54ac,
    0x08d7_f871,
    0x09ce_a50d,
    0x0ac4_5b78,
    0x0bb9_1ca8,
    0x0cac_e991,
    0x0d9f_c326,
    0x0e91_aa5b,
];

/// `exp(x[i]) / (exp(x[0]) + exp(x[1]) + ..)` of floats of up to 32 bits: one value for each of a slice. Each exponential is relative to the greatest element and
/// computed to 32 bits by steps that the source spells out; their sum is exact, and rounded to 32 bits; each quotient is rounded to the type once. The error is below 0.55
/// units of the last place, for slices of up to 2^24 elements.
///
/// If an element is NaN or +infinity, or if all are -infinity, each result is the positive quiet NaN without payload. A -infinity among others becomes +0.
pub fn softmax<T: Element>(x: &[T]) -> Vec<T> {
    let greatest = x.iter().map(|x| x.to_f64()).fold(f64::NEG_INFINITY, f64::max);
    if x.iter().any(|x| x.is_nan()) || greatest.is_infinite() {
        return vec![quiet_nan(); x.len()];
    }
    let terms: Vec<_> = x.iter().map(|x| exp_below(x.to_f64(), greatest)).collect();
    // In units of 2^-62.
    let term = |&(e, halvings): &(u32, u32)| (u128::from(e) << 30).checked_shr(halvings).unwrap_or(0);
    let (sum, dropped) = to_32_bits(terms.iter().map(term).sum());
    let result = |(e, halvings): (u32, u32)| {
        // 51 bits or more, the last of which is set if there is anything below, so that rounding it to a type with fewer is rounding the quotient once.
        let (dividend, divisor) = (u128::from(e) << 52, u128::from(sum));
        let digits = (dividend / divisor) as u64 | u64::from(dividend % divisor > 0);
        T::from_f64(digits as f64 * power_of_two(30 - halvings as i32 - dropped - 52))
    };
    terms.into_iter().map(result).collect()
}

/// The gradient of [`softmax`] from its result y: `y * (g - <y, g>)` for each element, `<y, g>` being the [`dot`] product of the slice. Difference and product are each
/// rounded to f32, and the result to the type; a NaN is the positive quiet one without payload.
///
/// Computed in f64 and rounded after each step, which gives the same result.
pub fn softmax_backward<T: Element>(y: &[T], g: &[T]) -> Vec<T> {
    let along = dot(y, g, 0).to_f64();
    let round = |value: f64| f64::from(value as f32);
    let gradient = |(y, g): (&T, &T)| super::nearest(round(y.to_f64() * round(g.to_f64() - along)));
    y.iter().zip(g).map(gradient).collect()
}

/// exp(x - greatest) as a number in units of 2^-32, and how often it is halved.
fn exp_below(x: f64, greatest: f64) -> (u32, u32) {
    let units = |value: f64| (value * power_of_two(32)).trunc();
    // Exact where it is below the limit: numbers that have no units are a power of two apart that f64 has room for.
    let distance = (units(greatest) - units(x)).min(FARTHEST) as u64;
    // Multiples of ln 2, or one less: 23637 is 2^14 / ln 2.
    let halvings = ((distance >> 25) * 23637) >> 21;
    let remainder = ((distance << 8) - halvings * LN2) >> 8;
    (exp_of_remainder(remainder as u32), halvings as u32)
}

/// exp(-r) in units of 2^-32, for r in the same units and up to 0.702: the product of a 16th's power with that of a 256th and of what remains, s.
fn exp_of_remainder(r: u32) -> u32 {
    let product = |a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32;
    let s = r & 0xff_ffff;
    // 1 - exp(-s) = s - s^2/2 + s^3/6: 10923 is 2^16 / 6.
    let short = s >> 8;
    let square = short * short;
    let cube = ((square >> 16) * short) >> 16;
    let loss = s - (square >> 17) + ((cube * 10923) >> 24);
    // 1 - (1 - a) (1 - b) = a + b - a b.
    let of_256ths = LOSSES_OF_256THS[(r >> 24 & 15) as usize];
    let power = POWERS_OF_16THS[(r >> 28) as usize];
    power - product(power, of_256ths + loss - product(of_256ths, loss))
}

/// A number of units of 2^-62, from 2^61 on, as an integer from 2^31 to 2^32, to nearest even, and how many bits are dropped.
fn to_32_bits(sum: u128) -> (u64, i32) {
    let dropped = 96 - sum.leading_zeros();
    let (kept, rest, half) = (sum >> dropped, sum & ((1 << dropped) - 1), 1 << (dropped - 1));
    let up = rest > half || rest == half && kept & 1 == 1;
    (kept as u64 + u64::from(up), dropped as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::f16;

    #[test]
    fn rows() {
        let bits = |y: Vec<f32>| y.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(softmax(&[f32::NEG_INFINITY, 0.0, -0.0]), [0.0, 0.5, 0.5]);
        assert_eq!(softmax(&[1e38f32, -1e38]), [1.0, 0.0]);
        assert_eq!(softmax(&[-3e38f32; 4]), [0.25; 4]);
        assert_eq!(softmax(&[7f32]), [1.0]);
        assert!(softmax::<f32>(&[]).is_empty());
        let none = 0x7fc0_0000;
        for x in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2]] {
            assert_eq!(bits(softmax(&x)), [none; 2]);
        }
        // 1 / 3, and a subnormal f16: 1 / 70000 is nearest to 240 * 2^-24.
        assert_eq!(softmax(&[5f32; 3]), [1.0 / 3.0; 3]);
        assert_eq!(softmax(&vec![f16::ONE; 70_000])[9].to_bits(), 240);
        assert_eq!(softmax_backward(&[0.25f32, 0.75], &[1.0, -1.0]), [0.375, -0.375]);
    }

    /// Of every 4,099th remainder; of all of them with WGCLIP_TEST_FULL.
    #[test]
    fn errors_of_exponentials() {
        let step = if std::env::var_os("WGCLIP_TEST_FULL").is_some() { 1 } else { 4099 };
        let unit = power_of_two(32);
        let error = |r: u32| {
            let exact = (-f64::from(r) / unit).exp();
            (f64::from(exp_of_remainder(r)) / unit - exact) / exact * unit
        };
        let greatest = (0.702 * unit) as u32;
        let errors = (0..=greatest).step_by(step).map(error);
        let (least, most) = errors.fold((0f64, 0f64), |(least, most), e| (least.min(e), most.max(e)));
        assert!(least > -4.2 && most < 3.6, "{least} to {most}");
        assert!(least < -3.0 && most > 2.5, "{least} to {most}");
    }

    /// Within 0.55 units of the last place of exact sums, which f64 is near enough to.
    #[test]
    fn errors() {
        let rng = &mut fastrand::Rng::with_seed(1);
        for scale in [0.01, 1.0, 10.0, 30.0] {
            let x: Vec<f32> = (0..1000).map(|_| (rng.f32() - 0.5) * scale).collect();
            let greatest = x.iter().copied().fold(f32::MIN, f32::max);
            let terms: Vec<f64> = x.iter().map(|&x| (f64::from(x) - f64::from(greatest)).exp()).collect();
            let sum: f64 = terms.iter().sum();
            for (y, term) in softmax(&x).into_iter().zip(terms) {
                let (exact, place) = (term / sum, f64::from(f32::from_bits(y.to_bits() + 1) - y));
                assert!((f64::from(y) - exact).abs() < 0.55 * place, "{y} {exact}");
            }
        }
    }
}
