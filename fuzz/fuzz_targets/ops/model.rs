//! The operations once more, in the plainest way: element by element, by the reference.

use wgclip::op::{MAX_OUTPUTS, Op, Operand};
use wgclip::quantize::QuantRule;
use wgclip::reference::{self, Operands};
use wgclip::{BackwardRule, Error, NeedsGrad, Result};

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

/// Broadcast inputs that are no bounds, in turn.
pub const OTHERS: [f32; 2] = [0.25, -3.0];

/// Parameters, of which an operation takes as many as it has.
pub const PARAMS: [f64; 4] = [1.0 / 6.0, 0.5, 3.0, -0.25];

/// Limits that are values are numbers.
pub fn check_values(limits: &Limits) -> Result<()> {
    for (limit, operand) in limits.iter().zip([Operand::Lo, Operand::Hi]) {
        if matches!(limit, Limit::Value(value) if value.is_nan()) {
            return Err(Error::NanBound { operand: operand.noun() });
        }
    }
    Ok(())
}

/// A broadcast input as each element of x sees it.
struct BroadcastOf {
    operand: Operand,
    values: Vec<Option<f32>>,
    /// Which element of the input that is.
    indices: Vec<usize>,
    /// Shape of the input.
    dims: Vec<usize>,
}

impl BroadcastOf {
    fn new(x: &Array, limit: &Limit, operand: Operand) -> Result<Self> {
        let dims = match limit {
            Limit::Array(array) => array.dims.clone(),
            _ => vec![],
        };
        let Some(indices) = indices(&x.dims, &dims) else {
            let (operand, shape) = (operand.noun(), x.dims.clone());
            return Err(Error::BroadcastMismatch { operand, from: dims, shape });
        };
        let value = |&index: &usize| match limit {
            Limit::Absent => None,
            Limit::Value(value) => Some(*value),
            Limit::Array(array) => Some(array.data[index]),
        };
        Ok(Self { operand, values: indices.iter().map(value).collect(), indices, dims })
    }

    /// Those of an operation.
    fn all(op: Op, x: &Array, limits: &Limits) -> Result<Vec<Self>> {
        let mut others = OTHERS.into_iter().map(Limit::Value);
        let input = |&operand: &Operand| match operand {
            Operand::Lo => Self::new(x, &limits[0], operand),
            Operand::Hi => Self::new(x, &limits[1], operand),
            _ => Self::new(x, &others.next().expect("there are enough"), operand),
        };
        op.info().broadcast.iter().map(input).collect()
    }

    /// Adds up what each element of the input receives.
    fn sums(&self, gradients: &[f32]) -> Array {
        let of = |element| {
            let received = gradients.iter().zip(&self.indices).filter(|(_, index)| **index == element);
            reference::sum(&received.map(|(g, _)| *g).collect::<Vec<_>>())
        };
        Array { dims: self.dims.clone(), data: (0..self.dims.iter().product()).map(of).collect() }
    }
}

/// The element of an input that belongs to each one of x, if the shapes broadcast.
fn indices(x: &[usize], limit: &[usize]) -> Option<Vec<usize>> {
    let missing = x.len().checked_sub(limit.len())?;
    let x_dims = &x[missing..];
    if limit.iter().zip(x_dims).any(|(&len, &of_x)| len != 1 && len != of_x) {
        return None;
    }
    let index = |element: usize| {
        let (mut rest, mut stride, mut index) = (element, 1, 0);
        for (&len, &of_x) in limit.iter().zip(x_dims).rev() {
            index += if len == 1 { 0 } else { rest % of_x * stride };
            rest /= of_x;
            stride *= len;
        }
        index
    };
    Some((0..x.iter().product()).map(index).collect())
}

/// Which outputs of an operation are needed: the gradient of a bound only where `needs` says so.
pub fn needed(op: Op, needs: NeedsGrad) -> [bool; MAX_OUTPUTS] {
    std::array::from_fn(|index| match op.info().outputs.get(index) {
        Some(Operand::Glo) => needs.lo,
        Some(Operand::Ghi) => needs.hi,
        output => output.is_some(),
    })
}

/// What an operation of the list makes: its outputs that are needed, the gradients of broadcast inputs summed to their shapes.
pub fn run(
    op: Op,
    x: &Array,
    g: &Array,
    limits: &Limits,
    rule: BackwardRule,
    needs: NeedsGrad,
) -> Result<Vec<(Operand, Array)>> {
    let info = op.info();
    if info.inputs.contains(&Operand::G) {
        x.check_same(g)?;
    }
    let needed = needed(op, needs);
    let inputs = BroadcastOf::all(op, x, limits)?;
    let of = |output: Operand| inputs.iter().find(|input| output.gradient_of() == Some(input.operand));
    for (_, &output) in info.outputs.iter().enumerate().filter(|(index, _)| needed[*index]) {
        let absent = match output {
            Operand::Glo => matches!(limits[0], Limit::Absent),
            Operand::Ghi => matches!(limits[1], Limit::Absent),
            _ => false,
        };
        if let Some(input) = of(output).filter(|_| absent) {
            return Err(Error::NoBound { operand: input.operand.noun() });
        }
    }
    let (quant, params) = (QuantRule::default(), &PARAMS[..info.params.len()]);
    let evaluate = |i: usize| {
        let g = g.data.get(i).copied().unwrap_or(0.0);
        let broadcast: Vec<_> = inputs.iter().map(|input| input.values[i]).collect();
        let operands =
            Operands { x: x.data[i], g, broadcast: &broadcast, rule, quant, params, index: i as u64 };
        reference::evaluate(op, operands)
    };
    let results: Vec<_> = (0..x.data.len()).map(evaluate).collect();
    let outputs = info.outputs.iter().enumerate().filter(|(index, _)| needed[*index]);
    Ok(outputs
        .map(|(index, &output)| {
            let data: Vec<f32> = results.iter().map(|result| result[index]).collect();
            let array = match of(output) {
                Some(input) => input.sums(&data),
                None => Array { dims: x.dims.clone(), data },
            };
            (output, array)
        })
        .collect())
}

pub fn clip(x: &Array, limits: &Limits) -> Result<Array> {
    let made = run(Op::Clip, x, x, limits, BackwardRule::default(), NeedsGrad::default())?;
    Ok(made.into_iter().next().expect("it has an output").1)
}

pub fn clip_backward(x: &Array, g: &Array, limits: &Limits, rule: BackwardRule) -> Result<Array> {
    let made = run(Op::ClipBackward, x, g, limits, rule, NeedsGrad::default())?;
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
    for (output, array) in run(Op::ClipBackwardBounds, x, g, limits, rule, needs)? {
        let index = match output {
            Operand::Glo => 1,
            Operand::Ghi => 2,
            _ => 0,
        };
        all[index] = Some(array);
    }
    Ok(all)
}
