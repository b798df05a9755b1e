//! The table of reductions and clipping by norm: compares the results of a device with the reference, with zero
//! tolerance.

use wgclip::norm::AnyTensor;
use wgclip::op::Op;
use wgclip::reference::{self, Scaling};
use wgclip::{
    Device, Element, ElementType, Error, NonFinitePolicy, NormKind, NormLimit, Result, Tensor, bf16,
    clip_by_global_norm, f16, with_element,
};

use super::case::supported;
use crate::case::{Mismatch, Tally};
use crate::inputs::{SUM_KINDS, above_middle, hard_to_sum};
use crate::parallel;
use crate::{SHAPES, Tier};

/// Runs the table of an operation on slices for one type, up to the first mismatch.
///
/// # Errors
/// Those of the device; a mismatch is not an error.
pub fn find_mismatch_of_slices(device: &Device, element: ElementType, op: Op, seed: u64) -> Result<Tally> {
    run_table(device, element, op, Tier::Quick, seed, true)
}

pub(super) fn run_table(
    device: &Device,
    element: ElementType,
    op: Op,
    tier: Tier,
    seed: u64,
    first_only: bool,
) -> Result<Tally> {
    let mut tally = Tally::default();
    if !op.is_for(element, device.info().limits.is_some()) {
        return Ok(tally);
    }
    with_element!(element, T => {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let lengths = lengths::<T>(tier).into_iter().enumerate().map(|(n, len)| (n, vec![len], vec![0]));
        let shapes = SHAPES.iter().map(|shapes| shapes.0).chain(LONG_ROWS.iter().copied());
        let shapes = shapes.enumerate().flat_map(|(n, dims)| {
            // Every set of axes if there are few, some if there are many.
            let step = (1 << dims.len() >> 2).max(1);
            let sets = (n % step..1usize << dims.len()).step_by(step);
            let axes = |set: usize| (0..dims.len()).filter(move |axis| set >> axis & 1 == 1).collect();
            sets.map(move |set| (n + set, dims.to_vec(), axes(set)))
        });
        let middles = [3, 16, 300].into_iter().flat_map(|len| ABOVE_MIDDLE.map(|way| (way, vec![len], vec![0])));
        // A third for the smaller tiers, a different third for each seed; everything when looking for a mismatch.
        let step = if tier == Tier::Full || first_only { 1 } else { 3 };
        let all = lengths.chain(shapes).chain(middles).skip(rng.usize(..step)).step_by(step);
        for (n, dims, axes) in all {
            let len = dims.iter().product();
            let x = match ABOVE_MIDDLE.iter().position(|&way| way == n) {
                Some(way) => above_middle::<T>(len, way == 1),
                None => hard_to_sum::<T>(rng, n, len),
            };
            let table = Case { device, dims: &dims, axes: &axes, x: &x };
            let mut found = Tally::default();
            let done = match op {
                Op::Sum => table.sum(&mut found),
                Op::Norm => table.norm(&mut found),
                Op::ClipByNorm => table.clip_by_norm(&mut found, rng),
                Op::ClipByNormBackward => table.clip_by_norm_backward(&mut found, rng, n),
                Op::Softmax => table.softmax(&mut found, rng, n),
                Op::SoftmaxBackward => table.softmax_backward(&mut found, rng, n),
                Op::ClipByGlobalNorm => table.clip_by_global_norm(&mut found, rng),
                _ => Err(Error::Internal { op: op.name(), what: "in the table of slices".into() }),
            };
            supported(done)?;
            tally.add(found);
            if first_only && tally.mismatches > 0 {
                break;
            }
        }
    });
    Ok(tally)
}

/// Used as kinds: the elements of [`above_middle`].
const ABOVE_MIDDLE: [usize; 2] = [usize::MAX - 1, usize::MAX];

/// Rows that are split over several invocations, with partial blocks.
const LONG_ROWS: &[&[usize]] = &[&[3, 1021], &[5, 1027], &[2, 3, 701], &[2, 40_003]];

/// Lengths around each boundary: of a block, a lane, a chunk, a workgroup and its share, and a binding under tight limits. Short
/// tensors also reveal errors in splitting the work.
fn lengths<T: Element>(tier: Tier) -> Vec<usize> {
    let blocks = 16 / size_of::<T>();
    let boundaries = [1, 16, 128, 256, 2048, 256 * blocks, 1024 * blocks, 4096 * blocks, 16 * 1024 * blocks];
    let mut lengths: Vec<_> = [0, 2, 3, 5].into_iter().collect();
    for boundary in boundaries {
        lengths.extend([boundary - 1, boundary, boundary + 1]);
    }
    // Every kind is combined with several lengths.
    lengths.extend((0..SUM_KINDS).map(|n| 5_000 + n));
    lengths.extend((0..SUM_KINDS).map(|n| 70_000 + 8 * n));
    if tier == Tier::Full {
        lengths.extend((0..2).map(|n| (1 << 20) + 3 + n));
    } else {
        lengths.retain(|len| *len < 20_000);
    }
    lengths
}

/// Elements, and axes along which they are reduced.
pub(super) struct Case<'a, T> {
    pub device: &'a Device,
    pub dims: &'a [usize],
    pub axes: &'a [usize],
    pub x: &'a [T],
}

impl<T: Element> Case<'_, T> {
    fn tensor(&self) -> Result<Tensor<T>> {
        self.device.tensor(self.x, self.dims)
    }

    /// The output index of each element.
    fn outputs(&self) -> (Vec<usize>, usize) {
        let kept = |axis: usize| !self.axes.contains(&axis);
        let count = (0..self.dims.len()).filter(|&axis| kept(axis)).map(|axis| self.dims[axis]).product();
        let index = |i: usize| {
            let (mut rest, mut stride, mut index) = (i, 1, 0);
            for axis in (0..self.dims.len()).rev() {
                let at = rest % self.dims[axis];
                rest /= self.dims[axis];
                if kept(axis) {
                    index += at * stride;
                    stride *= self.dims[axis];
                }
            }
            index
        };
        ((0..self.x.len()).map(index).collect(), count)
    }

    /// The result for the elements of each output.
    fn reduced<U: Send + Sync>(&self, x: &[T], reduce: &(dyn Fn(&[T]) -> U + Sync)) -> Vec<U> {
        let slices = self.slices(x);
        parallel::map(slices.len(), &|n| reduce(&slices[n]))
    }

    /// The elements of each output.
    pub(super) fn slices(&self, x: &[T]) -> Vec<Vec<T>> {
        let (indices, count) = self.outputs();
        let mut slices = vec![Vec::new(); count];
        for (&x, index) in x.iter().zip(indices) {
            slices[index].push(x);
        }
        slices
    }

    /// A tensor of the elements of each output.
    pub(super) fn joined(&self, slices: Vec<Vec<T>>) -> Vec<T> {
        let mut slices: Vec<_> = slices.into_iter().map(Vec::into_iter).collect();
        self.outputs().0.into_iter().filter_map(|index| slices[index].next()).collect()
    }

    pub(super) fn compare<U: Element>(&self, tally: &mut Tally, op: String, expected: &[U], actual: &[U]) {
        tally.compare(expected, actual, |mismatch| Mismatch {
            device: self.device.info().to_string(),
            element: T::TYPE,
            op,
            operands: format!("x of shape {:?}, axes {:?}", self.dims, self.axes),
            ..mismatch
        });
    }

    fn sum(&self, tally: &mut Tally) -> Result<()> {
        let x = self.tensor()?;
        self.compare(tally, "sum".into(), &[reference::sum(self.x)], &x.sum(..)?.to_vec()?);
        let sums = self.reduced(self.x, &reference::sum);
        self.compare(tally, "sum of slices".into(), &sums, &x.sum(self.axes)?.to_vec()?);
        Ok(())
    }

    fn norm(&self, tally: &mut Tally) -> Result<()> {
        let x = self.tensor()?;
        for kind in NormKind::ALL {
            let norm = x.norm(kind, ..)?.to_vec()?;
            self.compare(tally, format!("norm ({kind})"), &[reference::norm(self.x, kind)], &norm);
            let norms = self.reduced(self.x, &|slice| reference::norm(slice, kind));
            let actual = x.norm(kind, self.axes)?.to_vec()?;
            self.compare(tally, format!("norm ({kind}) of slices"), &norms, &actual);
        }
        Ok(())
    }

    /// Limits below, at and above a norm, with every policy among them.
    fn limits(&self, norm: T::Norm, kind: NormKind, rng: &mut fastrand::Rng) -> Vec<NormLimit> {
        let norm = norm.to_f64();
        let limits = [norm, norm / 3.0, norm * 0.999_999_9, 0.0, 1.0, f64::INFINITY];
        let limits = limits.map(|limit| if limit.is_finite() || limit > 0.0 { limit } else { 2.0 });
        // Half of them: other elements are combined with the rest.
        limits
            .into_iter()
            .skip(rng.usize(..2))
            .step_by(2)
            .map(|limit| {
                let (eps, policy) =
                    ([0.0, 1e-6, 0.5][rng.usize(..3)], rng.usize(..NonFinitePolicy::ALL.len()));
                NormLimit::new(limit).kind(kind).eps(eps).nonfinite(NonFinitePolicy::ALL[policy])
            })
            .collect()
    }

    fn clip_by_norm(&self, tally: &mut Tally, rng: &mut fastrand::Rng) -> Result<()> {
        let x = self.tensor()?;
        let (indices, _) = self.outputs();
        let kind = NormKind::ALL[rng.usize(..3)];
        let norm = reference::norm(self.x, kind);
        // For long tensors each way is slow to compare, and no different.
        let limits = if self.x.len() > 20_000 { 1 } else { usize::MAX };
        for limit in self.limits(norm, kind, rng).into_iter().take(limits) {
            let scaled = |scaling| self.x.iter().map(|&x| reference::scale(x, scaling)).collect::<Vec<_>>();
            let expected = scaled(reference::scaling(norm, &limit));
            let fails = limit.nonfinite == NonFinitePolicy::Error && !norm.to_f64().is_finite();
            let actual = x.clip_by_norm(limit, ..).and_then(|y| y.to_vec());
            self.clipped(
                tally,
                "clip_by_norm",
                limit,
                fails.then_some(()).map_or(Ok(expected), Err),
                actual,
            )?;

            let average = reference::average(norm, self.x.len().max(1));
            let expected = scaled(reference::scaling(average, &limit));
            let actual = x.clip_by_average_norm(limit, ..).and_then(|y| y.to_vec());
            let fails = limit.nonfinite == NonFinitePolicy::Error && !average.to_f64().is_finite();
            self.clipped(
                tally,
                "clip_by_average_norm",
                limit,
                fails.then_some(()).map_or(Ok(expected), Err),
                actual,
            )?;

            let norms = self.reduced(self.x, &|slice| reference::norm(slice, kind));
            let fails = limit.nonfinite == NonFinitePolicy::Error
                && norms.iter().any(|norm| !norm.to_f64().is_finite());
            let scale =
                |(&x, &index): (&T, &usize)| reference::scale(x, reference::scaling(norms[index], &limit));
            let expected = self.x.iter().zip(&indices).map(scale).collect();
            let actual = x.clip_by_norm(limit, self.axes).and_then(|y| y.to_vec());
            self.clipped(
                tally,
                "clip_by_norm of slices",
                limit,
                fails.then_some(()).map_or(Ok(expected), Err),
                actual,
            )?;

            let parameter = hard_to_sum::<T>(rng, 0, self.x.len());
            let least = [1e-3, 0.0, 3.0][rng.usize(..3)];
            let of_parameter = self.reduced(&parameter, &|slice| reference::norm(slice, kind));
            let scale = |(&x, &index): (&T, &usize)| {
                let limit = reference::relative(&limit, of_parameter[index], least);
                reference::scale(x, reference::scaling(norms[index], &limit))
            };
            let expected = self.x.iter().zip(&indices).map(scale).collect();
            let parameter = self.device.tensor(&parameter, self.dims)?;
            let actual = x.clip_adaptive(&parameter, limit, self.axes, least).and_then(|y| y.to_vec());
            self.clipped(
                tally,
                "clip_adaptive",
                limit,
                fails.then_some(()).map_or(Ok(expected), Err),
                actual,
            )?;
        }
        Ok(())
    }

    fn clip_by_norm_backward(&self, tally: &mut Tally, rng: &mut fastrand::Rng, n: usize) -> Result<()> {
        let mut g = hard_to_sum::<T>(rng, n / 2, self.x.len());
        // If x is almost all zeros, add one infinity, most likely at a 0.
        if n % SUM_KINDS == 7 && !g.is_empty() {
            g = hard_to_sum::<T>(rng, 0, g.len());
            g[rng.usize(..self.x.len())] = T::from_bits(T::TYPE.layout().max_number());
        }
        let (x, upstream) = (self.tensor()?, self.device.tensor(&g, self.dims)?);
        let norm = reference::norm(self.x, NormKind::L2);
        let slices: Vec<_> = self.slices(self.x).into_iter().zip(self.slices(&g)).collect();
        let (indices, _) = self.outputs();
        let norms = self.reduced(self.x, &|slice| reference::norm(slice, NormKind::L2));
        let is_error = |norm: &T::Norm| !norm.to_f64().is_finite();
        let limits = if self.x.len() > 20_000 { 1 } else { usize::MAX };
        for limit in self.limits(norm, NormKind::L2, rng).into_iter().take(limits) {
            let fails = |wrong: bool| (wrong && limit.nonfinite == NonFinitePolicy::Error).then_some(());
            let by = reference::scaling_backward(self.x, &g, norm, &limit);
            let pairs = || self.x.iter().zip(&g);
            let expected: Vec<_> = pairs().map(|(&x, &g)| reference::scale_backward(x, g, by)).collect();
            let actual = x.clip_by_norm_backward(&upstream, limit, ..).and_then(|gx| gx.to_vec());
            let expected = fails(is_error(&norm)).map_or(Ok(expected), Err);
            self.clipped(tally, "clip_by_norm_backward", limit, expected, actual)?;

            let scaling = |n: usize| {
                let (x, g) = &slices[n];
                reference::scaling_backward(x, g, norms[n], &limit)
            };
            let by = parallel::map(slices.len(), &scaling);
            let gradient =
                |((&x, &g), &index): ((&T, &T), &usize)| reference::scale_backward(x, g, by[index]);
            let expected = pairs().zip(&indices).map(gradient).collect();
            let actual = x.clip_by_norm_backward(&upstream, limit, self.axes).and_then(|gx| gx.to_vec());
            let expected = fails(norms.iter().any(is_error)).map_or(Ok(expected), Err);
            self.clipped(tally, "clip_by_norm_backward of slices", limit, expected, actual)?;
        }
        Ok(())
    }

    fn clipped(
        &self,
        tally: &mut Tally,
        op: &str,
        limit: NormLimit,
        expected: Result<Vec<T>, ()>,
        actual: Result<Vec<T>>,
    ) -> Result<()> {
        let op = format!("{op} ({limit:?})");
        match (expected, actual) {
            (Ok(expected), Ok(actual)) => self.compare(tally, op, &expected, &actual),
            (Err(()), Err(Error::NonFiniteNorm { .. })) => tally.cases += 1,
            (_, Err(error @ Error::Unsupported { .. })) => return Err(error),
            (expected, actual) => {
                let said = [
                    expected.map(drop).map_err(|()| "an error".to_owned()),
                    actual.map(drop).map_err(|e| e.to_string()),
                ];
                self.compare::<T>(tally, format!("{op}: {said:?}"), &[T::ZERO], &[]);
            }
        }
        Ok(())
    }

    fn clip_by_global_norm(&self, tally: &mut Tally, rng: &mut fastrand::Rng) -> Result<()> {
        // Of several types, and of no tensors.
        let halves = hard_to_sum::<f16>(rng, 0, 77);
        let shorts = hard_to_sum::<bf16>(rng, rng.clone().usize(..4), 1_003);
        let kind = NormKind::ALL[rng.usize(..3)];
        let all = [to_f64(self.x), to_f64(&halves), to_f64(&shorts)].concat();
        // For any type: the elements are exact in f64, and the norm is rounded once.
        let norm = nearest::<T>(&all, kind);
        for limit in self.limits(norm, kind, rng) {
            let scaling = reference::scaling(norm, &limit);
            let (mut x, mut h, mut s) = (
                self.tensor()?,
                self.device.tensor(&halves, [7, 11])?,
                self.device.tensor(&shorts, [1_003])?,
            );
            let kept = x.clone();
            let mut list: [&mut dyn AnyTensor; 3] = [&mut x, &mut h, &mut s];
            let done =
                clip_by_global_norm(&mut list, limit).and_then(|norm| norm.to_tensor::<T::Norm>()?.to_vec());
            let fails = limit.nonfinite == NonFinitePolicy::Error && !norm.to_f64().is_finite();
            let op = format!("clip_by_global_norm ({limit:?})");
            match &done {
                Ok(actual) if !fails => self.compare(tally, format!("{op}: the norm"), &[norm], actual),
                Err(Error::NonFiniteNorm { .. }) if fails => {}
                other => self.compare::<T>(tally, format!("{op}: {other:?}"), &[T::ZERO], &[]),
            }
            fn scaled<U: Element, N: Element>(x: &[U], scaling: Scaling<N>) -> Vec<U> {
                x.iter().map(|&x| reference::scale(x, scaling)).collect()
            }
            self.compare(tally, op.clone(), &scaled(self.x, scaling), &x.to_vec()?);
            self.compare(tally, format!("{op}: a clone"), self.x, &kept.to_vec()?);
            self.compare(tally, format!("{op}: f16"), &scaled(&halves, scaling), &h.to_vec()?);
            self.compare(tally, format!("{op}: bf16"), &scaled(&shorts, scaling), &s.to_vec()?);
        }
        Ok(())
    }
}

fn to_f64<T: Element>(elements: &[T]) -> Vec<f64> {
    elements.iter().map(|element| element.to_f64()).collect()
}

/// The norm of f64 numbers, rounded once to the norm type of an element type.
fn nearest<T: Element>(elements: &[f64], kind: NormKind) -> T::Norm {
    match T::Norm::TYPE {
        // All of them are f32.
        ElementType::F32 => {
            let elements: Vec<_> = elements.iter().map(|&element| element as f32).collect();
            T::Norm::from_bits(Element::to_bits(reference::norm(&elements, kind)))
        }
        _ => T::Norm::from_bits(Element::to_bits(reference::norm(elements, kind))),
    }
}
