//! Softmax along slices: the greatest element of each, then the exact sum of its exponentials, then every element.
//!
//! Exponentials are the integers of 32 bits that the contract defines, halved: held as f64, which has room for them. Distances are whole numbers of f64.

use bytemuck::cast_slice_mut;

use super::convert::widen;
use super::memory;
use super::partition::Partition;
use super::reduce::{self, Piece, Tile, gather, reduce_tiles};
use super::simd::vectorised;
use crate::broadcast::{Broadcast, Reduction};
use crate::element::Real;
use crate::element::convert::{Overflow, from_f32, round_to_odd, to_f32};
use crate::{Element, ElementType, Result};

/// Elements whose exponentials are summed, or divided, at once.
const BLOCK: usize = 256;

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
fn units_of(x: f32) -> f64 {
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
    fn exponentials(x: &[f32], units: f64, exponentials: &mut [f64]) {
        for (e, &x) in exponentials.iter_mut().zip(x) {
            *e = exp_below(x, units);
        }
    }

    fn exponentials_of_each(x: &[f32], units: &[f64], exponentials: &mut [f64]) {
        for ((e, &x), &units) in exponentials.iter_mut().zip(x).zip(units) {
            *e = exp_below(x, units);
        }
    }

    /// Adds exponentials as whole numbers of 2^-31, and what is left of them as whole numbers of 2^-62.
    fn add_each(exponentials: &[f64], high: &mut [f64], low: &mut [f64]) {
        for ((&e, high), low) in exponentials.iter().zip(high).zip(low) {
            let (of_high, of_low) = cut(e);
            *high += of_high;
            *low += of_low;
        }
    }

    /// Keeps the greater one of each pair; NaN is the greatest.
    fn keep_greatest(x: &[f32], greatest: &mut [f32]) {
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

/// Lanes of a sum.
const LANES: usize = 16;

/// The sum of a block in units of 2^-62.
fn sum_of(exponentials: &[f64]) -> u128 {
    let (mut high, mut low) = ([0.0; LANES], [0.0; LANES]);
    for e in exponentials.chunks(LANES) {
        add_each(e, &mut high[..e.len()], &mut low[..e.len()]);
    }
    total(high.iter().sum(), low.iter().sum())
}

fn total(high: f64, low: f64) -> u128 {
    ((high as u128) << 31) + low as u128
}

/// The greatest elements of adjacent slices.
struct Greatest<'a, T> {
    x: &'a [T],
    found: Vec<f32>,
    room: Vec<T>,
}

impl<'a, T: Element> Greatest<'a, T> {
    fn new(x: &'a [T], count: usize) -> Self {
        Self { x, found: vec![f32::NEG_INFINITY; count], room: Vec::new() }
    }
}

impl<T: Element> Tile for Greatest<'_, T> {
    fn run(&mut self, pieces: &[Piece]) {
        let (mut wide, mut lanes) = ([0.0; BLOCK], [f32::NEG_INFINITY; BLOCK]);
        for x in gather(self.x, pieces, &mut self.room).chunks(BLOCK) {
            let wide = &mut wide[..x.len()];
            widen(x, false, wide);
            keep_greatest(wide, &mut lanes[..x.len()]);
        }
        for lane in lanes {
            keep_greatest(&[lane], &mut self.found);
        }
    }

    fn rows(&mut self, pieces: &[Piece]) {
        let mut wide = vec![0.0; self.found.len()];
        for x in gather(self.x, pieces, &mut self.room).chunks(wide.len()) {
            widen(x, false, &mut wide);
            keep_greatest(&wide, &mut self.found);
        }
    }

    fn merge(&mut self, other: Self) {
        keep_greatest(&other.found, &mut self.found);
    }

    fn output(&self, n: usize, _: ElementType) -> u64 {
        self.found[n].to_bits().into()
    }
}

/// The sums of the exponentials of adjacent slices.
struct Exponentials<'a, T> {
    x: &'a [T],
    /// The greatest elements in units of 2^-32.
    units: Vec<f64>,
    sums: Vec<u128>,
    room: Vec<T>,
}

impl<'a, T: Element> Exponentials<'a, T> {
    fn new(x: &'a [T], greatest: &[f32]) -> Self {
        let units = greatest.iter().map(|&x| units_of(x)).collect();
        Self { x, units, sums: vec![0; greatest.len()], room: Vec::new() }
    }
}

impl<T: Element> Tile for Exponentials<'_, T> {
    fn run(&mut self, pieces: &[Piece]) {
        let (mut wide, mut e) = ([0.0; BLOCK], [0.0; BLOCK]);
        for x in gather(self.x, pieces, &mut self.room).chunks(BLOCK) {
            let (wide, e) = (&mut wide[..x.len()], &mut e[..x.len()]);
            widen(x, false, wide);
            exponentials(wide, self.units[0], e);
            self.sums[0] += sum_of(e);
        }
    }

    fn rows(&mut self, pieces: &[Piece]) {
        let count = self.units.len();
        let (mut wide, mut e) = (vec![0.0; count], vec![0.0; count]);
        let (mut high, mut low) = (vec![0.0; count], vec![0.0; count]);
        // So few rows that the sums are exact.
        for x in gather(self.x, pieces, &mut self.room).chunks(count) {
            widen(x, false, &mut wide);
            exponentials_of_each(&wide, &self.units, &mut e);
            add_each(&e, &mut high, &mut low);
        }
        for ((sum, high), low) in self.sums.iter_mut().zip(high).zip(low) {
            *sum += total(high, low);
        }
    }

    fn merge(&mut self, other: Self) {
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, other)| *sum += other);
    }

    /// 32 bits of the sum, to nearest even, and above them how many were dropped.
    fn output(&self, n: usize, _: ElementType) -> u64 {
        let sum = self.sums[n];
        let Some(dropped) = 96u32.checked_sub(sum.leading_zeros()).filter(|&dropped| dropped > 0) else {
            return 0;
        };
        let (kept, rest, half) = (sum >> dropped, sum & ((1 << dropped) - 1), 1 << (dropped - 1));
        let rounded = kept as u64 + u64::from(rest > half || rest == half && kept & 1 == 1);
        let carried = rounded >> 32;
        rounded >> carried | (u64::from(dropped) + carried) << 32
    }
}

/// What is known of a slice.
#[derive(Debug, Clone, Copy)]
struct Slice {
    /// Its greatest element in units of 2^-32.
    units: f64,
    /// The sum of its exponentials: 32 bits; NaN if it has no softmax.
    sum: f64,
    /// The power of two that goes with them, inverted.
    power: f64,
}

impl Slice {
    fn new(greatest: f32, sum: u64) -> Self {
        let digits = if greatest.is_finite() { f64::from(sum as u32) } else { f64::NAN };
        Self {
            units: units_of(greatest),
            sum: digits,
            power: f64::from_bits((1023 + 62 - (sum >> 32).min(96)) << 52),
        }
    }
}

/// Computes the softmax of x into y.
pub(super) fn softmax<T: Element>(
    x: &[T],
    y: &mut [u8],
    (reduction, broadcast): (&Reduction, &Broadcast),
) -> Result<()> {
    if x.is_empty() {
        return Ok(());
    }
    let size = size_of::<T>();
    let mut greatest = memory::zeroed::<f32>(reduction.sums)?;
    let found = cast_slice_mut(&mut greatest);
    reduce_tiles(size, reduction, ElementType::F32, found, &|_, count| Greatest::new(x, count));
    let mut sums = memory::zeroed::<u64>(reduction.sums)?;
    let new = |first: usize, count: usize| Exponentials::new(x, &greatest[first..][..count]);
    reduce_tiles(size, reduction, ElementType::U64, cast_slice_mut(&mut sums), &new);
    let mut slices = Vec::new();
    memory::reserve(&mut slices, sums.len())?;
    slices.extend(greatest.iter().zip(sums).map(|(&greatest, sum)| Slice::new(greatest, sum)));

    Partition::new(size, x.len()).for_each_chunk(y, size, &|start, y| {
        let y: &mut [T] = cast_slice_mut(y);
        for run in broadcast.runs(start..start + y.len()) {
            let (x, y) = (&x[run.start..][..run.len], &mut y[run.start - start..][..run.len]);
            let first = run.first[0];
            for ((n, x), y) in x.chunks(BLOCK).enumerate().zip(y.chunks_mut(BLOCK)) {
                match run.strides[0] {
                    0 => share(x, y, &|_| slices[first]),
                    _ => share(x, y, &|i| slices[first + n * BLOCK + i]),
                }
            }
        }
    });
    Ok(())
}

/// The shares of elements of the sums of their slices.
fn share<T: Element>(x: &[T], y: &mut [T], slice: &dyn Fn(usize) -> Slice) {
    let (mut wide, mut e) = ([0.0; BLOCK], [0.0; BLOCK]);
    let (mut units, mut sums, mut powers) = ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
    let (wide, e) = (&mut wide[..x.len()], &mut e[..x.len()]);
    for i in 0..x.len() {
        Slice { units: units[i], sum: sums[i], power: powers[i] } = slice(i);
    }
    widen(x, false, wide);
    exponentials_of_each(wide, &units, e);
    divide(e, &sums, &powers, y);
    if T::TYPE == ElementType::F32 {
        mend(e, &sums, &powers, y);
    }
}

vectorised! {
    /// Quotients of integers of 32 bits, to 53 bits: those are never a tie of a short float without being exact.
    fn divide<T: Element>(exponentials: &[f64], sums: &[f64], powers: &[f64], y: &mut [T]) {
        for (((y, &e), &sum), &power) in y.iter_mut().zip(exponentials).zip(sums).zip(powers) {
            let quotient = e / sum * power;
            let near = match T::TYPE {
                ElementType::F32 => T::from_bits((quotient as f32).to_bits().into()),
                _ => from_f32(round_to_odd(quotient), Overflow::Infinity),
            };
            *y = if quotient.is_nan() { T::from_bits(T::TYPE.layout().quiet_nan()) } else { near };
        }
    }

    /// Whether a quotient may be a tie of f32 in f64.
    fn any_tie(exponentials: &[f64], sums: &[f64], powers: &[f64]) -> bool {
        let mut any = 0;
        for ((&e, &sum), &power) in exponentials.iter().zip(sums).zip(powers) {
            let quotient = e / sum * power;
            let subnormal = (quotient < SMALLEST_NORMAL) & (quotient > 0.0);
            any |= u64::from((quotient.to_bits() & BELOW_F32 == TIE_OF_F32) | subnormal);
        }
        any != 0
    }
}

const SMALLEST_NORMAL: f64 = f32::MIN_POSITIVE as f64;

/// The bits of an f64 that an f32 does not have, and what they are in the middle of two f32.
const BELOW_F32: u64 = 0x1fff_ffff;
const TIE_OF_F32: u64 = 0x1000_0000;

/// Rounds quotients anew that in f64 are ties of f32: these have 57 bits that matter, so the remainder says which are ties, and on which side others are.
fn mend<T: Element>(exponentials: &[f64], sums: &[f64], powers: &[f64], y: &mut [T]) {
    if !any_tie(exponentials, sums, powers) {
        return;
    }
    for (((y, &e), &sum), &power) in y.iter_mut().zip(exponentials).zip(sums).zip(powers) {
        let quotient = e / sum;
        let is_tie = match quotient * power {
            small if small < SMALLEST_NORMAL => {
                // In halves of the smallest f32.
                let halves = small * 2f64.powi(150);
                halves == halves.trunc() && halves as u64 % 2 == 1
            }
            normal => normal.to_bits() & BELOW_F32 == TIE_OF_F32,
        };
        if is_tie {
            // Exact: the quotient has 25 bits, and each half of the sum 16.
            let high = f64::from(sum as u32 & 0xffff_0000);
            let rest = (e - quotient * high) - quotient * (sum - high);
            let beside = quotient.to_bits() + u64::from(rest > 0.0) - u64::from(rest < 0.0);
            *y = T::from_bits(((f64::from_bits(beside) * power) as f32).to_bits().into());
        }
    }
}

/// Computes the gradient of a softmax, from its result y and the upstream gradient g, into gx.
pub(super) fn softmax_backward<T: Element>(
    y: &[T],
    g: &[T],
    gx: &mut [u8],
    (reduction, broadcast): (&Reduction, &Broadcast),
) -> Result<()>
where
    T::Norm: Real,
{
    // A norm of 1 leaves the products as they are.
    let mut ones = memory::zeroed::<T::Norm>(reduction.sums)?;
    ones.fill(T::Norm::from_f64(1.0));
    let dots = reduce::dots(y, g, reduction, &ones)?;
    let size = size_of::<T>();
    Partition::new(size, y.len()).for_each_chunk(gx, size, &|start, gx| {
        let gx: &mut [T] = cast_slice_mut(gx);
        for run in broadcast.runs(start..start + gx.len()) {
            let here = run.start..run.start + run.len;
            let (y, g, gx) = (&y[here.clone()], &g[here], &mut gx[run.start - start..][..run.len]);
            let first = run.first[0];
            match run.strides[0] {
                0 => project(|_| dots[first], y, g, gx),
                _ => project(|i| dots[first + i], y, g, gx),
            }
        }
    });
    Ok(())
}

vectorised! {
    /// `y * (g - along)`, in f32 with a rounding after each step.
    fn project<T: Element, N: Element, F: Fn(usize) -> N>(along: F, y: &[T], g: &[T], gx: &mut [T]) {
        for (i, ((gx, &y), &g)) in gx.iter_mut().zip(y).zip(g).enumerate() {
            let gradient = to_f32(y, false) * (to_f32(g, false) - to_f32(along(i), false));
            let nan = T::from_bits(T::TYPE.layout().quiet_nan());
            *gx = if gradient.is_nan() { nan } else { from_f32(gradient, Overflow::Infinity) };
        }
    }
}
