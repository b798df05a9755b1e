//! The operations once more, in the plainest way: element by element, by the reference.

use wgclip::op::Operand;
use wgclip::reference::{self, Operands};
use wgclip::{BackwardRule, Error, NeedsGrad, Op, Result};

/// Elements in C order.
#[derive(Debug, Clone)]
pub struct Array {
    pub dims: Vec<usize>,
    pub data: Vec<f32>,
}

impl Array {
    pub fn check_same(&self, other: &Self) -> Result<()> {
        if self.dims == other.dims {
            return Ok(());
        }
        Err(Error::ShapeMismatch { left: self.dims.clone(), right: other.dims.clone() })
    }
}

/// One end of the interval.
#[derive(Debug, Clone)]
pub enum Limit {
    Absent,
    Value(f32),
    Array(Array),
}

/// The lower and the upper one.
pub type Limits = [Limit; 2];

const NAMES: [&str; 2] = ["lower", "upper"];

/// Limits that are values are numbers.
pub fn check_values(limits: &Limits) -> Result<()> {
    for (limit, side) in limits.iter().zip(NAMES) {
        if matches!(limit, Limit::Value(value) if value.is_nan()) {
            return Err(Error::NanBound { side });
        }
    }
    Ok(())
}

/// A limit as each element of x sees it.
struct BoundOf {
    values: Vec<Option<f32>>,
    /// Which element of the limit that is.
    places: Vec<usize>,
    /// Shape of the limit.
    dims: Vec<usize>,
}

impl BoundOf {
    fn new(x: &Array, limit: &Limit, side: &'static str) -> Result<Self> {
        let dims = match limit {
            Limit::Array(array) => array.dims.clone(),
            _ => vec![],
        };
        let Some(places) = places(&x.dims, &dims) else {
            return Err(Error::BroadcastMismatch { side, bound: dims, shape: x.dims.clone() });
        };
        let value = |&place: &usize| match limit {
            Limit::Absent => None,
            Limit::Value(value) => Some(*value),
            Limit::Array(array) => Some(array.data[place]),
        };
        Ok(Self { values: places.iter().map(value).collect(), places, dims })
    }

    fn both(x: &Array, limits: &Limits) -> Result<[Self; 2]> {
        Ok([Self::new(x, &limits[0], NAMES[0])?, Self::new(x, &limits[1], NAMES[1])?])
    }

    /// Adds up what each element of the limit receives.
    fn sums(&self, gradients: &[f32]) -> Array {
        let of = |element| {
            let received = gradients.iter().zip(&self.places).filter(|(_, place)| **place == element);
            reference::sum(&received.map(|(g, _)| *g).collect::<Vec<_>>())
        };
        Array { dims: self.dims.clone(), data: (0..self.dims.iter().product()).map(of).collect() }
    }
}

/// The element of a limit that belongs to each one of x, if the shapes broadcast.
fn places(x: &[usize], limit: &[usize]) -> Option<Vec<usize>> {
    let missing = x.len().checked_sub(limit.len())?;
    let x_dims = &x[missing..];
    if limit.iter().zip(x_dims).any(|(&len, &of_x)| len != 1 && len != of_x) {
        return None;
    }
    let place = |element: usize| {
        let (mut rest, mut stride, mut place) = (element, 1, 0);
        for (&len, &of_x) in limit.iter().zip(x_dims).rev() {
            place += if len == 1 { 0 } else { rest % of_x * stride };
            rest /= of_x;
            stride *= len;
        }
        place
    };
    Some((0..x.iter().product()).map(place).collect())
}

/// Which outputs of an operation are wanted: the gradient of a bound only where it is needed.
pub fn wanted(op: Op, needs: NeedsGrad) -> [bool; 3] {
    [0, 1, 2].map(|place: usize| match op.info().outputs.get(place) {
        Some(Operand::Glo) => needs.lo,
        Some(Operand::Ghi) => needs.hi,
        output => output.is_some(),
    })
}

/// What an operation of the list makes: its outputs that are wanted, the gradients of limits summed to their shapes.
pub fn run(
    op: Op,
    x: &Array,
    g: &Array,
    limits: &Limits,
    rule: BackwardRule,
    scalars: [f64; 2],
    needs: NeedsGrad,
) -> Result<Vec<(Operand, Array)>> {
    let info = op.info();
    if info.inputs.contains(&Operand::G) {
        x.check_same(g)?;
    }
    let absent = [Limit::Absent, Limit::Absent];
    let limits = if info.bounds { limits } else { &absent };
    let wanted = wanted(op, needs);
    let both = BoundOf::both(x, limits)?;
    for (_, output) in info.outputs.iter().enumerate().filter(|(place, _)| wanted[*place]) {
        let side = match output {
            Operand::Glo => 0,
            Operand::Ghi => 1,
            _ => continue,
        };
        if matches!(limits[side], Limit::Absent) {
            return Err(Error::NoBound { side: NAMES[side] });
        }
    }
    let [lo, hi] = &both;
    let evaluate = |i: usize| {
        let g = g.data.get(i).copied().unwrap_or(0.0);
        let operands = Operands { x: x.data[i], g, lo: lo.values[i], hi: hi.values[i], rule, scalars };
        reference::evaluate(op, operands)
    };
    let results: Vec<_> = (0..x.data.len()).map(evaluate).collect();
    let outputs = info.outputs.iter().enumerate().filter(|(place, _)| wanted[*place]);
    Ok(outputs
        .map(|(place, &output)| {
            let data: Vec<f32> = results.iter().map(|result| result[place]).collect();
            let array = match output {
                Operand::Glo => lo.sums(&data),
                Operand::Ghi => hi.sums(&data),
                _ => Array { dims: x.dims.clone(), data },
            };
            (output, array)
        })
        .collect())
}

pub fn clip(x: &Array, limits: &Limits) -> Result<Array> {
    let made = run(Op::Clip, x, x, limits, BackwardRule::default(), [0.0; 2], NeedsGrad::default())?;
    Ok(made.into_iter().next().expect("it has an output").1)
}

pub fn clip_backward(x: &Array, g: &Array, limits: &Limits, rule: BackwardRule) -> Result<Array> {
    let made = run(Op::ClipBackward, x, g, limits, rule, [0.0; 2], NeedsGrad::default())?;
    Ok(made.into_iter().next().expect("it has an output").1)
}

pub fn hard_sigmoid(x: &Array) -> Array {
    let one = |&x: &f32| reference::clip(reference::affine(x, 1.0 / 6.0, 0.5), Some(0.0), Some(1.0));
    Array { dims: x.dims.clone(), data: x.data.iter().map(one).collect() }
}

/// What x receives, and each limit that needs a gradient.
pub fn clip_backward_bounds(
    x: &Array,
    g: &Array,
    limits: &Limits,
    rule: BackwardRule,
    needs: NeedsGrad,
) -> Result<[Option<Array>; 3]> {
    let mut all = [None, None, None];
    for (output, array) in run(Op::ClipBackwardBounds, x, g, limits, rule, [0.0; 2], needs)? {
        let place = match output {
            Operand::Glo => 1,
            Operand::Ghi => 2,
            _ => 0,
        };
        all[place] = Some(array);
    }
    Ok(all)
}
