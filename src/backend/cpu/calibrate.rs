//! Calibration: the scale and zero point of each slice of a tensor, from passes over its elements.

use super::partition::Partition;
use super::quantile::{Slices, quantiles_in_passes};
use crate::quantize::{Calibration, Grid, QuantParams, QuantRule, ValueRange};
use crate::{Element, Error, Result, Shape};

/// Elements of a block, whose squared errors are added in order: they stay in a core's L1 cache while all candidates are tried.
const BLOCK: usize = 2048;

/// The numbers that the ends of a range are multiplied by are n / DENOMINATOR.
const DENOMINATOR: u32 = 1024;

/// The step between the multipliers that are tried first.
const COARSE: u32 = 16;

/// The lanes in which squared errors are added.
const LANES: usize = 8;

/// The scale and zero point of each slice along these axes, counted from 0, in C order, for the codes of a rule or 8-bit floats.
///
/// ```
/// use wgclip::quantize::{Calibration, QuantRule};
/// use wgclip::{Shape, cpu};
///
/// let x = [-1.0f32, 0.5, 2.54, 0.0];
/// let rows = cpu::calibrate(&x, &Shape::new([2, 2])?, &[1], Calibration::default(), QuantRule::EXACT)?;
/// assert_eq!(rows.iter().map(|row| row.scale).collect::<Vec<_>>(), [1.0 / 127.0, 0.02]);
/// # Ok::<(), wgclip::Error>(())
/// ```
///
/// # Errors
/// [`Error::NonFiniteValues`], unless these are left out; [`Error::InvalidRange`]; [`Error::InvalidShare`]; [`Error::QuantRange`];
/// [`Error::InvalidAxes`]; [`Error::LengthMismatch`]; [`Error::OutOfMemory`]; [`Error::Unsupported`] for integers.
pub fn calibrate<T: Element>(
    x: &[T],
    shape: &Shape,
    axes: &[usize],
    calibration: Calibration,
    codes: impl Into<Grid>,
) -> Result<Vec<QuantParams>> {
    let codes = codes.into();
    shape.check_len(x.len())?;
    let slices = Slices::new(shape, axes)?;
    let (len, count) = (slices.offsets.len(), slices.starts.len());
    if len == 0 {
        let empty = of_slice::<T>(&[], calibration, codes)?;
        return Ok(vec![empty; count]);
    }
    let is_contiguous = slices.offsets.last().is_none_or(|&last| last + 1 == len);
    if is_contiguous && count <= 2 * super::threads() {
        // Few slices, each on all cores.
        let of = |&start: &usize| of_slice(&x[start..start + len], calibration, codes);
        return slices.starts.iter().map(of).collect();
    }
    let mut found: Vec<Option<Result<QuantParams>>> = Vec::new();
    found.resize_with(count, || None);
    let each = (BLOCK / len.max(1)).max(1);
    let work = |(starts, found): (&[usize], &mut [Option<Result<QuantParams>>])| {
        let mut slice = Vec::new();
        for (&start, found) in starts.iter().zip(found) {
            let x = match is_contiguous {
                true => &x[start..start + len],
                false => {
                    slice.clear();
                    slice.extend(slices.offsets.iter().map(|offset| x[start + offset]));
                    &slice
                }
            };
            *found = Some(super::on_this_thread(|| of_slice(x, calibration, codes)));
        }
    };
    let mut pieces = slices.starts.chunks(each).zip(found.chunks_mut(each));
    Partition::of_list(size_of_val(x), count.div_ceil(each)).for_each(&mut pieces, &work);
    found.into_iter().flatten().collect()
}

fn of_slice<T: Element>(x: &[T], calibration: Calibration, codes: Grid) -> Result<QuantParams> {
    calibrate_in_passes(calibration, codes, |take| {
        take(x);
        Ok(())
    })
}

/// The scale and zero point of elements that are not in memory together: `pass` shows all of them, in any parts, each time it is called: once for
/// the least and the greatest; then for quantiles once for each 16 bits of an element, and for the least squared error twice.
///
/// # Errors
/// As [`calibrate`], and those of `pass`.
pub fn calibrate_in_passes<T: Element, E: From<Error>>(
    calibration: Calibration,
    codes: impl Into<Grid>,
    mut pass: impl FnMut(&mut dyn FnMut(&[T])) -> std::result::Result<(), E>,
) -> std::result::Result<QuantParams, E> {
    let Calibration { range, finite_only, .. } = calibration;
    let codes = codes.into();
    range.check()?;
    codes.check()?;
    if !T::TYPE.is_float() {
        return Err(Error::Unsupported {
            what: format!("calibration of {}", T::TYPE),
            device: "any device".into(),
            instead: "integers are codes already: convert them to floats".into(),
        }
        .into());
    }
    let mut scan = Scan::default();
    pass(&mut |x| scan.add(x))?;
    if scan.odd > 0 && !finite_only {
        return Err(Error::NonFiniteValues { count: scan.odd }.into());
    }
    let (least, greatest) = scan.ends();
    let (lo, hi) = match range {
        ValueRange::Given { lo, hi } => (lo, hi),
        ValueRange::MinMax => (least, greatest),
        // Without numbers.
        _ if scan.lo > scan.hi => (0.0, 0.0),
        ValueRange::Quantiles { lo, hi } => {
            let found = quantiles_in_passes::<T, E>(&[lo, hi], |count| {
                pass(&mut |x| match scan.odd {
                    0 => count(x),
                    _ => count(&x.iter().copied().filter(|&x| is_finite(x)).collect::<Vec<_>>()),
                })
            })?;
            match found[..] {
                [lo, hi] => (lo.to_f64(), hi.to_f64()),
                _ => (least, greatest),
            }
        }
        ValueRange::SquaredError => {
            let Grid::Integers(rule) = codes else {
                return Err(Error::Unsupported {
                    what: "the range mse of 8-bit floats".into(),
                    device: "any device".into(),
                    instead: "give minmax, percentiles, or two numbers".into(),
                }
                .into());
            };
            let mut search = |multipliers: Vec<u32>| {
                let mut search = Search::new(calibration, rule, (least, greatest), multipliers)?;
                pass(&mut |x| search.add(x))?;
                Ok::<_, E>(search.best())
            };
            let best = search((1..=DENOMINATOR / COARSE).map(|n| n * COARSE).collect())?;
            let near = best - COARSE + 1..(best + COARSE).min(DENOMINATOR + 1);
            let share = f64::from(search(near.collect())?) / f64::from(DENOMINATOR);
            (least * share, greatest * share)
        }
    };
    Ok(codes.params(calibration, lo, hi)?)
}

fn is_finite<T: Element>(x: T) -> bool {
    x.to_f64().is_finite()
}

/// The least and the greatest finite element, and how many are not finite.
#[derive(Debug, Clone, Copy)]
struct Scan {
    lo: f64,
    hi: f64,
    odd: u64,
}

impl Default for Scan {
    fn default() -> Self {
        Self { lo: f64::INFINITY, hi: f64::NEG_INFINITY, odd: 0 }
    }
}

impl Scan {
    fn add<T: Element>(&mut self, x: &[T]) {
        for part in map_parts(x, Self::of) {
            *self = Self { lo: self.lo.min(part.lo), hi: self.hi.max(part.hi), odd: self.odd + part.odd };
        }
    }

    fn of<T: Element>(x: &[T]) -> Self {
        let mut scan = Self::default();
        for x in x.iter().map(|x| x.to_f64()) {
            let finite = x.is_finite();
            scan.odd += u64::from(!finite);
            scan.lo = if finite && x < scan.lo { x } else { scan.lo };
            scan.hi = if finite && x > scan.hi { x } else { scan.hi };
        }
        scan
    }

    /// 0 where there are no numbers.
    fn ends(self) -> (f64, f64) {
        if self.lo > self.hi { (0.0, 0.0) } else { (self.lo, self.hi) }
    }
}

/// What a function makes of parts of a slice, in order, on all cores.
fn map_parts<T: Element, R: Send>(x: &[T], work: impl Fn(&[T]) -> R + Sync) -> Vec<R> {
    let part = Partition::new(size_of::<T>(), x.len()).chunk.next_multiple_of(BLOCK);
    let mut results: Vec<Option<R>> = Vec::new();
    results.resize_with(x.len().div_ceil(part), || None);
    let mut pieces = x.chunks(part).zip(&mut results);
    Partition::of_list(size_of_val(x), x.len().div_ceil(part)).for_each(&mut pieces, &|(x, result): (
        &[T],
        &mut Option<R>,
    )| {
        *result = Some(work(x))
    });
    results.into_iter().flatten().collect()
}

/// The squared errors of some parts of a range.
struct Search {
    /// In 1024ths of the range.
    multipliers: Vec<u32>,
    /// The scale of each, its reciprocal, and the least and the greatest code as steps from the zero point.
    grids: Vec<[f64; 4]>,
    errors: Vec<f64>,
}

impl Search {
    fn new(
        Calibration { scheme, .. }: Calibration,
        rule: QuantRule,
        (lo, hi): (f64, f64),
        multipliers: Vec<u32>,
    ) -> Result<Self> {
        let grid = |&n: &u32| {
            let share = f64::from(n) / f64::from(DENOMINATOR);
            let QuantParams { scale, zero_point } = rule.params(scheme, lo * share, hi * share)?;
            let scale = f64::from(scale);
            Ok([scale, 1.0 / scale, f64::from(rule.min - zero_point), f64::from(rule.max - zero_point)])
        };
        let grids: Vec<_> = multipliers.iter().map(grid).collect::<Result<_>>()?;
        Ok(Self { errors: vec![0.0; grids.len()], multipliers, grids })
    }

    /// Adds the errors of elements, in an order that does not depend on the number of cores.
    fn add<T: Element>(&mut self, x: &[T]) {
        let grids = &self.grids;
        let parts = map_parts(x, |x| {
            let mut numbers = Vec::with_capacity(BLOCK);
            let mut blocks = Vec::with_capacity(x.len().div_ceil(BLOCK) * grids.len());
            for block in x.chunks(BLOCK) {
                numbers.clear();
                numbers.extend(block.iter().map(|x| x.to_f64()).filter(|x| x.is_finite()));
                blocks.extend(grids.iter().map(|grid| squared_error(&numbers, *grid)));
            }
            blocks
        });
        for blocks in parts.iter().flat_map(|part| part.chunks(grids.len())) {
            self.errors.iter_mut().zip(blocks).for_each(|(error, block)| *error += block);
        }
    }

    /// The multiplier with the least error.
    fn best(&self) -> u32 {
        let mut best = (f64::INFINITY, DENOMINATOR);
        for (&error, &multiplier) in self.errors.iter().zip(&self.multipliers) {
            if error <= best.0 {
                best = (error, multiplier);
            }
        }
        best.1
    }
}

/// The sum of the squared differences of numbers and the values of their codes. The quotient is that of a reciprocal: it is the search alone
/// that depends on it.
fn squared_error(x: &[f64], [scale, reciprocal, min, max]: [f64; 4]) -> f64 {
    /// Adding it rounds to an integer, half to even: it leaves no bits of a fraction.
    const ROUND: f64 = 1.5 * (1u64 << 52) as f64;
    let error = |x: f64| {
        let steps = (x * reciprocal).max(min).min(max);
        let error = x - ((steps + ROUND) - ROUND) * scale;
        error * error
    };
    let (blocks, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for block in blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            *sum += error(x);
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|&x| error(x)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bf16;
    use crate::quantize::Scheme;

    const AFFINE: Calibration =
        Calibration { range: ValueRange::MinMax, scheme: Scheme::Affine, finite_only: false };

    fn numbers(count: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(7);
        (0..count).map(|_| random.f32() * random.f32() * 8.0 - 2.0).collect()
    }

    #[test]
    fn slices_are_calibrated_alone() {
        let x = numbers(6 * 35);
        let shape = Shape::new([6, 5, 7]).unwrap();
        for range in
            [ValueRange::MinMax, ValueRange::SquaredError, ValueRange::Quantiles { lo: 0.1, hi: 0.8 }]
        {
            let calibration = Calibration { range, ..AFFINE };
            let alone = |x: &[f32]| {
                calibrate(x, &Shape::new([x.len()]).unwrap(), &[0], calibration, QuantRule::EXACT)
            };
            let rows = calibrate(&x, &shape, &[1, 2], calibration, QuantRule::EXACT).unwrap();
            let expected: Vec<_> = x.chunks(35).map(|row| alone(row).unwrap()[0]).collect();
            assert_eq!(rows, expected, "{range}");
            let columns = calibrate(&x, &shape, &[0, 2], calibration, QuantRule::EXACT).unwrap();
            for (n, column) in columns.iter().enumerate() {
                let of = x.chunks(7).skip(n).step_by(5).flatten().copied().collect::<Vec<_>>();
                assert_eq!(*column, alone(&of).unwrap()[0], "{range}, column {n}");
            }
        }
    }

    #[test]
    fn the_ends_are_those_of_the_elements() {
        let x = numbers(300_001);
        let shape = Shape::new([x.len()]).unwrap();
        let of = |range| {
            calibrate(&x, &shape, &[0], Calibration { range, ..AFFINE }, QuantRule::EXACT).unwrap()[0]
        };
        let mut sorted = x.clone();
        sorted.sort_by(f32::total_cmp);
        let params =
            |lo: f32, hi: f32| QuantRule::EXACT.params(Scheme::Affine, lo.into(), hi.into()).unwrap();
        assert_eq!(of(ValueRange::MinMax), params(sorted[0], sorted[300_000]));
        // The elements that 30,001 and 270,001 of them do not exceed.
        let (lo, hi) = (0.1, 0.9);
        assert_eq!(of(ValueRange::Quantiles { lo, hi }), params(sorted[30_000], sorted[270_000]));
        assert_eq!(of(ValueRange::Given { lo: -1.0, hi: 3.0 }), params(-1.0, 3.0));
    }

    /// Beside the errors of the reference's values, for every multiplier that the search may take.
    #[test]
    fn the_squared_error_is_the_least_of_those_tried() {
        // One element far from the others is worth to be clipped.
        let mut x = numbers(4001);
        x[1234] = 60.0;
        let rule = QuantRule::EXACT.bits(4).unwrap();
        let calibration = Calibration { range: ValueRange::SquaredError, ..Calibration::default() };
        let found = calibrate(&x, &Shape::new([4001]).unwrap(), &[0], calibration, rule).unwrap()[0];
        let error = |scale: f32| -> f64 {
            let code = |x: f32| f64::from(x / scale).round_ties_even().clamp(-8.0, 7.0);
            x.iter().map(|&x| (f64::from(x) - code(x) * f64::from(scale)).powi(2)).sum()
        };
        let scale = |n: u32| rule.params(Scheme::Symmetric, 0.0, 60.0 * f64::from(n) / 1024.0).unwrap().scale;
        let coarse =
            (1..=64).map(|n| 16 * n).min_by(|&a, &b| error(scale(a)).total_cmp(&error(scale(b)))).unwrap();
        let fine = (coarse - 15..coarse + 16).map(|n| error(scale(n))).min_by(f64::total_cmp).unwrap();
        assert!(
            (error(found.scale) / fine - 1.0).abs() < 1e-6,
            "{found:?}: {} and {fine}",
            error(found.scale)
        );
        assert!(error(found.scale) < 0.5 * error(scale(1024)));
    }

    #[test]
    fn parts_give_what_the_whole_gives() {
        let x: Vec<bf16> = numbers(10_000).into_iter().map(bf16::from_f32).collect();
        let shape = Shape::new([x.len()]).unwrap();
        for range in
            [ValueRange::MinMax, ValueRange::Quantiles { lo: 0.01, hi: 0.99 }, ValueRange::SquaredError]
        {
            let calibration = Calibration { range, ..AFFINE };
            let whole = calibrate(&x, &shape, &[0], calibration, QuantRule::EXACT).unwrap()[0];
            let parts = calibrate_in_passes::<bf16, Error>(calibration, QuantRule::EXACT, |take| {
                x.chunks(999).for_each(take);
                Ok(())
            });
            assert_eq!(parts, Ok(whole), "{range}");
        }
    }

    #[test]
    fn floats_have_the_scale_of_the_greatest_magnitude() {
        use crate::quantize::{FloatCodes, FloatFormat, FloatScale};

        let x = [1.0f32, -896.0, 3.0, 100.0];
        let shape = Shape::new([2, 2]).unwrap();
        let codes = FloatCodes { format: FloatFormat::E4M3, scale: FloatScale::Greatest };
        let scales = |codes: FloatCodes| {
            let rows = calibrate(&x, &shape, &[1], Calibration::default(), codes).unwrap();
            rows.iter().map(|row| row.scale).collect::<Vec<_>>()
        };
        assert_eq!(scales(codes), [2.0, 100.0 / 448.0]);
        assert_eq!(scales(FloatCodes::MX_E4M3), [2.0, 0.25]);
        let mse = Calibration { range: ValueRange::SquaredError, ..Calibration::default() };
        assert!(matches!(calibrate(&x, &shape, &[1], mse, codes), Err(Error::Unsupported { .. })));
    }

    #[test]
    fn what_is_not_finite_is_an_error_or_left_out() {
        let x = [1.0f32, f32::NAN, -3.0, f32::INFINITY];
        let shape = Shape::new([4]).unwrap();
        for range in
            [ValueRange::MinMax, ValueRange::SquaredError, ValueRange::Quantiles { lo: 0.0, hi: 1.0 }]
        {
            let strict = Calibration { range, ..AFFINE };
            let error = calibrate(&x, &shape, &[0], strict, QuantRule::EXACT);
            assert_eq!(error, Err(Error::NonFiniteValues { count: 2 }));
            let left_out = Calibration { finite_only: true, ..strict };
            let found = calibrate(&x, &shape, &[0], left_out, QuantRule::EXACT).unwrap()[0];
            if range != ValueRange::SquaredError {
                assert_eq!(found, QuantRule::EXACT.params(Scheme::Affine, -3.0, 1.0).unwrap());
            }
            let nothing = calibrate(&[f32::NAN; 4], &shape, &[0], left_out, QuantRule::EXACT).unwrap()[0];
            assert_eq!((nothing.scale, nothing.zero_point), (1.0, -128), "{range}");
        }
        let integers = calibrate(&[1i32], &Shape::new([1]).unwrap(), &[0], AFFINE, QuantRule::EXACT);
        assert!(matches!(integers, Err(Error::Unsupported { .. })));
        let empty =
            calibrate::<f32>(&[], &Shape::new([0, 2]).unwrap(), &[0], AFFINE, QuantRule::EXACT).unwrap();
        assert_eq!(empty.iter().map(|params| params.scale).collect::<Vec<_>>(), [1.0, 1.0]);
        let wrong = calibrate(&x, &Shape::new([3]).unwrap(), &[0], AFFINE, QuantRule::EXACT);
        assert!(matches!(wrong, Err(Error::LengthMismatch { .. })));
    }
}
