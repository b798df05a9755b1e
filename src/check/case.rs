//! One comparison for every device, type and operation: what a device returns against what the reference says, at
//! zero tolerance.

use std::fmt;

use crate::{Bound, Bounds, Device, Element, ElementType, Gradient, Result, Tensor, Wanted, reference};

/// An operation of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// [`Tensor::clip`].
    Clip,
    /// [`Tensor::clip_in_place`].
    ClipInPlace,
    /// [`Tensor::clip_saving`], and the backward pass from what it saved.
    ClipSaving(Gradient),
    /// [`Tensor::clip_grad`].
    ClipGrad(Gradient),
    /// [`Tensor::clip_grad_in_place`].
    ClipGradInPlace(Gradient),
    /// [`Tensor::clip_grads`]: the gradients of x and of both bounds.
    BoundGrads(Gradient),
}

impl Op {
    /// The names of all operations, in the order in which they are reported.
    pub const NAMES: [&str; 6] =
        ["clip", "clip_in_place", "clip_saving", "clip_grad", "clip_grad_in_place", "bound_grads"];

    /// The name.
    pub const fn name(self) -> &'static str {
        Self::NAMES[match self {
            Self::Clip => 0,
            Self::ClipInPlace => 1,
            Self::ClipSaving(_) => 2,
            Self::ClipGrad(_) => 3,
            Self::ClipGradInPlace(_) => 4,
            Self::BoundGrads(_) => 5,
        }]
    }

    /// Every operation with every rule.
    pub fn all() -> impl Iterator<Item = Self> {
        let with_rule = [Self::ClipSaving, Self::ClipGrad, Self::ClipGradInPlace, Self::BoundGrads];
        let ruled = with_rule.into_iter().flat_map(|op| Gradient::all().map(op));
        [Self::Clip, Self::ClipInPlace].into_iter().chain(ruled)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Clip | Self::ClipInPlace => Ok(()),
            Self::ClipSaving(rule)
            | Self::ClipGrad(rule)
            | Self::ClipGradInPlace(rule)
            | Self::BoundGrads(rule) => write!(f, " ({rule})"),
        }
    }
}

/// A tensor in host memory.
#[derive(Debug, Clone)]
pub struct Host<T> {
    pub data: Vec<T>,
    pub dims: Vec<usize>,
}

/// The operands of an operation.
#[derive(Debug, Clone)]
pub struct Case<T> {
    pub dims: Vec<usize>,
    pub x: Vec<T>,
    pub g: Vec<T>,
    pub lo: Bound<T, Host<T>>,
    pub hi: Bound<T, Host<T>>,
}

/// The type of [`reference::clip_grads`]: of x, g, lo, hi and the rule.
pub type ClipGrads<T> = fn(T, T, Option<T>, Option<T>, Gradient) -> reference::Grads<T>;

/// What a device is compared with: the reference, or a wrong one to see that the comparison can fail.
#[derive(Debug, Clone, Copy)]
pub struct Oracle<T> {
    /// [`reference::clip`].
    pub clip: fn(T, Option<T>, Option<T>) -> T,
    /// [`reference::clip_grads`].
    pub clip_grads: ClipGrads<T>,
    /// [`reference::sum`].
    pub sum: fn(&[T]) -> T,
}

impl<T: Element> Oracle<T> {
    /// The reference.
    pub const REFERENCE: Self =
        Self { clip: reference::clip, clip_grads: reference::clip_grads, sum: reference::sum };
}

/// The first element of an operation that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The device.
    pub device: String,
    /// The type.
    pub element: ElementType,
    /// The operation, and which of its results.
    pub op: String,
    /// The bounds, and the shape of x.
    pub operands: String,
    /// The element of the result.
    pub index: usize,
    /// The bits of x and g there, where the result has the shape of x.
    pub inputs: Option<[u64; 2]>,
    /// The bits that the reference gives.
    pub expected: u64,
    /// The bits that the device gave.
    pub actual: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, element, op, operands, index, expected, actual, .. } = self;
        write!(f, "{op} of {element} on {device}, {operands}, element {index}")?;
        if let Some([x, g]) = self.inputs {
            write!(f, " (x {x:#x}, g {g:#x})")?;
        }
        write!(f, ": expected {expected:#x}, got {actual:#x}")
    }
}

/// How a comparison went.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Elements compared.
    pub cases: u64,
    /// Elements that differed.
    pub mismatches: u64,
    /// The first of them.
    pub first: Option<Mismatch>,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.mismatches += other.mismatches;
        self.first = self.first.take().or(other.first);
    }
}

/// A result of an operation, by name.
type Named<T> = (&'static str, Vec<T>);

impl<T: Element> Case<T> {
    /// Runs an operation on a device and compares each element of each of its results.
    ///
    /// # Errors
    /// What the device returns.
    pub fn compare(&self, device: &Device, oracle: &Oracle<T>, op: Op) -> Result<Tally> {
        let mut tally = Tally::default();
        for ((name, actual), (_, expected)) in
            self.actual(device, op)?.into_iter().zip(self.expected(oracle, op))
        {
            tally.cases += expected.len() as u64;
            let differ = |(a, e): (&T, &T)| a.to_bits() != e.to_bits();
            let found = actual.iter().zip(&expected).filter(|&pair| differ(pair)).count();
            // A result of another length is as wrong as can be.
            let found = if actual.len() == expected.len() { found } else { expected.len().max(1) };
            tally.mismatches += found as u64;
            if found > 0 && tally.first.is_none() {
                let index = actual.iter().zip(&expected).position(differ).unwrap_or_default();
                let bits = |values: &[T]| values.get(index).map_or(0, |v| v.to_bits());
                tally.first = Some(Mismatch {
                    device: device.info().to_string(),
                    element: T::TYPE,
                    op: format!("{op}, {name}"),
                    operands: self.describe(),
                    index,
                    inputs: (expected.len() == self.x.len()).then(|| [bits(&self.x), bits(&self.g)]),
                    expected: bits(&expected),
                    actual: bits(&actual),
                });
            }
        }
        Ok(tally)
    }

    fn describe(&self) -> String {
        let bound = |bound: &Bound<T, Host<T>>| match bound {
            Bound::Absent => "none".into(),
            Bound::Value(value) => format!("{value:?}"),
            Bound::Tensor(tensor) => format!("a tensor of {:?}", tensor.dims),
        };
        format!("lo {}, hi {}, x of {:?}", bound(&self.lo), bound(&self.hi), self.dims)
    }

    fn actual(&self, device: &Device, op: Op) -> Result<Vec<Named<T>>> {
        let tensor = |data: &[T]| device.tensor(data, &self.dims[..]);
        let mut x = tensor(&self.x)?;
        let mut g = tensor(&self.g)?;
        let bound = |bound: &Bound<T, Host<T>>| match bound {
            Bound::Absent => Ok(Bound::Absent),
            Bound::Value(value) => Ok(Bound::Value(*value)),
            Bound::Tensor(host) => device.tensor(&host.data, &host.dims[..]).map(Bound::Tensor),
        };
        let bounds = Bounds::new(bound(&self.lo)?, bound(&self.hi)?)?;
        // The pool hands these buffers to the results, so an element that is not written shows.
        let poison = vec![T::from_bits(0xdead_beef_dead_beef); self.x.len()];
        drop([tensor(&poison)?, tensor(&poison)?, tensor(&poison)?]);
        let read = |tensor: Tensor<T>| tensor.into_vec();

        Ok(match op {
            Op::Clip => vec![("y", read(x.clip(&bounds)?)?)],
            Op::ClipInPlace => {
                x.clip_in_place(&bounds)?;
                vec![("y", read(x)?)]
            }
            Op::ClipSaving(rule) => {
                let (y, saved) = x.clip_saving(&bounds, rule)?;
                drop((x, bounds));
                let gx = saved.backward(&g)?;
                saved.backward_in_place(&mut g)?;
                vec![("y", read(y)?), ("gx", read(gx)?), ("gx in place", read(g)?)]
            }
            Op::ClipGrad(rule) => vec![("gx", read(x.clip_grad(&g, &bounds, rule)?)?)],
            Op::ClipGradInPlace(rule) => {
                x.clip_grad_in_place(&mut g, &bounds, rule)?;
                vec![("gx", read(g)?)]
            }
            Op::BoundGrads(rule) => {
                let wanted = Wanted { lo: !self.lo.is_absent(), hi: !self.hi.is_absent() };
                let grads = x.clip_grads(&g, &bounds, rule, wanted)?;
                let mut results = vec![("gx", read(grads.x)?)];
                for (name, gradient) in [("glo", grads.lo), ("ghi", grads.hi)] {
                    if let Some(gradient) = gradient {
                        results.push((name, read(gradient)?));
                    }
                }
                results
            }
        })
    }

    fn expected(&self, oracle: &Oracle<T>, op: Op) -> Vec<Named<T>> {
        let at = |bound: &Bound<T, Host<T>>, i: usize| match bound {
            Bound::Absent => None,
            Bound::Value(value) => Some(*value),
            Bound::Tensor(host) => Some(host.data[self.broadcast(host, i)]),
        };
        let each = |f: &dyn Fn(usize, Option<T>, Option<T>) -> T| -> Vec<T> {
            (0..self.x.len()).map(|i| f(i, at(&self.lo, i), at(&self.hi, i))).collect()
        };
        let y = || each(&|i, lo, hi| (oracle.clip)(self.x[i], lo, hi));
        let grads = |i: usize, lo, hi, rule| (oracle.clip_grads)(self.x[i], self.g[i], lo, hi, rule);
        let gx = |rule| each(&|i, lo, hi| grads(i, lo, hi, rule).x);

        match op {
            Op::Clip | Op::ClipInPlace => vec![("y", y())],
            Op::ClipSaving(rule) => {
                let gx = gx(rule);
                vec![("y", y()), ("gx", gx.clone()), ("gx in place", gx)]
            }
            Op::ClipGrad(rule) | Op::ClipGradInPlace(rule) => vec![("gx", gx(rule))],
            Op::BoundGrads(rule) => {
                let mut results = vec![("gx", gx(rule))];
                if !self.lo.is_absent() {
                    let glo = each(&|i, lo, hi| grads(i, lo, hi, rule).lo);
                    results.push(("glo", self.reduce(oracle, &self.lo, &glo)));
                }
                if !self.hi.is_absent() {
                    let ghi = each(&|i, lo, hi| grads(i, lo, hi, rule).hi);
                    results.push(("ghi", self.reduce(oracle, &self.hi, &ghi)));
                }
                results
            }
        }
    }

    /// The element of a bound that belongs to element `i` of x: numpy's rule, dimension by dimension.
    fn broadcast(&self, bound: &Host<T>, i: usize) -> usize {
        let missing = self.dims.len() - bound.dims.len();
        let (mut rest, mut index, mut stride) = (i, 0, 1);
        for d in (0..self.dims.len()).rev() {
            let at = rest % self.dims[d];
            rest /= self.dims[d];
            if d >= missing {
                let len = bound.dims[d - missing];
                index += if len == 1 { 0 } else { at * stride };
                stride *= len;
            }
        }
        index
    }

    /// A gradient at each element of x, summed to the shape of a bound.
    fn reduce(&self, oracle: &Oracle<T>, bound: &Bound<T, Host<T>>, gradient: &[T]) -> Vec<T> {
        let Bound::Tensor(host) = bound else { return vec![(oracle.sum)(gradient)] };
        let mut leaves = vec![Vec::new(); host.data.len()];
        for (i, &g) in gradient.iter().enumerate() {
            leaves[self.broadcast(host, i)].push(g);
        }
        leaves.iter().map(|leaves| (oracle.sum)(leaves)).collect()
    }
}
