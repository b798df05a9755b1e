//! What is clipped.

use wgclip::bounds::BroadcastInputs;
use wgclip::op::{Codes, Op, Operand};
use wgclip::{Bound, Bounds, Element, ElementType, Shape};

/// Elements before the values repeat.
const PERIOD: usize = 1 << 14;

/// Values of which a quarter lie below the [`bounds`], and a quarter above.
pub fn values<T: Element>(len: usize) -> Vec<T> {
    let mut rng = fastrand::Rng::with_seed(7);
    let period: Vec<T> = (0..PERIOD.min(len))
        .map(|_| match T::TYPE.is_float() {
            true => T::from_f64(rng.f64() * 2.0 - 0.5),
            false => T::from_f64(rng.u8(0..120).into()),
        })
        .collect();
    let mut values = Vec::with_capacity(len);
    while values.len() < len {
        values.extend_from_slice(&period[..period.len().min(len - values.len())]);
    }
    values
}

/// From 0 to 1 for floats, from 30 to 90 for integers.
pub fn bounds<T: Element>() -> (T, T) {
    match T::TYPE.is_float() {
        true => (T::ZERO, T::from_f64(1.0)),
        false => (T::from_f64(30.0), T::from_f64(90.0)),
    }
}

/// The broadcast inputs that are no bounds, in turn: the slope beyond them, or the scale and the zero point of codes.
pub(crate) const OTHERS: [f64; 2] = [0.25, 0.0];

/// Those broadcast inputs of an operation, each a value.
pub(crate) fn broadcast<T: Element, B>(op: Op) -> wgclip::Result<BroadcastInputs<B>> {
    let (lo, hi) = bounds::<T>();
    let operands = op.info().broadcast;
    let mut others = OTHERS.iter();
    let given = operands.iter().map(|operand| match operand {
        Operand::Lo => Bound::Value(lo),
        Operand::Hi => Bound::Value(hi),
        _ => others.next().map_or(Bound::Absent, |&number| Bound::Value(T::from_f64(number))),
    });
    let shape = Shape::new([])?;
    match op.info().codes {
        Codes::None | Codes::Both => BroadcastInputs::new(operands, &shape, given),
        _ if T::TYPE == ElementType::F64 => BroadcastInputs::new(operands, &shape, OTHERS.map(Bound::Value)),
        _ => BroadcastInputs::new(operands, &shape, OTHERS.map(|number| Bound::Value(number as f32))),
    }
}

pub(crate) fn between<T: Element>() -> wgclip::Result<Bounds<T>> {
    let (lo, hi) = bounds::<T>();
    Bounds::new(lo, hi)
}
