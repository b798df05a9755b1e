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
const POWERS_OF_16THS: [u64; 12] = [
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
const LOSSES_OF_256THS: [u64; 16] = [
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

/// Both, for a number of 256ths below 192: the power in the upper half. So an exponential reads one word of a table.
const POWERS_AND_LOSSES: [u64; 256] = {
    let (mut table, mut n) = ([0; 256], 0);
    while n < 192 {
        table[n] = POWERS_OF_16THS[n / 16] << 32 | LOSSES_OF_256THS[n % 16];
        n += 1;
    }
    table
};

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
    // Products of words are those of 64 bits that a vector has.
    let product = |a: u64, b: u64| u64::from(a as u32) * u64::from(b as u32);
    let r = (r + INTEGER).to_bits();
    let s = r & 0xff_ffff;
    let short = s >> 8;
    let square = product(short, short);
    let cube = product(square >> 16, short) >> 16;
    let loss = s - (square >> 17) + (product(cube, 10923) >> 24);
    let entry = POWERS_AND_LOSSES[(r >> 24 & 255) as usize];
    let (power, of_256ths) = (entry >> 32, entry & 0xffff_ffff);
    let e = power - (product(power, of_256ths + loss - (product(of_256ths, loss) >> 32)) >> 32);
    let e = f64::from_bits(e | INTEGER.to_bits()) - INTEGER;
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

    /// The sum of as many numbers as a power of two, by halves.
    fn fold_sums(sums: &mut [f64]) -> f64 {
        let mut half = sums.len() / 2;
        while half > 0 {
            let (first, second) = sums.split_at_mut(half);
            first.iter_mut().zip(second).for_each(|(a, b)| *a += *b);
            half /= 2;
        }
        sums[0]
    }

    /// Keeps the greater one of each pair; NaN is the greatest.
    pub(super) fn keep_greatest(x: &[f32], greatest: &mut [f32]) {
        for (&x, greatest) in x.iter().zip(greatest) {
            *greatest = if (x > *greatest) | x.is_nan() { x } else { *greatest };
        }
    }
}

#[inline(always)]
fn cut(e: f64) -> (f64, f64) {
    let units = e * 2_147_483_648.0;
    let high = units.floor();
    (high, ((units - high) * 2_147_483_648.0).floor())
}

/// How many lanes so many numbers fill: a power of two, to be folded by halves.
fn lanes_of(len: usize) -> usize {
    len.min(BLOCK).next_power_of_two()
}

/// A sum of exponentials, in lanes: exact for up to 2^20 of them.
pub(super) struct Lanes {
    high: [f64; BLOCK],
    low: [f64; BLOCK],
    /// Those that may not be 0.
    used: usize,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self { high: [0.0; BLOCK], low: [0.0; BLOCK], used: 1 }
    }

    pub(super) fn add(&mut self, exponentials: &[f64]) {
        for block in exponentials.chunks(BLOCK) {
            add_each(block, &mut self.high, &mut self.low);
            self.used = self.used.max(lanes_of(block.len()));
        }
    }

    /// In units of 2^-62.
    pub(super) fn total(mut self) -> u128 {
        total((fold_sums(&mut self.high[..self.used]), fold_sums(&mut self.low[..self.used])))
    }
}

/// A sum in units of 2^-62.
pub(super) fn total((high, low): (f64, f64)) -> u128 {
    ((high as u128) << 31) + low as u128
}

/// The greatest of widened elements.
pub(super) fn greatest_of(wide: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; BLOCK];
    for wide in wide.chunks(BLOCK) {
        keep_greatest(wide, &mut lanes[..wide.len()]);
    }
    let mut half = lanes_of(wide.len()) / 2;
    while half > 0 {
        let (first, second) = lanes.split_at_mut(half);
        keep_greatest(&second[..half], first);
        half /= 2;
    }
    lanes[0]
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
