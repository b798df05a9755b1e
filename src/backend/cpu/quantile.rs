//! Exact quantiles: elements are counted by the digits of integer keys in the same order, from the first digit on, so that no
//! element has to be kept; those of short slices are selected from keys in memory.

use std::sync::{Mutex, PoisonError};

use bytemuck::cast_slice;

use super::memory;
use super::partition::Partition;
use crate::element::{BitLayout, NumberClass};
use crate::{Element, Error, Result, Shape};

/// Bits of a key that one pass over the elements determines: the counts of a digit stay in a core's L2 cache.
const DIGIT_BITS: u32 = 16;

/// Maximum number of elements that are counted in 32 bits.
const MOST_COUNTED: usize = 1 << 31;

/// Slices that one thread takes at once.
const SLICES: usize = 64;

/// The quantiles of all elements that are numbers, in the order of `shares`: as `quantile` of the reference
/// says. NaN is not counted.
///
/// ```
/// use wgclip::cpu;
///
/// let x = [9.0f32, 1.0, 7.0, f32::NAN, 5.0];
/// assert_eq!(cpu::quantiles(&x, &[0.25, 0.5, 1.0])?, [1.0, 5.0, 9.0]);
/// # Ok::<(), wgclip::Error>(())
/// ```
///
/// # Errors
/// [`Error::InvalidShare`]; [`Error::NoNumbers`].
pub fn quantiles<T: Element>(x: &[T], shares: &[f64]) -> Result<Vec<T>> {
    quantiles_in_passes(shares, |count| {
        count(x);
        Ok(())
    })
}

/// Does the same for elements that are not in memory together: `pass` shows all of them, in any parts, each time it is called, which is
/// once for each 16 bits of an element.
///
/// # Errors
/// As [`quantiles`], and those of `pass`.
pub fn quantiles_in_passes<T: Element, E: From<Error>>(
    shares: &[f64],
    mut pass: impl FnMut(&mut dyn FnMut(&[T])) -> std::result::Result<(), E>,
) -> std::result::Result<Vec<T>, E> {
    check_shares(shares)?;
    let order = Order::of(T::TYPE.layout());
    let mut search =
        Search { order, known: 0, found: vec![Found::default(); shares.len()], counts: Vec::new() };
    while search.known < order.bits && !shares.is_empty() {
        search.prepare();
        pass(&mut |x| search.add(cast_slice(x)))?;
        if search.known == 0 {
            let total = search.counts[0].1.iter().sum();
            if total == 0 {
                return Err(Error::NoNumbers.into());
            }
            for (found, &share) in search.found.iter_mut().zip(shares) {
                found.rank = rank(total, share);
            }
        }
        search.descend();
    }
    Ok(search.found.iter().map(|found| T::from_bits(order.bits_of(found.prefix))).collect())
}

/// The quantiles of each slice along these axes, counted from 0: for each share one per slice, in C order. A slice of floats without
/// numbers gives NaN.
///
/// # Errors
/// As [`quantiles`]; [`Error::InvalidAxes`]; [`Error::LengthMismatch`]; [`Error::OutOfMemory`].
pub fn quantiles_along<T: Element>(
    x: &[T],
    shape: &Shape,
    axes: &[usize],
    shares: &[f64],
) -> Result<Vec<Vec<T>>> {
    check_shares(shares)?;
    let slices = Slices::new(shape, axes)?;
    if shape.len() != x.len() {
        let (shape, expected) = (shape.dims().to_vec(), shape.len());
        return Err(Error::LengthMismatch { shape, expected, actual: x.len() });
    }
    let order = Order::of(T::TYPE.layout());
    let is_float = T::TYPE.is_float();
    if slices.starts.is_empty() || shares.is_empty() {
        return Ok(vec![Vec::new(); shares.len()]);
    }
    if slices.offsets.is_empty() && !is_float {
        return Err(Error::NoNumbers);
    }
    // Slice by slice, with all shares of a slice adjacent.
    let mut results = memory::zeroed::<T>(slices.starts.len() * shares.len())?;
    let work = |(starts, results): (&[usize], &mut [T])| {
        let mut keys = Vec::new();
        for (&start, results) in starts.iter().zip(results.chunks_mut(shares.len())) {
            keys.clear();
            let elements = slices.offsets.iter().map(|offset| x[start + offset]);
            keys.extend(elements.filter(|x| !x.is_nan()).map(|x| order.key(x.to_bits())));
            for (result, &share) in results.iter_mut().zip(shares) {
                let index = rank(keys.len() as u64, share) as usize;
                let bits = match keys.is_empty() {
                    true => T::TYPE.layout().quiet_nan(),
                    false => order.bits_of(*keys.select_nth_unstable(index).1),
                };
                *result = T::from_bits(bits);
            }
        }
    };
    let count = slices.starts.len().div_ceil(SLICES);
    let mut pieces = slices.starts.chunks(SLICES).zip(results.chunks_mut(SLICES * shares.len()));
    Partition::of_list(size_of_val(x), count).for_each(&mut pieces, &work);
    let of_share = |n: usize| results.iter().skip(n).step_by(shares.len()).copied().collect();
    Ok((0..shares.len()).map(of_share).collect())
}

fn check_shares(shares: &[f64]) -> Result<()> {
    match shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
        Some(share) => Err(Error::InvalidShare { share: share.to_string() }),
        None => Ok(()),
    }
}

/// The index, in order, of the smallest element that a share of all elements do not exceed.
fn rank(total: u64, share: f64) -> u64 {
    let at_most = (share * total as f64).ceil() as u64;
    at_most.min(total).saturating_sub(1)
}

/// How elements of a type become keys: unsigned integers in the same order.
#[derive(Debug, Clone, Copy)]
struct Order {
    bits: u32,
    /// The bits to flip if the sign is set, and if it is not.
    flips: [u64; 2],
    mask: u64,
    sign: u64,
    /// The greatest magnitude that is a number.
    max_number: u64,
}

impl Order {
    fn of(layout: BitLayout) -> Self {
        let (sign, mask) = (layout.sign(), layout.mask());
        let flips = match layout.class {
            NumberClass::Unsigned => [0, 0],
            NumberClass::Signed => [sign, sign],
            NumberClass::Float { .. } => [mask, sign],
        };
        Self { bits: layout.bits, flips, mask, sign, max_number: layout.max_number() }
    }

    #[inline(always)]
    fn key(self, bits: u64) -> u64 {
        bits ^ self.flips[usize::from(bits & self.sign == 0)]
    }

    /// The bits of the element with this key.
    fn bits_of(self, key: u64) -> u64 {
        [key ^ self.flips[0], key ^ self.flips[1]]
            .into_iter()
            .find(|&bits| self.key(bits) == key)
            .unwrap_or(0)
    }

    #[inline(always)]
    fn is_nan(self, bits: u64) -> bool {
        bits & (self.mask >> 1) > self.max_number
    }
}

/// What is known of a quantile: the first bits of its key, and its rank among the keys that begin so.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    prefix: u64,
    rank: u64,
}

struct Search {
    order: Order,
    /// Bits of the prefixes.
    known: u32,
    found: Vec<Found>,
    /// For each prefix, how many keys have each next digit.
    counts: Vec<(u64, Vec<u64>)>,
}

impl Search {
    fn step(&self) -> u32 {
        DIGIT_BITS.min(self.order.bits - self.known)
    }

    /// Begins to count for the known prefixes.
    fn prepare(&mut self) {
        let mut prefixes: Vec<_> = self.found.iter().map(|found| found.prefix).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        let digits = 1 << self.step();
        self.counts = prefixes.into_iter().map(|prefix| (prefix, vec![0; digits])).collect();
    }

    /// Counts elements, on all cores.
    fn add(&mut self, x: &[u8]) {
        let size = self.order.bits as usize / 8;
        let (len, whole) = (x.len() / size, Partition::new(size, x.len() / size));
        let part = len.div_ceil(whole.threads()).clamp(1, MOST_COUNTED) * size;
        let (order, known, step) = (self.order, self.known, self.step());
        for (prefix, counts) in &mut self.counts {
            let (prefix, counts) = (*prefix, Mutex::new(counts));
            let work = |x: &[u8]| {
                let mut table = vec![0u32; 1 << step];
                let digits = (known, order.bits - known - step);
                match size {
                    1 => count(x.iter().map(|&x| x.into()), order, prefix, digits, &mut table),
                    2 => count(
                        cast_slice::<_, u16>(x).iter().map(|&x| x.into()),
                        order,
                        prefix,
                        digits,
                        &mut table,
                    ),
                    4 => count(
                        cast_slice::<_, u32>(x).iter().map(|&x| x.into()),
                        order,
                        prefix,
                        digits,
                        &mut table,
                    ),
                    _ => count(cast_slice::<_, u64>(x).iter().copied(), order, prefix, digits, &mut table),
                }
                let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                counts.iter_mut().zip(table).for_each(|(all, some)| *all += u64::from(some));
            };
            Partition::of_list(x.len(), len.div_ceil((part / size).max(1)))
                .for_each(&mut x.chunks(part), &work);
        }
    }

    /// Takes the next digit of each quantile from the counts.
    fn descend(&mut self) {
        let step = self.step();
        for found in &mut self.found {
            let counts = self.counts.iter().find(|(prefix, _)| *prefix == found.prefix);
            let counts = counts.map_or(&[][..], |(_, counts)| counts);
            let mut digit = 0;
            for (n, &count) in counts.iter().enumerate() {
                digit = n;
                if found.rank < count {
                    break;
                }
                found.rank -= count;
            }
            found.prefix = found.prefix << step | digit as u64;
        }
        self.known += step;
    }
}

/// Counts the next digits of the keys that begin with a prefix of `known` bits; `rest` bits follow.
#[inline(always)]
fn count(
    x: impl Iterator<Item = u64>,
    order: Order,
    prefix: u64,
    (known, rest): (u32, u32),
    table: &mut [u32],
) {
    let last = table.len() - 1;
    let (first, digits) = (order.bits - known, table.len() as u64 - 1);
    for bits in x {
        let key = order.key(bits);
        let begins = known == 0 || key >> first == prefix;
        if begins && !order.is_nan(bits) {
            let digit = (key >> rest & digits) as usize;
            table[digit.min(last)] += 1;
        }
    }
}

/// The slices of a tensor along axes: where each begins, and the offsets of its elements.
pub(super) struct Slices {
    pub starts: Vec<usize>,
    pub offsets: Vec<usize>,
}

impl Slices {
    pub(super) fn new(shape: &Shape, axes: &[usize]) -> Result<Self> {
        let dims = shape.dims();
        let unique = axes.iter().enumerate().all(|(n, axis)| *axis < dims.len() && !axes[..n].contains(axis));
        if !unique {
            return Err(Error::InvalidAxes { axes: axes.to_vec(), shape: dims.to_vec() });
        }
        Ok(Self {
            starts: Self::places(dims, |axis| !axes.contains(&axis))?,
            offsets: Self::places(dims, |axis| axes.contains(&axis))?,
        })
    }

    /// The indices of the elements that differ in some axes, in C order.
    fn places(dims: &[usize], varies: impl Fn(usize) -> bool) -> Result<Vec<usize>> {
        let varying: Vec<_> = (0..dims.len()).filter(|&axis| varies(axis)).collect();
        let mut indices = Vec::new();
        let count = varying.iter().map(|&axis| dims[axis]).product();
        memory::reserve(&mut indices, count)?;
        if count > 0 {
            indices.push(0);
        }
        for axis in varying {
            let stride: usize = dims[axis + 1..].iter().product();
            let before = std::mem::take(&mut indices);
            memory::reserve(&mut indices, count)?;
            indices.extend(before.iter().flat_map(|&index| (0..dims[axis]).map(move |n| index + n * stride)));
        }
        Ok(indices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ElementType, f8_e4m3fn, f16, reference, with_element};

    const SHARES: [f64; 9] = [0.0, 1e-9, 0.01, 0.25, 0.5, 0.75, 0.999, 1.0 - 1e-12, 1.0];

    /// Every type, with random bits and special ones, in parts and along axes.
    #[test]
    fn quantiles_are_those_of_the_reference() {
        for &element in ElementType::ALL {
            with_element!(element, T => compare::<T>());
        }
    }

    fn compare<T: Element>() {
        let rng = &mut fastrand::Rng::with_seed(5);
        let mask = T::TYPE.layout().mask();
        let special = [0, 1, T::TYPE.layout().sign(), mask, mask >> 1, T::TYPE.layout().max_number() & mask];
        let bits = |rng: &mut fastrand::Rng| match rng.u8(..9) {
            0 => special[rng.usize(..special.len())],
            // Close together, so that several passes are needed to distinguish them.
            1..5 => rng.u64(..1 << 9) & mask,
            _ => rng.u64(..) & mask,
        };
        let x: Vec<T> = (0..6 * 5 * 7 * 11).map(|_| T::from_bits(bits(rng))).collect();
        let expected = |x: &[T]| {
            SHARES.map(|share| {
                reference::quantile(x, share).map_or(T::TYPE.layout().quiet_nan(), Element::to_bits)
            })
        };
        let bits = |x: Vec<T>| x.into_iter().map(Element::to_bits).collect::<Vec<_>>();
        for len in [1, 2, 37, x.len()] {
            let one = SHARES.map(|share| {
                quantiles(&x[..len], &[share]).map_or(T::TYPE.layout().quiet_nan(), |of| of[0].to_bits())
            });
            assert_eq!(one, expected(&x[..len]), "{} {len}", T::TYPE);
        }
        let parts = quantiles_in_passes::<T, Error>(&SHARES, |add| {
            x.chunks(173).for_each(add);
            Ok(())
        });
        assert_eq!(bits(parts.unwrap()), expected(&x), "{}", T::TYPE);
        let shape = Shape::new([6, 5, 7, 11]).unwrap();
        for axes in [&[0usize][..], &[3], &[1, 3], &[3, 0], &[], &[0, 1, 2, 3]] {
            let slices = Slices::new(&shape, axes).unwrap();
            let slice =
                |&start: &usize| slices.offsets.iter().map(|offset| x[start + offset]).collect::<Vec<T>>();
            let each: Vec<_> = slices.starts.iter().map(|start| expected(&slice(start))).collect();
            let results = quantiles_along(&x, &shape, axes, &SHARES).unwrap();
            for (n, result) in results.into_iter().enumerate() {
                assert_eq!(
                    bits(result),
                    each.iter().map(|of| of[n]).collect::<Vec<_>>(),
                    "{} {axes:?}",
                    T::TYPE
                );
            }
        }
    }

    /// Many elements, on several threads.
    #[test]
    fn parts_of_threads_are_added() {
        let x: Vec<u32> = (0..3_000_017u32).map(|n| n.wrapping_mul(2_654_435_761)).collect();
        let mut sorted = x.clone();
        sorted.sort_unstable();
        let found = quantiles(&x, &SHARES).unwrap();
        assert_eq!(found, SHARES.map(|share| sorted[rank(x.len() as u64, share) as usize]));
        let halves: Vec<f16> = x.iter().map(|&x| f16::from_bits(x as u16)).collect();
        assert_eq!(quantiles(&halves, &[0.3]).unwrap()[0], reference::quantile(&halves, 0.3).unwrap());
    }

    #[test]
    fn what_has_no_quantile_is_an_error() {
        assert!(matches!(quantiles(&[1.0f32], &[1.5]), Err(Error::InvalidShare { .. })));
        assert!(matches!(quantiles(&[1.0f32], &[f64::NAN]), Err(Error::InvalidShare { .. })));
        assert!(matches!(quantiles::<f32>(&[], &[0.5]), Err(Error::NoNumbers)));
        assert!(matches!(quantiles(&[f8_e4m3fn::from_bits(0x7f)], &[0.5]), Err(Error::NoNumbers)));
        let shape = Shape::new([0, 3]).unwrap();
        assert!(matches!(quantiles_along::<u8>(&[], &shape, &[0], &[0.5]), Err(Error::NoNumbers)));
        assert!(matches!(quantiles_along(&[1u8], &shape, &[0], &[0.5]), Err(Error::LengthMismatch { .. })));
        assert!(matches!(quantiles_along::<u8>(&[], &shape, &[2], &[0.5]), Err(Error::InvalidAxes { .. })));
        assert!(quantiles_along::<f32>(&[], &shape, &[0], &[0.5]).unwrap()[0].iter().all(|x| x.is_nan()));
    }
}
