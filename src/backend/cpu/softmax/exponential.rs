//! Exponentials, and their sums.
//!
//! They are the integers of 32 bits that the contract defines, halved: held as f64, which has room for them. Distances are whole numbers of f64.

use crate::backend::cpu::simd::vectorised;

/// Elements whose exponentials are summed, or divided, at once.
pub(super) const BLOCK: usize = 256;

/// 128 in units of 2^-32: what is further below the greatest element counts as this far.
const FARTHEST: f64 = 549_755_813_888.0;

/// ln 2 in units of 2^-40.
const LN2: f64 = 762_123_384_786.0;

/// Added to an integer below 2^52, it leaves that in the low bits.
const INTEGER: f64 = 4_503_599_627_370_496.0;

/// exp(-n / 16) in units of 2^-32.
const POWERS_OF_16THS: [u32; 16] = [
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
    0,
    0,
    0,
    0,
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

/// An element in units of 2^-32.
#[inline(always)]
pub(super) fn units_of(x: f32) -> f64 {
    (f64::from(x) * 4_294_967_296.0).trunc()
}

/// exp(x - greatest), for the units of the greatest element.
#[inline(always)]
fn exp_below(x: f32, units: f64) -> f64 {
    // Exact where it is below the limit: larger numbers have fewer bits than f64 has room for.
    let distance = units - units_of(x);
    let distance = if distance < FARTHEST { distance } else { FARTHEST };
    // Multiples of ln 2, or one less: 23637 is 2^14 / ln 2.
    let top = (distance * (1.0 / 33_554_432.0)).floor();
    let halvings = (top * (23637.0 / 2_097_152.0)).floor();
    let r = ((distance * 256.0 - halvings * LN2) * (1.0 / 256.0)).floor();
    let r = (r + INTEGER).to_bits() as u32;
    let s = r & 0xff_ffff;
    let short = s >> 8;
    let square = short * short;
    let cube = ((square >> 16) * short) >> 16;
    let loss = s - (square >> 17) + ((cube * 10923) >> 24);
    let product = |a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32;
    let of_256ths = LOSSES_OF_256THS[(r >> 24 & 15) as usize];
    let power = POWERS_OF_16THS[(r >> 28) as usize];
    let e = power - product(power, of_256ths + loss - product(of_256ths, loss));
    let e = f64::from_bits(u64::from(e) | INTEGER.to_bits()) - INTEGER;
    // 2^-(32 + halvings): its exponent field.
    e * f64::from_bits(((991.0 - halvings) + INTEGER).to_bits() << 52)
}

vectorised! {
    pub(super) fn exponentials<U: Fn(usize) -> f64>(x: &[f32], units: U, exponentials: &mut [f64]) {
        for (i, (e, &x)) in exponentials.iter_mut().zip(x).enumerate() {
            *e = exp_below(x, units(i));
        }
    }

    /// Adds exponentials as whole numbers of 2^-31, and what is left of them as whole numbers of 2^-62.
    pub(super) fn add_each(exponentials: &[f64], high: &mut [f64], low: &mut [f64]) {
        for ((&e, high), low) in exponentials.iter().zip(high).zip(low) {
            let (of_high, of_low) = cut(e);
            *high += of_high;
            *low += of_low;
        }
    }

    /// The same of a block, which is so short that the sums are exact.
    fn add_block(exponentials: &[f64]) -> (f64, f64) {
        let (mut high, mut low) = ([0.0; LANES], [0.0; LANES]);
        let chunks = exponentials.chunks_exact(LANES);
        let (rest_high, rest_low) = chunks.remainder().iter().map(|&e| cut(e)).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        for chunk in chunks {
            for ((&e, high), low) in chunk.iter().zip(&mut high).zip(&mut low) {
                let (of_high, of_low) = cut(e);
                *high += of_high;
                *low += of_low;
            }
        }
        (high.iter().sum::<f64>() + rest_high, low.iter().sum::<f64>() + rest_low)
    }

    /// Keeps the greater one of each pair; NaN is the greatest.
    pub(super) fn keep_greatest(x: &[f32], greatest: &mut [f32]) {
        for (&x, greatest) in x.iter().zip(greatest) {
            *greatest = if (x > *greatest) | x.is_nan() { x } else { *greatest };
        }
    }
}

/// Lanes of a sum.
const LANES: usize = 16;

#[inline(always)]
fn cut(e: f64) -> (f64, f64) {
    let units = e * 2_147_483_648.0;
    let high = units.floor();
    (high, ((units - high) * 2_147_483_648.0).floor())
}

/// A sum in units of 2^-62.
pub(super) fn total((high, low): (f64, f64)) -> u128 {
    ((high as u128) << 31) + low as u128
}

/// The sum of exponentials in units of 2^-62.
pub(super) fn sum_of(exponentials: &[f64]) -> u128 {
    exponentials.chunks(BLOCK).map(|block| total(add_block(block))).sum()
}

/// The greatest of widened elements.
pub(super) fn greatest_of(wide: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; BLOCK];
    for wide in wide.chunks(BLOCK) {
        keep_greatest(wide, &mut lanes[..wide.len()]);
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// 32 bits of a sum, to nearest even, and above them how many were dropped.
pub(super) fn to_32_bits(sum: u128) -> u64 {
    let Some(dropped) = 96u32.checked_sub(sum.leading_zeros()).filter(|&dropped| dropped > 0) else {
        return 0;
    };
    let (kept, rest, half) = (sum >> dropped, sum & ((1 << dropped) - 1), 1 << (dropped - 1));
    let rounded = kept as u64 + u64::from(rest > half || rest == half && kept & 1 == 1);
    let carried = rounded >> 32;
    rounded >> carried | (u64::from(dropped) + carried) << 32
}
