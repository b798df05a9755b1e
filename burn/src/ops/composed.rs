//! The same composed of Burn's own operations, for backends on which the kernels do not run. The values are those of the kernels and
//! of the rule; NaN payloads and the sign of zero depend on the backend.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, Scalar, TensorMetadata};
use burn::tensor::{BoolDType, Shape};
use wgclip::op::{MAX_OUTPUTS, Op};
use wgclip::{BackwardRule, NanRule, OutsideRule, TieRule};

use super::{
    Bound, BoundMetadata, Broadcast, BroadcastMetadata, Call, Optional, OptionalMetadata, Outputs,
    OutputsMetadata,
};

/// The outputs of an operation.
pub(super) fn outputs_metadata(
    x: &TensorSpec,
    _: &OptionalMetadata,
    broadcast: &BroadcastMetadata,
    call: &Call,
) -> OutputsMetadata {
    let inputs = [&broadcast.first, &broadcast.second, &broadcast.third, &broadcast.fourth];
    let mut outputs = [const { OptionalMetadata::None }; MAX_OUTPUTS];
    for (index, of) in call.outputs() {
        outputs[index] = OptionalMetadata::Some(match of.map(|of| inputs[of]) {
            None => TensorSpec::new(x.shape.clone(), call.to(x.dtype)),
            Some(BoundMetadata::Tensor(spec)) => spec.clone(),
            Some(_) => TensorSpec::new(Shape::new([1]), x.dtype),
        });
    }
    let [first, second, third, fourth] = outputs;
    OutputsMetadata { first, second, third, fourth }
}

/// Whether an operation is composed here.
pub(crate) fn has(op: Op) -> bool {
    matches!(op, Op::Clip | Op::ClipBackward | Op::ClipBackwardBounds)
}

/// An operation that is composed here.
pub(super) fn run<B: Backend>(
    x: FloatTensor<B>,
    g: Optional<B>,
    broadcast: Broadcast<B>,
    call: &Call,
) -> Outputs<B> {
    let [lo, hi, ..] = broadcast.into_array();
    let [of_x, of_lo, of_hi, _] = call.needs;
    match (call.op, g) {
        (Op::Clip, _) => Outputs::new([Some(clip::<B>(x, &lo, &hi)), None, None, None]),
        (Op::ClipBackward | Op::ClipBackwardBounds, Optional::Some(g)) => {
            let [x, lo, hi] = clip_backward::<B>(x, g, &lo, &hi, call.rule, [of_x, of_lo, of_hi]);
            Outputs::new([x, lo, hi, None])
        }
        (op, _) => panic!("wgclip: {op} is composed of none of Burn's operations"),
    }
}

/// A bound for each element of x, or a value for all of them.
enum Wide<B: Backend> {
    Absent,
    Value(Scalar),
    Tensor(FloatTensor<B>),
}

impl<B: Backend> Clone for Wide<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Absent => Self::Absent,
            Self::Value(value) => Self::Value(*value),
            Self::Tensor(tensor) => Self::Tensor(tensor.clone()),
        }
    }
}

impl<B: Backend> Wide<B> {
    fn new(bound: &Bound<B>, x: &FloatTensor<B>) -> Self {
        match bound {
            Bound::Absent => Self::Absent,
            Bound::Value(value) => Self::Value((*value).into()),
            Bound::Tensor(tensor) => {
                let (dims, needs) = (tensor.shape(), x.shape());
                let mut filled = vec![1; needs.num_dims() - dims.num_dims()];
                filled.extend(dims.iter().copied());
                let tensor = B::float_reshape(tensor.clone(), Shape::from(filled));
                Self::Tensor(B::float_expand(tensor, needs))
            }
        }
    }
}

/// The comparison of elements with a bound.
struct Side<B: Backend> {
    /// Where the bound supplies the output.
    beyond: BoolTensor<B>,
    ties: BoolTensor<B>,
}

const BOOL: BoolDType = BoolDType::Native;

fn compare<B: Backend>(t: &FloatTensor<B>, bound: &Wide<B>, upper: bool) -> Option<Side<B>> {
    let t = || t.clone();
    Some(match bound {
        Wide::Absent => return None,
        Wide::Value(value) => Side {
            beyond: match upper {
                true => B::float_greater_elem(t(), *value, BOOL),
                false => B::float_lower_elem(t(), *value, BOOL),
            },
            ties: B::float_equal_elem(t(), *value, BOOL),
        },
        Wide::Tensor(bound) => {
            let bound = || bound.clone();
            let beyond = match upper {
                true => B::float_greater(t(), bound(), BOOL),
                false => B::float_lower(t(), bound(), BOOL),
            };
            // The first NaN is the output.
            let is_number = B::bool_not(B::float_is_nan(t(), BOOL));
            let from_nan = B::bool_and(B::float_is_nan(bound(), BOOL), is_number);
            Side { beyond: B::bool_or(beyond, from_nan), ties: B::float_equal(t(), bound(), BOOL) }
        }
    })
}

fn replace<B: Backend>(t: FloatTensor<B>, place: BoolTensor<B>, bound: &Wide<B>) -> FloatTensor<B> {
    match bound {
        Wide::Absent => t,
        Wide::Value(value) => B::float_mask_fill(t, place, *value),
        Wide::Tensor(bound) => B::float_mask_where(t, place, bound.clone()),
    }
}

/// `min(max(x, lo), hi)`.
pub fn clip<B: Backend>(x: FloatTensor<B>, lo: &Bound<B>, hi: &Bound<B>) -> FloatTensor<B> {
    let (lo, hi) = (Wide::new(lo, &x), Wide::new(hi, &x));
    let mut t = x;
    for (bound, upper) in [(lo, false), (hi, true)] {
        if let Some(side) = compare(&t, &bound, upper) {
            t = replace(t, side.beyond, &bound);
        }
    }
    t
}

/// The gradients of x and its bounds, as they are needed, for the upstream gradient `g`: those of `wgclip::reference::clip_backward_bounds`, except that
/// gradients of bounds are summed by the backend.
pub fn clip_backward<B: Backend>(
    x: FloatTensor<B>,
    g: FloatTensor<B>,
    lo: &Bound<B>,
    hi: &Bound<B>,
    rule: BackwardRule,
    needs: [bool; 3],
) -> [Option<FloatTensor<B>>; 3] {
    let (wide_lo, wide_hi) = (Wide::new(lo, &x), Wide::new(hi, &x));
    let at_lo = compare(&x, &wide_lo, false);
    let t = match &at_lo {
        Some(side) => replace(x.clone(), side.beyond.clone(), &wide_lo),
        None => x.clone(),
    };
    let at_hi = compare(&t, &wide_hi, true);
    // Where x is NaN: its gradient depends on the rule.
    let nan = B::float_is_nan(x.clone(), BOOL);
    let zero = |g: FloatTensor<B>, place: BoolTensor<B>| B::float_mask_fill(g, place, 0.0.into());

    // Back through one comparison: the gradient that passes, and the bound's.
    let split = |g: &FloatTensor<B>, side: &Option<Side<B>>| -> (FloatTensor<B>, FloatTensor<B>) {
        let Some(Side { beyond, ties }) = side else { return (g.clone(), zero_like::<B>(g)) };
        let to_bound = keep::<B>(g.clone(), beyond.clone());
        let passes = zero(g.clone(), beyond.clone());
        match rule.ties {
            TieRule::Inclusive => (passes, to_bound),
            TieRule::Exclusive => {
                let tied = B::bool_or(beyond.clone(), ties.clone());
                (zero(g.clone(), tied.clone()), keep::<B>(g.clone(), tied))
            }
            TieRule::Half => {
                let half = B::float_mul_scalar(g.clone(), 0.5.into());
                (
                    B::float_mask_where(passes, ties.clone(), half.clone()),
                    B::float_mask_where(to_bound, ties.clone(), half),
                )
            }
        }
    };
    let (to_t, to_hi) = split(&g, &at_hi);
    let (mut gx, to_lo) = split(&to_t, &at_lo);
    if rule.outside == OutsideRule::Toward {
        // Where the step moves x back: down from above hi, up from below lo.
        let mut toward_t = to_t;
        if let Some(side) = &at_hi {
            let down = B::float_greater_elem(g.clone(), 0.0.into(), BOOL);
            let back = B::bool_and(side.beyond.clone(), down);
            toward_t = B::float_mask_where(toward_t, back, g.clone());
        }
        gx = split(&toward_t, &at_lo).0;
        if let Some(side) = &at_lo {
            let up = B::float_lower_elem(toward_t.clone(), 0.0.into(), BOOL);
            let back = B::bool_and(side.beyond.clone(), up);
            gx = B::float_mask_where(gx, back, toward_t);
        }
    }
    // Where the output is a NaN of a bound, x receives no gradient, unless the rule is straight through.
    for bound in [&wide_lo, &wide_hi] {
        if let Wide::Tensor(bound) = bound {
            gx = zero(gx, B::float_is_nan(bound.clone(), BOOL));
        }
    }
    gx = match (rule.outside, rule.nan) {
        (OutsideRule::StraightThrough, _) => g,
        (_, NanRule::Pass) => B::float_mask_where(gx, nan, g),
        (_, NanRule::Zero) => zero(gx, nan),
    };
    let of_bound = |bound: &Bound<B>, gradient: FloatTensor<B>, needs: bool| match bound {
        Bound::Absent => None,
        Bound::Value(_) => needs.then(|| sum_to::<B>(gradient, Shape::new([1]))),
        Bound::Tensor(bound) => needs.then(|| sum_to::<B>(gradient, bound.shape())),
    };
    let [of_x, of_lo, of_hi] = needs;
    [of_x.then_some(gx), of_bound(lo, to_lo, of_lo), of_bound(hi, to_hi, of_hi)]
}

fn zero_like<B: Backend>(g: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_zeros(g.shape(), &g.device(), g.dtype().into())
}

fn keep<B: Backend>(g: FloatTensor<B>, place: BoolTensor<B>) -> FloatTensor<B> {
    B::float_mask_where(zero_like::<B>(&g), place, g)
}

/// Sums over the elements that a bound of this shape broadcasts to.
fn sum_to<B: Backend>(mut gradient: FloatTensor<B>, shape: Shape) -> FloatTensor<B> {
    let dims = gradient.shape();
    let missing = dims.num_dims() - shape.num_dims();
    for (d, &len) in dims.iter().enumerate() {
        if len != 1 && (d < missing || shape[d - missing] == 1) {
            gradient = B::float_sum_dim(gradient, d);
        }
    }
    B::float_reshape(gradient, shape)
}
